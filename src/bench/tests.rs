//! What a suite's file may say, and when two results differ.

mod archive;
mod report;
mod validate;

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    Cell, Cold, Environment, Memory, Outcome, Place, Results, Scenario, Served, State, Suite, VERSION,
    Varied, Verdict, compare,
};
use crate::domain::{BackendKind, Digest};

const SUITE: &str = r#"name = "small"
about = "two models"
budget = "10s"

[[model]]
name = "one"
inputs = "one.json"

[[model]]
name = "two"
inputs = "two.json"
tolerance = 1e-2

[limits]
samples_min = 5

[matrix]
browser = ["native", "firefox"]
backend = ["ort-cpu", "wasm", "webgpu"]
scenario = ["single_stream", "offline"]

[[exclude]]
model = ["two"]
backend = ["webgpu"]
reason = "it is known to be wrong"
"#;

#[test]
fn a_matrix_has_what_fits_together() {
    let suite = Suite::parse("small.toml", SUITE).unwrap();
    let told: Vec<_> = suite
        .cells
        .iter()
        .map(|cell| {
            let excluded = if cell.excluded.is_some() { " excluded" } else { "" };
            let name = &suite.models[cell.model].name;
            format!("{name} {}/{} {}{excluded}", cell.browser, cell.backend, cell.scenario.name())
        })
        .collect();
    let of = |model: &str, wrong: &str| {
        let lanes = [("native/ort-cpu", ""), ("firefox/wasm", ""), ("firefox/webgpu", wrong)];
        lanes.map(|(lane, excluded)| {
            ["single_stream", "offline"].map(|scenario| format!("{model} {lane} {scenario}{excluded}"))
        })
    };
    let wanted: Vec<_> = of("one", "").into_iter().chain(of("two", " excluded")).flatten().collect();
    assert_eq!(told, wanted);
    assert_eq!((suite.limits.samples_min, suite.limits.warm_up), (5, 5));
    assert!((suite.models[0].tolerance - 1e-3).abs() < 1e-12);
}

#[test]
fn what_is_wrong_in_a_suite_is_named_with_its_line() {
    let cases: [(&str, &str, usize, &str); 16] = [
        ("name = \"small\"", "name = \"sm all\"", 1, "a suite's name has"),
        ("about = ", "abuot = ", 2, "unknown field `abuot`"),
        ("budget = \"10s\"", "budget = \"soon\"", 3, "expected number"),
        ("budget = \"10s\"", "budget = \"2h\"", 3, "at most an hour"),
        ("name = \"two\"", "name = \"one\"", 10, "in the suite already"),
        ("tolerance = 1e-2", "tolerance = 2.0", 12, "a tolerance is between 0 and 1"),
        ("samples_min = 5", "samples_min = 5000", 14, "samples_min is at least 2"),
        ("samples_min = 5", "samples_min = 5\nspread = 1.5", 14, "spread is between 0 and 1"),
        ("samples_min = 5", "samples_min = 5\ntime = \"0s\"", 14, "time is more than 0"),
        ("samples_min = 5", "samples = 5", 15, "unknown field `samples`"),
        ("[\"native\", \"firefox\"]", "[\"lynx\"]\nbackend = [\"ort-cpu\"]", 20, "duplicate key"),
        ("backend = [\"ort-cpu\", \"wasm\", \"webgpu\"]", "backend = [\"cuda\"]", 19, "cuda"),
        (
            "scenario = [\"single_stream\", \"offline\"]",
            "scenario = [\"serial\"]",
            20,
            "unknown variant `serial`",
        ),
        (
            "scenario = [\"single_stream\", \"offline\"]",
            "scenario = []",
            17,
            "no cell that would be measured",
        ),
        ("[\"native\", \"firefox\"]", "[\"firefox\", \"firefox\"]", 17, "twice"),
        ("model = [\"two\"]", "model = [\"three\"]", 23, "no model of the suite"),
    ];
    for (before, after, line, message) in cases {
        let text = SUITE.replacen(before, after, 1);
        assert_ne!(text, SUITE, "{after}");
        let error = Suite::parse("small.toml", &text).expect_err(after);
        assert!(error.message.contains(message), "{after}: {error}");
        assert_eq!(error.line, line, "{after}: {error}");
    }
}

#[test]
fn a_model_may_be_a_part_and_one_that_is_not_measured_needs_no_inputs() {
    let text =
        SUITE.replacen("name = \"one\"", "name = \"one-encoder\"\npart = \"encoder\"\nseeded = true", 1);
    let suite = Suite::parse("small.toml", &text).unwrap();
    let (one, two) = (&suite.models[0], &suite.models[1]);
    assert_eq!((one.brought_as(), one.seeded), ("one", true));
    assert_eq!((two.brought_as(), two.seeded), ("two", false));
    let misnamed = Suite::parse("small.toml", &text.replace("one-encoder", "one")).unwrap_err();
    assert_eq!(
        (misnamed.line, misnamed.message.as_str()),
        (7, "a model that is a part is called NAME-encoder")
    );

    let text = SUITE.replacen("inputs = \"two.json\"\n", "", 1);
    let unasked = Suite::parse("small.toml", &text).unwrap_err();
    assert!(unasked.message.contains("a model that is measured has `inputs`"), "{unasked}");
    let left_out = text.replacen("model = [\"two\"]\nbackend = [\"webgpu\"]", "model = [\"two\"]", 1);
    assert_eq!(Suite::parse("small.toml", &left_out).unwrap().models[1].inputs, None);
}

#[test]
fn a_library_is_lent_for_what_the_matrix_has() {
    let lent = |path: &str, providers: &str| {
        let library =
            format!("[library.x]\npath = \"{path}\"\nproviders = {providers}\ninstall = \"make it\"\n");
        let text = SUITE.replacen("\"ort-cpu\"", "\"ort-cpu\", \"ort-qnn\"", 1) + &library;
        Suite::parse("small.toml", &text)
    };
    let suite = lent("{cache}/x/y.so", "[\"qnn\"]").unwrap();
    let library = &suite.libraries["x"];
    assert_eq!(library.at("/c".as_ref()), std::path::PathBuf::from("/c/x/y.so"));
    assert!(library.has(&"ort-qnn".parse().unwrap()) && !library.has(&BackendKind::ort_cpu()));
    let cases = [
        ("y.so", "[\"qnn\"]", "a library's path is absolute"),
        ("/y.so", "[]", "at least one provider"),
        ("/y.so", "[\"cuda\"]", "does not have the backend `ort-cuda`"),
    ];
    for (path, providers, said) in cases {
        let error = lent(path, providers).expect_err(said);
        assert!(error.message.contains(said), "{error}");
    }
}

/// The suite with this scenario, and what is said of it.
fn with(scenario: &str, table: &str) -> String {
    let text = SUITE.replacen("[\"single_stream\", \"offline\"]", &format!("[{scenario}]"), 1);
    format!("{text}\n{table}")
}

#[test]
fn a_server_has_a_cell_for_each_rate() {
    let text = with("\"server\", \"offline\"", "[scenario.server]\nrate = [5, 0.5]\nwithin = \"20ms\"\n");
    let suite = Suite::parse("small.toml", &text.replace("budget = \"10s\"", "budget = \"1m\"")).unwrap();
    let told: Vec<_> = suite.cells[..3].iter().map(|cell| cell.varied.of(cell.scenario)).collect();
    assert_eq!(told, ["server 5/s", "server 0.5/s", "offline"]);
    assert_eq!(suite.scenarios.server.unwrap().within, Some(std::time::Duration::from_millis(20)));
}

#[test]
fn a_cold_start_has_a_cell_for_each_beginning_and_natively_no_browser() {
    let cases = [
        ("", vec!["cold_start session", "cold_start browser", "cold_start session"]),
        ("[scenario.cold_start]\nstart = [\"browser\"]", vec!["cold_start browser"]),
    ];
    for (table, wanted) in cases {
        let text = with("\"cold_start\"", table).replace(", \"webgpu\"", "");
        let suite = Suite::parse("small.toml", &text).unwrap();
        let cells = suite.cells.iter().filter(|cell| cell.model == 0);
        let told: Vec<_> = cells.map(|cell| cell.varied.of(cell.scenario)).collect();
        assert_eq!(told, wanted, "{table}");
        assert_eq!(suite.scenarios.cold_start.samples, 9, "{table}");
    }
}

#[test]
fn what_is_wrong_in_a_scenario_is_named_with_its_line() {
    let cases = [
        ("\"cold_start\"", "[scenario.cold_start]\nsamples = 1", 28, "samples are 2 to 1000"),
        ("\"cold_start\"", "[scenario.cold_start]\nsamples = -3", 28, "invalid value"),
        ("\"cold_start\"", "[scenario.cold_start]\nstart = []", 28, "\"browser\", \"session\" or both"),
        ("\"cold_start\"", "[scenario.cold_start]\nstart = [\"page\"]", 28, "unknown variant `page`"),
        (
            "\"cold_start\"",
            "[scenario.cold_start]\nstart = [\"browser\", \"browser\"]",
            28,
            "\"browser\", \"session\" or both",
        ),
        ("\"offline\"", "[scenario.cold_start]", 27, "does not have the scenario `cold_start`"),
        ("\"soak\"", "", 20, "needs [scenario.soak] with its `time`"),
        ("\"offline\"", "[scenario.soak]\ntime = \"5s\"", 27, "does not have the scenario `soak`"),
        ("\"soak\"", "[scenario.soak]\ntime = \"0s\"", 28, "time is more than 0"),
        ("\"soak\"", "[scenario.soak]\ntime = \"10s\"", 28, "less than the budget"),
        ("\"soak\"", "[scenario.soak]\ntime = \"9s\"", 28, "at least 10 times every"),
        ("\"soak\"", "[scenario.soak]\ntime = \"9s\"\nevery = \"1ms\"", 29, "at least 100 ms"),
        ("\"soak\"", "[scenario.soak]\nevery = \"1s\"", 27, "missing field `time`"),
    ];
    for (scenario, table, line, message) in cases {
        let error = Suite::parse("small.toml", &with(scenario, table)).expect_err(table);
        assert!(error.message.contains(message), "{table}: {error}");
        assert_eq!(error.line, line, "{table}: {error}");
    }
    let text = with("\"concurrent\"", "");
    let (head, rest) = text.split_once("[[model]]\nname = \"two\"").unwrap();
    let rest = rest.split_once("[limits]").unwrap().1.replace("model = [\"two\"]", "model = [\"one\"]");
    let error = Suite::parse("small.toml", &format!("{head}[limits]{rest}")).expect_err("one model");
    assert!(error.message.contains("`concurrent` needs a second model"), "{error}");
}

/// The suite with this in its matrix, and what is said of it.
fn varied(matrix: &str, tables: &str) -> String {
    let text =
        SUITE.replacen("[\"single_stream\", \"offline\"]", &format!("[\"single_stream\"]\n{matrix}"), 1);
    format!("{text}\n{tables}")
}

const HALVES: &str = "[plan.halves.split]\nlanes = [\"chromium-1/wasm\", \"firefox-1/wasm\"]\n";

#[test]
fn a_matrix_varies_batches_precisions_and_plans() {
    let matrix = "batch = [1, 4]\nprecision = [\"fp32\", \"int8\"]\nplan = [\"single\", \"halves\"]";
    let text = varied(matrix, &format!("[precision.int8]\ntolerance = 0.01\n{HALVES}"));
    let text = text
        .replace(", \"firefox\"]", "]")
        .replace("[[exclude]]", "[[exclude]]\nbatch = [4]\nprecision = [\"int8\"]");
    let suite = Suite::parse("small.toml", &text.replace("backend = [\"webgpu\"]\n", "")).unwrap();
    let told: Vec<_> = suite
        .cells
        .iter()
        .map(|cell| {
            let excluded = if cell.excluded.is_some() { " excluded" } else { "" };
            format!("{}/{} {}{excluded}", cell.browser, cell.backend, cell.varied.of(cell.scenario))
        })
        .collect();
    let of = |lane: &str, plan: &str, excluded: &str| {
        let ways = ["batch 1 fp32", "batch 4 fp32", "batch 1 int8"].map(str::to_owned);
        let ways = ways.into_iter().map(|way| format!("{lane} single_stream {way} plan {plan}"));
        let last = format!("{lane} single_stream batch 4 int8 plan {plan}{excluded}");
        ways.chain([last]).collect::<Vec<_>>()
    };
    let model = |excluded| {
        [of("native/ort-cpu", "single", excluded), of("firefox/wasm", "halves", excluded)].concat()
    };
    assert_eq!(told, [model(""), model(" excluded")].concat());
    assert_eq!(suite.browsers().into_iter().collect::<Vec<_>>(), ["chromium", "firefox", "native"]);
    assert_eq!(suite.precisions["int8"].convert, "int8");
}

#[test]
fn a_matrix_varies_threads() {
    let text = varied("threads = [2, 1]", "").replace("backend = [\"webgpu\"]\n", "threads = [1]\n");
    let suite = Suite::parse("small.toml", &text).unwrap();
    let asked: Vec<_> = suite.cells[..2].iter().map(|cell| cell.varied.of(cell.scenario)).collect();
    assert_eq!(asked, ["single_stream threads 2", "single_stream threads 1"]);
    let excluded = suite.cells.iter().filter(|cell| cell.excluded.is_some());
    assert_eq!((suite.cells.len(), excluded.count()), (12, 3));
    assert_eq!(suite.threads().into_iter().collect::<Vec<_>>(), [Some(1), Some(2)]);
    let error =
        Suite::parse("small.toml", &text.replace("threads = [1]", "threads = [3]")).expect_err("three");
    assert!(error.message.contains("the matrix does not have this number of threads"), "{error}");
}

#[test]
fn what_is_wrong_in_a_dimension_is_named_with_its_line() {
    let int8 = "[precision.int8]\ntolerance = 0.01";
    let cases = [
        ("batch = []", "", 21, "there is at least one batch"),
        ("batch = [0]", "", 21, "a batch is 1 to 1024; 0 is not"),
        ("batch = [4096]", "", 21, "4096 is not"),
        ("batch = [-1]", "", 21, "invalid value"),
        ("batch = [2, 2]", "", 21, "this batch is there twice"),
        ("precision = []", "", 21, "precision names at least one"),
        ("precision = [\"int8\"]", "", 21, "needs [precision.int8] with its `tolerance`"),
        ("precision = [\"fp32\", \"fp32\"]", "", 21, "this precision is there twice"),
        ("precision = [\"fp32\"]", int8, 28, "the matrix has no precision `int8`"),
        ("precision = [\"int8\"]", "[precision.int8]\ntolerance = 2", 29, "a tolerance is between 0 and 1"),
        ("precision = [\"int9\"]", "[precision.int9]\ntolerance = 0.1", 21, "int9"),
        ("precision = [\"q\"]", "[precision.q]\ntolerance = 0.1\nconvert = \"int9\"", 30, "int9"),
        ("precision = [\"int8\"]", "[precision.int8]\ntolerence = 0.1", 29, "unknown field `tolerence`"),
        ("plan = [\"halves\"]", "", 21, "the plan `halves` needs [plan.halves]"),
        ("plan = []", "", 21, "plan names at least one"),
        ("plan = [\"single\"]", HALVES, 28, "the matrix has no plan `halves`"),
        ("plan = [\"halves\"]", "[plan.halves]\nstrategy = \"even\"", 28, "either `split` or `stages`"),
        ("plan = [\"halves\"]", "[plan.halves.split]\nstages = 2", 28, "names the `lanes`"),
        ("threads = []", "", 21, "there is at least one number of threads"),
        ("threads = [1, 0]", "", 21, "a number of threads is 1 to 1024; 0 is not"),
        ("threads = [2, 2]", "", 21, "this number of threads is there twice"),
        ("threads = [1]\nplan = [\"single\"]", "", 21, "threads do not go with plans"),
    ];
    for (matrix, tables, line, message) in cases {
        let text = varied(matrix, tables);
        let error = Suite::parse("small.toml", &text).expect_err(&text);
        assert!(error.message.contains(message), "{matrix} {tables}: {error}");
        assert_eq!(error.line, line, "{matrix} {tables}: {error}");
    }
    let excluded = SUITE.replace("model = [\"two\"]", "plan = [\"halves\"]");
    let error = Suite::parse("small.toml", &excluded).expect_err("a plan");
    assert!(error.message.contains("the matrix does not have this plan"), "{error}");
    let variants =
        SUITE.replace("inputs = \"two.json\"", "inputs = \"two.json\"\nvariants = { int8 = \"three\" }");
    let error = Suite::parse("small.toml", &variants).expect_err("a variant");
    assert!(error.message.contains("the matrix has no precision `int8`") && error.line == 12, "{error}");
    let text = varied("plan = [\"halves\"]", HALVES).replace("[\"single_stream\"]", "[\"cold_start\"]");
    let error = Suite::parse("small.toml", &text).expect_err("no scenario for it");
    assert!(error.message.contains("plans go with single_stream"), "{error}");
}

#[test]
fn memory_that_grows_has_a_slope_and_what_nothing_tells_has_none() {
    let memory = |count: u32, step: u64| -> Vec<Memory> {
        let point = |at: u32| Memory {
            at_us: f64::from(at) * 60e6,
            wasm_bytes: Some(1000 + step * u64::from(at)),
            gpu_bytes: None,
            browser_bytes: (at > 0).then_some(5),
        };
        (0..count).map(point).collect()
    };
    let cases = [("it grows", 20, 10, Some(600.0)), ("it stays", 20, 0, Some(0.0)), ("too few", 7, 10, None)];
    for (case, count, step, wanted) in cases {
        let mut cell = cell("firefox", around(100.0, 30));
        cell.memory = memory(count, step);
        let growth = cell.growth().unwrap();
        let found = growth.wasm_bytes;
        assert_eq!(found.is_some(), wanted.is_some(), "{case}: {found:?}");
        for (found, wanted) in found.into_iter().zip(wanted) {
            for bound in [found.value, found.low, found.high] {
                assert!((bound - wanted).abs() < 1e-6, "{case}: {found:?}");
            }
        }
        assert!(growth.gpu_bytes.is_none() && growth.browser_bytes.is_none(), "{case}: {growth:?}");
    }
    assert!(cell("firefox", Vec::new()).growth().is_none());
}

#[test]
fn parts_of_a_cold_start_are_told_where_all_starts_tell_them() {
    let mut cell = cell("firefox", vec![1.0; 3]);
    let cold = |launch, first| Cold { launch_us: launch, first_us: Some(first), ..Cold::default() };
    cell.cold = vec![cold(Some(5.0), 3.0), cold(Some(7.0), 1.0), cold(Some(6.0), 2.0)];
    assert_eq!(cell.cold_parts(), [("launch", 6.0), ("first answer", 2.0)]);
    cell.cold[1].launch_us = None;
    assert_eq!(cell.cold_parts(), [("first answer", 2.0)]);
    let whole = Cold {
        page_us: Some(1.0),
        lane_us: Some(9.0),
        import_us: Some(2.0),
        init_us: Some(4.0),
        load_us: Some(7.0),
        create_us: Some(8.0),
        ..Cold::default()
    };
    cell.cold = vec![whole; 3];
    let wanted = [
        ("page", 1.0),
        ("import", 2.0),
        ("compile", 4.0),
        ("rest of the lane", 3.0),
        ("create", 8.0),
        // By two clocks a part may be longer than the whole.
        ("rest of the load", 0.0),
    ];
    assert_eq!(cell.cold_parts(), wanted);
    cell.cold.clear();
    assert_eq!(cell.cold_parts(), []);
}

#[test]
fn what_is_wrong_in_a_server_is_named_with_its_line() {
    let cases = [
        ("\"server\"", "", 20, "needs [scenario.server] with its `rate`"),
        (
            "\"offline\"",
            "[scenario.server]\nrate = [5]",
            27,
            "the matrix does not have the scenario `server`",
        ),
        ("\"server\"", "[scenario.sever]\nrate = [5]", 27, "unknown field `sever`"),
        ("\"server\"", "[scenario.server]\nrates = [5]", 28, "unknown field `rates`"),
        ("\"server\"", "[scenario.server]\nrate = []", 28, "at least one figure"),
        ("\"server\"", "[scenario.server]\nrate = [0]", 28, "a rate is more than 0"),
        ("\"server\"", "[scenario.server]\nrate = [-1.5]", 28, "-1.5 is not"),
        ("\"server\"", "[scenario.server]\nrate = [nan]", 28, "NaN is not"),
        ("\"server\"", "[scenario.server]\nrate = [inf]", 28, "at most 10000 per second"),
        ("\"server\"", "[scenario.server]\nrate = [1e9]", 28, "1000000000 is not"),
        ("\"server\"", "[scenario.server]\nrate = [5, 5.0]", 28, "twice"),
        (
            "\"server\"",
            "[scenario.server]\nrate = [0.1]",
            28,
            "samples_min (5) take 50 s, which is more than",
        ),
        ("\"server\"", "[scenario.server]\nrate = [5]\nwithin = \"0s\"", 29, "within is more than 0"),
        ("\"server\"", "[scenario.server]\nrate = [5]\nwithin = 20", 29, "expected a string"),
    ];
    for (scenario, table, line, message) in cases {
        let error = Suite::parse("small.toml", &with(scenario, table)).expect_err(table);
        assert!(error.message.contains(message), "{table}: {error}");
        assert_eq!(error.line, line, "{table}: {error}");
    }
}

fn place(version: &str) -> Place {
    Place {
        browser_version: Some(version.to_owned()),
        engine: "engine".to_owned(),
        threads: 1,
        adapter: None,
        software_adapter: false,
        sandbox: Some(true),
        gpu: None,
    }
}

fn cell(browser: &str, samples_us: Vec<f64>) -> Cell {
    Cell {
        model: "one".parse().unwrap(),
        model_digest: Some(Digest::new([1; 32])),
        browser: browser.to_owned(),
        backend: BackendKind::Wasm,
        scenario: Scenario::SingleStream,
        varied: Varied::default(),
        state: State { outcome: Outcome::Ok, reason: None },
        error: Some(1e-6),
        tolerance: 1e-3,
        samples_us,
        warm_up_us: Vec::new(),
        warm: true,
        provenance: None,
        work: None,
        served: None,
        cold: Vec::new(),
        beside: Vec::new(),
        alone_us: Vec::new(),
        seeded: false,
        memory: Vec::new(),
    }
}

fn results(cells: Vec<Cell>) -> Results {
    Results {
        version: VERSION,
        id: "a".to_owned(),
        suite: "small".to_owned(),
        suite_sha256: String::new(),
        branch: None,
        started_at_us: 0,
        ended_at_us: 1,
        complete: true,
        warnings: Vec::new(),
        calibration_us: [1.0, 1.0],
        copied: None,
        environment: Environment {
            weft: "0.1.0".to_owned(),
            commit: "unknown".to_owned(),
            processor: "a processor".to_owned(),
            processor_flags: String::new(),
            cores: 2,
            memory_bytes: 1 << 30,
            kernel: "6".to_owned(),
            cpu_limit: None,
            memory_limit: None,
            places: BTreeMap::from([("firefox/wasm".to_owned(), place("1"))]),
        },
        cells,
    }
}

/// So many samples around a middle, a tenth apart at most.
fn around(middle: f64, count: u32) -> Vec<f64> {
    (0..count).map(|at| middle * (0.95 + 0.1 * f64::from(at * 7 % count) / f64::from(count))).collect()
}

#[test]
fn a_cell_is_worse_only_when_it_is_slower_by_more_than_noise_and_chance() {
    let base = around(100.0, 30);
    let cases: [(&str, Vec<f64>, Verdict); 7] = [
        ("the same", base.clone(), Verdict::Same),
        ("less than noise", around(103.0, 30), Verdict::Same),
        ("slower", around(120.0, 30), Verdict::Worse),
        ("faster", around(80.0, 30), Verdict::Better),
        ("too few", around(120.0, 8), Verdict::Unknown),
        (
            "all over the place",
            vec![40.0, 50.0, 60.0, 70.0, 115.0, 130.0, 150.0, 180.0, 200.0],
            Verdict::Unknown,
        ),
        ("slower, as few as may be", around(120.0, 9), Verdict::Worse),
    ];
    for (case, head, wanted) in cases {
        let compared = compare(
            &results(vec![cell("firefox", base.clone())]),
            &results(vec![cell("firefox", head)]),
            0.05,
        );
        let judged = &compared.cells[0];
        assert_eq!(judged.verdict, wanted, "{case}: {judged:?}");
        assert_eq!(judged.reason.is_some(), wanted == Verdict::Unknown, "{case}: {judged:?}");
        assert_eq!(compared.worse(), usize::from(wanted == Verdict::Worse), "{case}");
    }
}

#[test]
fn what_cannot_be_compared_is_unknown_and_says_why() {
    let slow = || results(vec![cell("firefox", around(200.0, 30))]);
    let base = || results(vec![cell("firefox", around(100.0, 30))]);
    let mut elsewhere = slow();
    elsewhere.environment.cores = 4;
    let mut other = slow();
    other.cells[0].model_digest = Some(Digest::new([2; 32]));
    let mut broken = slow();
    broken.cells[0].state =
        State { outcome: Outcome::Failed, reason: Some("lane_lost: it crashed".to_owned()) };
    let renamed = results(vec![cell("chromium", around(200.0, 30))]);
    let cases = [
        ("another machine", elsewhere, vec!["the machines differ"]),
        ("another model", other, vec!["the name stands for another model"]),
        ("a cell that failed", broken, vec!["in the head: lane_lost: it crashed"]),
        ("another cell", renamed, vec!["it is not in the base", "it is not in the head"]),
    ];
    for (case, head, reasons) in cases {
        let compared = compare(&base(), &head, 0.05);
        assert!(compared.cells.iter().all(|cell| cell.verdict == Verdict::Unknown), "{case}: {compared:?}");
        let told: Vec<_> = compared.cells.iter().filter_map(|cell| cell.reason.as_deref()).collect();
        assert_eq!(told, reasons, "{case}");
        assert_eq!(compared.differences.len(), usize::from(case == "another machine"), "{case}");
    }
}

#[test]
fn a_server_that_refuses_is_worse_than_one_that_answers() {
    let served = |refused: usize, samples| {
        let mut cell = cell("firefox", samples);
        (cell.scenario, cell.varied) = (Scenario::Server, Varied { rate: Some(5.0), ..Varied::default() });
        let refused = BTreeMap::from([("overloaded".to_owned(), refused)]);
        cell.served = Some(Served { refused, ..Served::default() });
        results(vec![cell])
    };
    let mut long = around(100.0, 30);
    long.push(1000.0);
    let cases = [
        ("the same", served(0, long.clone()), Verdict::Same),
        ("half and more refused", served(40, long.clone()), Verdict::Worse),
        ("few answered", served(40, vec![900.0]), Verdict::Worse),
        ("nothing at all", served(0, Vec::new()), Verdict::Unknown),
    ];
    for (case, head, wanted) in cases {
        let compared = compare(&served(0, long.clone()), &head, 0.05);
        assert_eq!(compared.cells[0].verdict, wanted, "{case}: {:?}", compared.cells[0]);
    }
    let mut other = served(0, long.clone());
    other.cells[0].varied.rate = Some(10.0);
    let compared = compare(&served(0, long), &other, 0.05);
    let told: Vec<_> = compared.cells.iter().filter_map(|cell| cell.reason.as_deref()).collect();
    assert_eq!(told, ["it is not in the base", "it is not in the head"]);
}

#[test]
fn a_document_of_before_is_read() {
    let text = serde_json::to_string(&results(vec![cell("firefox", around(100.0, 70))])).unwrap();
    for later in
        ["rate", "start", "batch", "precision", "plan", "served", "cold", "beside", "alone_us", "memory"]
    {
        assert!(!text.contains(&format!("\"{later}\":")), "{later}: {text}");
    }
}

#[test]
fn another_version_of_a_browser_is_compared_and_told() {
    let mut head = results(vec![cell("firefox", around(120.0, 30))]);
    head.environment.places.insert("firefox/wasm".to_owned(), place("2"));
    let compared = compare(&results(vec![cell("firefox", around(100.0, 30))]), &head, 0.05);
    let judged = &compared.cells[0];
    assert_eq!(judged.verdict, Verdict::Worse);
    let parts: Vec<_> =
        judged.differences.iter().map(|of| (of.part.as_ref(), of.base.as_str(), of.head.as_str())).collect();
    assert_eq!(parts, [("browser", "1", "2")]);
}

#[test]
fn a_document_comes_back_as_it_went() {
    let before = results(vec![cell("firefox", around(100.0, 70))]);
    let text = serde_json::to_string(&before).unwrap();
    let after: Results = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&after).unwrap(), text);
    let figures = after.cells[0].figures().unwrap();
    assert_eq!((figures.samples, figures.p90.is_some(), figures.p99.is_some()), (70, true, false));
    let unknown = text.replacen("\"suite\"", "\"speed\":1,\"suite\"", 1);
    assert!(serde_json::from_str::<Results>(&unknown).unwrap_err().to_string().contains("speed"));
}

#[test]
fn a_document_that_no_run_of_this_weft_wrote_is_refused_by_name() {
    let whole = serde_json::to_value(results(vec![cell("firefox", around(100.0, 9))])).unwrap();
    let mut first = whole.clone();
    first.as_object_mut().unwrap().remove("version");
    assert_eq!(Results::read(first.to_string().as_bytes()).unwrap().version, 1, "the first told no version");
    let cases = [
        (
            "/version",
            json!(VERSION + 1),
            "it has version 4 of the document, and this weft knows those up to 3",
        ),
        ("/ended_at_us", json!(-1), "no run writes this: it ended before it started"),
        ("/cells/0/samples_us/3", json!(-5.0), "one in firefox/wasm, single_stream: a sample took -5 µs"),
        ("/cells/0/warm_up_us", json!([-1]), "a sample took -1 µs"),
        ("/cells/0/samples_us", json!([]), "it is ok without a sample"),
        ("/cells/0/samples_us", json!(["1"]), "expected f64"),
        ("/cells/0/scenario", json!("at_night"), "unknown variant `at_night`"),
        ("/cells", json!([whole["cells"][0], whole["cells"][0]]), "single_stream is there twice"),
        ("/warnings", json!(null), "invalid type: null"),
    ];
    for (at, value, said) in cases {
        let mut changed = whole.clone();
        *changed.pointer_mut(at).unwrap() = value;
        let refused = Results::read(changed.to_string().as_bytes()).expect_err(at).to_string();
        assert!(refused.contains(said), "{at}: {refused}");
    }
    // What a later version says of itself comes before what is unknown of it.
    let later = json!({"version": 9, "anything": "else"});
    assert!(Results::read(later.to_string().as_bytes()).unwrap_err().to_string().contains("version 9"));
}
