//! Levels' checks, the quality score, and certificates that were changed.

use serde_json::json;

use super::{around, cell, results};
use crate::bench::{
    CertificateError, Level, Outcome, Results, Signer, State, Trusted, certificate_digest, validate, verify,
};

/// A run that passes every check of itself.
fn good(id: &str) -> Results {
    let provenance = json!({"instance": "firefox-1", "lane": "firefox-1/wasm", "browser": "firefox",
        "browser_version": "1", "backend": "wasm", "placement": {"wasm": 1}, "adapter": null,
        "software_adapter": false, "webnn_device_requested": null, "sandbox": true, "engine": "e", "threads": 1,
        "model_digest": format!("{:064}", 1), "verdict": "verified", "plan": "single", "attempt": 1, "batch": 1,
        "fallback": null});
    let mut cell = cell("firefox", (0..40).map(|at| 100.0 + f64::from(at % 5) / 10.0).collect());
    cell.provenance = Some(serde_json::from_value(provenance).unwrap());
    cell.warm_up_us = around(101.0, 9);
    let mut results = results(vec![cell]);
    (results.id, results.suite_sha256) = (id.to_owned(), "5".to_owned());
    results.environment.commit = "0123456789".to_owned();
    // No two begin at once.
    results.started_at_us = id.bytes().map(i64::from).sum();
    results
}

fn repeats(count: usize) -> Vec<Results> {
    (0..count).map(|at| good(&format!("again-{at}"))).collect()
}

fn elsewhere() -> Results {
    let mut other = good("elsewhere");
    other.environment.processor = "another".to_owned();
    other
}

/// Names of the checks that did not pass.
fn short(results: &Results, others: &[Results], level: Level) -> Vec<String> {
    let found = validate(results, others, level);
    let short: Vec<_> =
        found.checks.iter().filter(|check| !check.passed).map(|check| check.name.clone()).collect();
    assert_eq!(found.valid, short.is_empty());
    short
}

#[test]
fn levels_want_more_runs_one_after_the_other() {
    let none: [&str; 0] = [];
    let cases: [(Level, usize, bool, &[&str]); 8] = [
        (Level::Minimal, 0, false, &none),
        (Level::Standard, 1, false, &["repeated"]),
        (Level::Standard, 2, false, &none),
        (Level::Strict, 3, false, &["repeated"]),
        (Level::Strict, 4, false, &none),
        (Level::Certification, 8, true, &["repeated"]),
        (Level::Certification, 9, false, &["independent"]),
        (Level::Certification, 9, true, &none),
    ];
    for (level, count, independent, wanted) in cases {
        let mut others = repeats(count);
        others.extend(independent.then(elsewhere));
        assert_eq!(short(&good("a"), &others, level), wanted, "{level:?} with {count}, {independent}");
    }
    let counts: Vec<_> =
        Level::ALL.map(|level| validate(&good("a"), &[], level).checks.len()).into_iter().collect();
    assert_eq!(counts, [2, 11, 15, 18]);
}

#[test]
fn a_run_counts_once_whatever_it_is_called() {
    let again = good("again-0");
    let renamed = Results { id: "renamed".to_owned(), ..again.clone() };
    let mut another = good("another");
    another.cells[0].model_digest = "1".repeat(64).parse().ok();
    let found = validate(&good("a"), &[again.clone(), again, renamed, good("a")], Level::Standard);
    assert_eq!(found.repeats, ["again-0"]);
    // Another file under the model's name is another model.
    assert_eq!(short(&good("a"), &[good("again-1"), another], Level::Standard), ["reproducible"]);
}

#[test]
fn a_machine_that_measured_nothing_bears_no_witness() {
    let mut idle = elsewhere();
    idle.cells[0].state.outcome = Outcome::TimedOut;
    let others = [repeats(9), vec![idle]].concat();
    assert_eq!(short(&good("a"), &others, Level::Certification), ["independent"]);
}

#[test]
fn what_falls_short_is_named_by_its_check() {
    let broken = |results: &mut Results, outcome| {
        results.cells[0].state = State { outcome, reason: None };
    };
    let cases: [(&str, &str, Box<dyn Fn(&mut Results)>); 14] = [
        ("a wrong answer", "right", Box::new(move |of| broken(of, Outcome::Wrong))),
        ("nothing measured", "measured", Box::new(move |of| broken(of, Outcome::Skipped))),
        ("interrupted", "complete", Box::new(|of| of.complete = false)),
        ("cold", "warm", Box::new(|of| of.cells[0].warm = false)),
        ("few samples", "samples", Box::new(|of| of.cells[0].samples_us.truncate(20))),
        ("scattered", "spread", Box::new(|of| of.cells[0].samples_us = (1..41).map(f64::from).collect())),
        ("drift", "steady", Box::new(|of| of.calibration_us = [1.0, 1.2])),
        ("no machine", "environment", Box::new(|of| of.environment.processor.clear())),
        ("no lane", "lanes", Box::new(|of| of.environment.places.clear())),
        ("a debug build", "commit", Box::new(|of| of.environment.commit = "unknown".to_owned())),
        ("changed files", "commit", Box::new(|of| of.environment.commit = "0-dirty".to_owned())),
        ("a busy machine", "undisturbed", Box::new(|of| of.warnings.push("it was busy".to_owned()))),
        ("far off", "outliers", Box::new(|of| of.cells[0].samples_us[..6].fill(900.0))),
        ("no provenance", "provenance", Box::new(|of| of.cells[0].provenance = None)),
    ];
    for (case, wanted, change) in cases {
        let mut results = good("a");
        change(&mut results);
        let found = short(&results, &repeats(4), Level::Strict);
        assert!(found.iter().any(|name| name == wanted), "{case}: {found:?}");
    }
    let mut apart = repeats(4);
    apart[2].cells[0].samples_us.iter_mut().for_each(|sample| *sample *= 1.3);
    assert_eq!(short(&good("a"), &apart, Level::Standard), ["reproducible"]);
    // Another browser is no repetition.
    let mut other = repeats(2);
    other[0].environment.places.values_mut().for_each(|place| place.browser_version = Some("2".to_owned()));
    assert_eq!(short(&good("a"), &other, Level::Standard), ["repeated"]);
}

#[test]
fn quality_is_its_parts_by_their_weights() {
    let repeated = validate(&good("a"), &repeats(4), Level::Minimal).quality;
    assert!(repeated.score > 0.99, "{repeated:?}");
    let once = validate(&good("a"), &[], Level::Minimal).quality;
    assert!((once.score - (repeated.score - 0.2)).abs() < 1e-9, "{once:?}");
    let mut half = good("a");
    half.cells.push(cell("chromium", Vec::new()));
    half.cells[1].state = State { outcome: Outcome::Failed, reason: None };
    let half = validate(&half, &[], Level::Minimal).quality;
    let values: Vec<_> = half.parts[..2].iter().map(|part| part.value).collect();
    assert_eq!(values, [0.5, 0.5]);
    let weights: f64 = half.parts.iter().map(|part| part.weight).sum();
    assert!((weights - 1.0).abs() < 1e-9);
}

#[test]
fn a_certificate_says_what_was_signed_and_by_whom() {
    let (private, public) = Signer::generate().unwrap();
    let (signer, trusted) = (Signer::from_pem(&private).unwrap(), Trusted::from_pem(&public).unwrap());
    let results = good("a");
    let validation = validate(&results, &repeats(2), Level::Standard);
    let text = signer.certify(&results, validation.clone(), 7);
    let (statement, by) = verify(&text, Some(&trusted)).unwrap();
    assert_eq!((by, statement.issued_at_us, statement.validation.clone()), (trusted, 7, validation));
    assert_eq!(statement.environment, results.environment);
    assert_eq!(statement.result_sha256, certificate_digest(&results));
    statement.is_of(&results).unwrap();
    let mut changed = results;
    changed.cells[0].samples_us[39] += 1e-9;
    assert!(matches!(statement.is_of(&changed), Err(CertificateError::Result { .. })));
    let (_, other) = Signer::generate().unwrap();
    let refused = verify(&text, Some(&Trusted::from_pem(&other).unwrap()));
    assert!(matches!(refused, Err(CertificateError::Signer { .. })), "{refused:?}");
    for not in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &public] {
        assert!(matches!(Signer::from_pem(not), Err(CertificateError::Key(_))), "{not}");
    }
    assert!(matches!(Trusted::from_pem(&private), Err(CertificateError::Key(_))));
}

#[test]
fn a_certificate_of_which_any_byte_was_changed_is_refused() {
    let (private, _) = Signer::generate().unwrap();
    let results = good("a");
    let validation = validate(&results, &[], Level::Minimal);
    let text = Signer::from_pem(&private).unwrap().certify(&results, validation, 7);
    verify(&text, None).unwrap();
    let mut changed = text.clone().into_bytes();
    for at in 0..changed.len() {
        for flip in [1, 2, 32] {
            changed[at] ^= flip;
            if let Ok(text) = std::str::from_utf8(&changed) {
                assert!(verify(text, None).is_err(), "byte {at}: {text}");
            }
            changed[at] ^= flip;
        }
    }
    for rewritten in [format!("{text}\n"), text.trim_end().to_owned(), text.replacen(':', ": ", 1)] {
        assert!(matches!(verify(&rewritten, None), Err(CertificateError::Rewritten)));
    }
    // Whoever signs anew says another key.
    let (another, _) = Signer::generate().unwrap();
    let signed_anew =
        Signer::from_pem(&another).unwrap().certify(&results, validate(&results, &[], Level::Minimal), 7);
    assert_ne!(verify(&signed_anew, None).unwrap().1, verify(&text, None).unwrap().1);
}
