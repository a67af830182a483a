//! What a report computes of a result.

use super::*;
use crate::bench::{Report, Work};

#[test]
fn a_report_ranks_right_lanes_and_compares_them_with_the_fastest_native_one() {
    let native = |middle: f64, provider: &str| Cell {
        backend: BackendKind::Ort(provider.to_owned()),
        ..cell("native", around(middle, 30))
    };
    let wrong = Cell {
        state: State { outcome: Outcome::Wrong, reason: Some("off".to_owned()) },
        ..cell("edge", around(1.0, 30))
    };
    let offline = Cell { scenario: Scenario::Offline, ..cell("firefox", around(1000.0, 30)) };
    let many = Cell { scenario: Scenario::MultiStream, ..cell("firefox", around(1000.0, 30)) };
    let results = results(vec![
        native(400.0, "cuda"),
        native(100.0, "cpu"),
        cell("firefox", around(300.0, 30)),
        offline,
        cell("chromium", around(200.0, 30)),
        wrong,
        many,
    ]);
    let report = Report::of(&results);
    let told: Vec<_> = report
        .groups
        .iter()
        .map(|group| {
            let pair = |fastest: &Option<crate::bench::report::Fastest>| {
                fastest.as_ref().map(|of| (of.cell, of.next.as_ref().map(|next| next.cell)))
            };
            (
                group.scenario.as_str(),
                group.cells.len(),
                group.native,
                pair(&group.of_all),
                pair(&group.of_browsers),
            )
        })
        .collect();
    let alone = |at| Some((at, None));
    assert_eq!(
        told,
        [
            ("single_stream", 5, Some(1), Some((1, Some(4))), Some((4, Some(2)))),
            ("offline", 1, None, alone(3), alone(3)),
            ("multi_stream", 1, None, alone(6), alone(6)),
        ]
    );
    let over_native = |at: usize| report.cells[at].as_ref().and_then(|shown| shown.over_native);
    let firefox = over_native(2).unwrap();
    assert!(firefox.low < 3.0 && 3.0 < firefox.high && firefox.spread() < 0.05, "{firefox:?}");
    assert_eq!((over_native(0), over_native(1), over_native(3)), (None, None, None));
    assert!(report.cells[5].is_none(), "a wrong answer has no time");
    let rate = |at: usize| report.cells[at].as_ref().and_then(|shown| shown.requests_per_second);
    let per_second = |at: usize| rate(at).map(|rate| rate.value.round());
    let median = results.cells[3].figures().unwrap().median.value;
    assert_eq!(per_second(2), None);
    assert_eq!(per_second(3), Some((1e6 / median).round()));
    assert_eq!(per_second(6), Some((8e6 / median).round()));
    let rate = rate(3).unwrap();
    assert!(rate.low < rate.value && rate.value < rate.high, "{rate:?}");
}

#[test]
fn a_cell_attains_what_its_requests_take_over_their_time() {
    let work = Work { flops: 6_000_000, bytes: 2_000_000, nodes: 3, known: 3 };
    let with = |scenario, work| Cell { scenario, work, ..cell("firefox", around(1000.0, 30)) };
    let many = Cell { model: "two".parse().unwrap(), ..with(Scenario::MultiStream, Some(work)) };
    let results = results(vec![
        with(Scenario::SingleStream, Some(work)),
        many,
        with(Scenario::Server, Some(work)),
        with(Scenario::Offline, None),
        with(Scenario::Soak, Some(Work { flops: 0, ..work })),
    ]);
    let report = Report::of(&results);
    let attained = |at: usize| report.cells[at].as_ref().and_then(|shown| shown.attained.as_ref());
    let median = results.cells[0].figures().unwrap().median.value;
    for (at, requests) in [(0, 1.0), (1, 8.0)] {
        let found = attained(at).unwrap();
        let wanted = requests * 6e6 * 1e6 / median;
        assert!((found.flops_per_second.value / wanted - 1.0).abs() < 1e-9, "{found:?}");
        assert!(found.flops_per_second.low < wanted && wanted < found.flops_per_second.high, "{found:?}");
        assert!((found.intensity - 3.0).abs() < 1e-12, "{found:?}");
    }
    assert!((2..5).all(|at| attained(at).is_none()));
    assert_eq!(report.highest, attained(1).map(|attained| attained.flops_per_second.value));
}

#[test]
fn a_box_has_what_is_within_the_fences() {
    let mut samples: Vec<f64> = (1..=40).map(f64::from).collect();
    samples.extend([500.0, 0.5, 400.0]);
    let results = results(vec![cell("firefox", samples)]);
    let report = Report::of(&results);
    let shown = report.cells[0].as_ref().unwrap();
    assert_eq!((shown.quartiles, shown.whiskers), ([10.0, 32.0], [0.5, 40.0]));
    assert_eq!(shown.outliers, [40, 42]);
    assert_eq!(shown.figures.outliers, 2);
}

#[test]
fn a_clock_too_coarse_for_a_lane_leaves_no_ratio() {
    let native = Cell { backend: BackendKind::ort_cpu(), ..cell("native", vec![0.0; 30]) };
    let results = results(vec![native, cell("firefox", around(100.0, 30))]);
    let report = Report::of(&results);
    assert_eq!(report.cells[1].as_ref().unwrap().over_native, None);
    assert!(report.groups[0].of_all.as_ref().unwrap().next.is_none());
}
