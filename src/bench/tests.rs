//! What a result says, and when two differ.

mod archive;
mod report;
mod suite;
mod validate;

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    Cell, Cold, Environment, Memory, Outcome, Place, Results, Scenario, Served, State, Turns, VERSION,
    Varied, Verdict, choices, compare, compare_precisions,
};
use crate::domain::{BackendKind, Digest};

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
        model_bytes: None,
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
        turns: None,
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
fn cells_that_took_turns_are_compared_round_by_round() {
    // The machine is twice as slow in every other round, and a tenth faster or slower in each turn.
    let moody = |factor: f64, began_at_us: i64| {
        let mut cell = cell("firefox", Vec::new());
        for round in 0..20u32 {
            let mood = if round % 2 == 0 { 1.0 } else { 2.0 } * f64::from(95 + round * 7 % 11);
            cell.samples_us.extend((0..3).map(|at| factor * mood + f64::from(at)));
        }
        cell.turns = Some(Turns { began_at_us, samples: vec![3; 20] });
        cell
    };
    let named = |mut cell: Cell, precision: &str, digest: u8| {
        (cell.varied.precision, cell.model_digest) =
            (Some(precision.to_owned()), Some(Digest::new([digest; 32])));
        cell
    };
    let cases = [
        ("together", 1.1, 1, Verdict::Worse),
        ("together and faster", 0.9, 1, Verdict::Better),
        ("together and the same", 1.0, 1, Verdict::Same),
        ("not together", 1.1, 2, Verdict::Unknown),
    ];
    for (case, factor, began_at_us, wanted) in cases {
        let (base, head) = (moody(1.0, 1), moody(factor, began_at_us));
        let one = results(vec![named(base.clone(), "fp32", 1), named(head.clone(), "int8", 2)]);
        let compared = [
            compare(&results(vec![base]), &results(vec![head]), 0.05),
            compare_precisions(&one, ["fp32", "int8"], 0.05),
        ];
        for compared in compared {
            assert_eq!(compared.cells[0].verdict, wanted, "{case}: {compared:?}");
        }
    }
    let one = results(vec![named(moody(1.0, 1), "int8", 2)]);
    let compared = compare_precisions(&one, ["fp32", "int8"], 0.05);
    assert_eq!(compared.cells[0].reason.as_deref(), Some("it is not in the base"));
}

#[test]
fn a_precision_is_chosen_within_a_budget_of_error() {
    let of = |browser: &str, precision: &str, us: f64, bytes: u64, error: f64| {
        let mut cell = cell(browser, around(us, 30));
        cell.varied.precision = Some(precision.to_owned());
        (cell.model_bytes, cell.error) = (Some(bytes), Some(error));
        cell
    };
    let mut wrong = of("chromium", "int2", 10.0, 1, 0.9);
    wrong.state.outcome = Outcome::Wrong;
    let one = results(vec![
        of("chromium", "fp32", 100.0, 400, 0.0),
        of("chromium", "fp16", 102.0, 200, 1e-4),
        of("chromium", "int8", 150.0, 100, 1e-3),
        of("chromium", "int8-dynamic", 160.0, 110, 2e-3),
        of("chromium", "int4", 60.0, 50, 0.1),
        wrong,
        // Alone in its lane.
        of("firefox", "fp32", 100.0, 400, 0.0),
    ]);
    let cases = [
        // Exactly as it is.
        (0.0, Some("fp32")),
        // As fast and half as large.
        (1e-3, Some("fp16")),
        (0.5, Some("int4")),
    ];
    for (budget, wanted) in cases {
        let [choice] = &choices(&one, budget, 0.05)[..] else { panic!("one lane") };
        let chosen = choice.chosen.map(|at| choice.candidates[at].precision.as_str());
        assert_eq!(chosen, wanted, "{budget}");
        let front: Vec<_> = choice.candidates.iter().filter(|of| of.front).map(|of| &of.precision).collect();
        assert_eq!(front, ["int4", "fp32", "fp16", "int8"], "{budget}");
    }
    let far = results(vec![of("chromium", "int4", 1.0, 1, 0.1), of("chromium", "int2", 1.0, 1, 0.2)]);
    assert_eq!(choices(&far, 0.05, 0.05)[0].chosen, None);
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
    for later in [
        "rate",
        "start",
        "batch",
        "precision",
        "plan",
        "served",
        "cold",
        "beside",
        "alone_us",
        "memory",
        "turns",
    ] {
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
    let mut turned = cell("firefox", around(100.0, 9));
    turned.turns = Some(Turns { began_at_us: 1, samples: vec![4, 5] });
    let whole = serde_json::to_value(results(vec![turned])).unwrap();
    let mut first = whole.clone();
    first.as_object_mut().unwrap().remove("version");
    assert_eq!(Results::read(first.to_string().as_bytes()).unwrap().version, 1, "the first told no version");
    let cases = [
        (
            "/version",
            json!(VERSION + 1),
            "it has version 5 of the document, and this weft knows those up to 4",
        ),
        ("/ended_at_us", json!(-1), "no run writes this: it ended before it started"),
        ("/cells/0/samples_us/3", json!(-5.0), "one in firefox/wasm, single_stream: a sample took -5 µs"),
        ("/cells/0/warm_up_us", json!([-1]), "a sample took -1 µs"),
        ("/cells/0/samples_us", json!([]), "it is ok without a sample"),
        ("/cells/0/turns", json!({"began_at_us": 1, "samples": [5, 5]}), "its turns have other samples"),
        ("/cells/0/turns", json!({"began_at_us": 1, "samples": [0, 9]}), "its turns have other samples"),
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
