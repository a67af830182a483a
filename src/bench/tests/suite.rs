//! What a suite's file may say, and what is wrong in one.

use super::super::Suite;
use crate::domain::BackendKind;

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

/// What is wrong in each scenario's table is named, with its line.
fn assert_named(cases: &[(&str, &str, usize, &str)]) {
    for (scenario, table, line, message) in cases {
        let error = Suite::parse("small.toml", &with(scenario, table)).expect_err(table);
        assert!(error.message.contains(message), "{table}: {error}");
        assert_eq!(error.line, *line, "{table}: {error}");
    }
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
    assert_named(&cases);
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
    assert_named(&cases);
}
