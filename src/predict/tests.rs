//! Synthetic samples: lanes and links whose figures are known, with seeded noise.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Estimate, Host, LaneKind, Link, LinkSample, Load, LoadSample, Rate, Seen, Speed, StepSample, Within,
    Work, held_up, link, refit_host, refit_link, refit_speed, speed,
};
use crate::domain::{BackendKind, Chain, OperatorClass, Part, Unit};

fn kind(browser: &str) -> LaneKind {
    LaneKind { browser: browser.to_owned(), backend: BackendKind::Wasm, threads: 1, software: false }
}

/// A stage of a transformer or of a convolutional network, of any size.
fn work(random: &mut StdRng) -> Work {
    let mut work = Work { units: random.random_range(4..200), ..Work::default() };
    let size = 10f64.powf(random.random_range(6.0..9.0));
    let conv = random.random_bool(0.5);
    let (heavy, light) = if conv { (1, 2) } else { (0, 3) };
    work.flops[heavy] = size;
    work.moved[heavy] = size * random.random_range(0.005..0.05);
    work.flops[light] = size * random.random_range(0.001..0.02);
    work.moved[light] = size * random.random_range(0.001..0.02);
    work.moved[OperatorClass::Movement as usize] = size * random.random_range(0.0..0.01);
    work
}

/// Nearly a bell curve, of deviation 1.
fn noise(random: &mut StdRng) -> f64 {
    (0..12).map(|_| random.random_range(0.0..1.0)).sum::<f64>() - 6.0
}

/// A lane that is unlike what is thought of it: products three times slower, convolutions twice as fast.
fn true_speed() -> Speed {
    let mut truth = speed(&kind("chromium"));
    for (class, times) in [(0, 3.0), (1, 0.5), (2, 1.5), (3, 2.0), (6, 1.2)] {
        let Rate { us_per_flop, us_per_byte } = truth.rates[class];
        truth.rates[class] = Rate { us_per_flop: us_per_flop * times, us_per_byte: us_per_byte * times };
    }
    (truth.unit_us, truth.step_us) = (9.0, 150.0);
    truth
}

fn steps(truth: &Speed, deviation: f64, stalls: f64, count: usize, seed: u64) -> Vec<StepSample> {
    let mut random = StdRng::seed_from_u64(seed);
    let sample = |_| {
        let work = work(&mut random);
        let stalled = if random.random_bool(stalls) { 10.0 } else { 1.0 };
        let micros = truth.step(&work) * (1.0 + deviation * noise(&mut random)).max(0.2) * stalled;
        StepSample { work, micros }
    };
    (0..count).map(sample).collect()
}

/// The share of held-out synthetic steps that are forecast within `tolerance`.
fn forecast_within(fitted: &Speed, truth: &Speed, tolerance: f64) -> f64 {
    let held_out = steps(truth, 0.0, 0.0, 500, 99);
    let near = |sample: &&StepSample| (fitted.step(&sample.work) / sample.micros - 1.0).abs() < tolerance;
    held_out.iter().filter(near).count() as f64 / held_out.len() as f64
}

#[test]
fn lanes_are_learned_from_synthetic_steps() {
    // (deviation, share of stalled steps, samples, tolerance, the share that must be within it)
    let cases = [
        (0.0, 0.0, 100, 0.05, 0.95),
        (0.05, 0.0, 100, 0.10, 0.95),
        (0.05, 0.1, 200, 0.10, 0.95),
        (0.15, 0.1, 400, 0.15, 0.9),
        (0.05, 0.0, 20, 0.25, 0.8),
    ];
    let truth = true_speed();
    for (deviation, stalls, count, tolerance, wanted) in cases {
        for seed in 0..5 {
            let samples = steps(&truth, deviation, stalls, count, seed);
            let guess = speed(&kind("chromium"));
            let fitted = refit_speed(&guess, &samples).unwrap().model;
            let near = forecast_within(&fitted, &truth, tolerance);
            assert!(
                near >= wanted,
                "{near} of {count} samples with {deviation} and {stalls}, seed {seed}: {fitted:?}"
            );
            assert!(forecast_within(&guess, &truth, tolerance) < 0.5, "the guess is as good");
            assert_eq!(fitted.samples, count as u32);
        }
    }
}

#[test]
fn what_never_ran_follows_what_did() {
    let mut guess = speed(&kind("chromium"));
    guess.step_us = 1.0;
    let mut truth = guess.clone();
    for rate in &mut truth.rates {
        *rate = Rate { us_per_flop: rate.us_per_flop * 4.0, us_per_byte: rate.us_per_byte * 4.0 };
    }
    (truth.unit_us, truth.step_us) = (truth.unit_us * 4.0, truth.step_us * 4.0);
    let fitted = refit_speed(&guess, &steps(&truth, 0.03, 0.0, 60, 1)).unwrap();
    let recurrent = OperatorClass::Recurrent as usize;
    let times = fitted.model.rates[recurrent].us_per_flop / guess.rates[recurrent].us_per_flop;
    assert!((3.5..4.5).contains(&times), "{times}");
    // And is known to be no more than a guess.
    let ratio = fitted.high.rates[recurrent].us_per_flop / fitted.model.rates[recurrent].us_per_flop;
    let known = fitted.high.rates[0].us_per_flop / fitted.model.rates[0].us_per_flop;
    assert!(ratio > 2.0 && known < 1.2, "{ratio} {known}");
}

#[test]
fn bounds_hold_nine_of_ten() {
    let truth = true_speed();
    for deviation in [0.05, 0.2] {
        let fitted = refit_speed(&speed(&kind("chromium")), &steps(&truth, deviation, 0.0, 200, 5)).unwrap();
        let Within { low, high } = fitted.model.within.unwrap();
        let later = steps(&truth, deviation, 0.0, 1000, 6);
        let inside = later.iter().filter(|sample| {
            let share = sample.micros / fitted.model.step(&sample.work);
            (low..=high).contains(&share)
        });
        let share = inside.count() as f64 / later.len() as f64;
        assert!((0.85..=0.97).contains(&share), "{share} within {low}..{high} at {deviation}");
    }
}

#[test]
fn few_samples_have_no_bounds() {
    let truth = true_speed();
    let guess = speed(&kind("chromium"));
    assert!(refit_speed(&guess, &steps(&truth, 0.05, 0.0, 7, 1)).unwrap().model.within.is_none());
    assert!(refit_speed(&guess, &[]).is_none());
    let stopped = StepSample { work: Work::default(), micros: 0.0 };
    assert!(refit_speed(&guess, &[stopped]).is_none());
}

#[test]
fn one_sample_moves_everything_alike() {
    let guess = speed(&kind("firefox"));
    let work = work(&mut StdRng::seed_from_u64(3));
    let micros = guess.step(&work) * 5.0;
    let fitted = refit_speed(&guess, &[StepSample { work: work.clone(), micros }]).unwrap().model;
    assert!((fitted.step(&work) / micros - 1.0).abs() < 1e-6);
    assert!((fitted.step_us / guess.step_us - 5.0).abs() < 1e-6);
}

/// A step of eight requests is not eight steps: what is learned of steps of one holds for both.
#[test]
fn steps_of_several_requests_read_weights_once() {
    let unit = Unit {
        name: String::new(),
        class: OperatorClass::MatMul,
        part: Part::Other,
        block: None,
        tower: None,
        share: None,
        flops: 1e6,
        moved: 5e6,
        weights: vec![0],
    };
    let looked_up = Unit { moved: 1e3, weights: vec![1], ..unit.clone() };
    let chain = Chain { units: vec![unit, looked_up], weights: vec![4_000_000, 90_000_000], values: vec![] };
    let one = Work::of(&chain, 0..2);
    let eight = one.clone().times(8.0);
    let class = OperatorClass::MatMul as usize;
    let told = |work: &Work| (work.flops[class], work.moved[class], work.units);
    assert_eq!(told(&one), (2e6, 5_001_000.0, 2));
    assert_eq!(told(&eight), (16e6, 4e6 + 8.0 * 1_001_000.0, 2));
    let truth = true_speed();
    let samples: Vec<_> = [1.0, 2.0, 8.0]
        .into_iter()
        .cycle()
        .take(30)
        .map(|requests| {
            let work = one.clone().times(requests);
            StepSample { micros: truth.step(&work), work }
        })
        .collect();
    let fitted = refit_speed(&speed(&kind("chromium")), &samples).unwrap().model;
    for requests in [1.0, 4.0, 16.0] {
        let work = one.clone().times(requests);
        assert!((fitted.step(&work) / truth.step(&work) - 1.0).abs() < 0.05, "{requests}");
    }
}

#[test]
fn links_are_learned_from_synthetic_transfers() {
    let truth = Link {
        round_trip_us: 280.0,
        down_us_per_byte: 1.2e-3,
        up_us_per_byte: 4e-3,
        samples: 0,
        within: None,
    };
    for (deviation, stalls) in [(0.0, 0.0), (0.1, 0.0), (0.1, 0.1)] {
        let mut random = StdRng::seed_from_u64(8);
        let sample = |_| {
            let (down_bytes, up_bytes) =
                (10f64.powf(random.random_range(2.0..7.0)), 10f64.powf(random.random_range(2.0..7.0)));
            let stalled = if random.random_bool(stalls) { 20.0 } else { 1.0 };
            let clean = truth.round_trip_us + truth.moving(down_bytes, up_bytes);
            let micros = clean * (1.0 + deviation * noise(&mut random)).max(0.2) * stalled;
            LinkSample { down_bytes, up_bytes, micros }
        };
        let samples: Vec<_> = (0..120).map(sample).collect();
        let fitted = refit_link(&link(&kind("chromium")), &samples).unwrap();
        let figures = |link: &Link| [link.round_trip_us, link.down_us_per_byte, link.up_us_per_byte];
        let bounds = figures(&fitted.low).into_iter().zip(figures(&fitted.high));
        for ((fitted, wanted), (low, high)) in
            figures(&fitted.model).into_iter().zip(figures(&truth)).zip(bounds)
        {
            assert!((fitted / wanted - 1.0).abs() < 0.1, "{fitted} for {wanted} at {deviation}, {stalls}");
            assert!((low..=high).contains(&wanted), "{wanted} is not in {low}..{high}");
        }
    }
}

#[test]
fn a_machine_is_known_by_few_plans() {
    let truth = Host {
        request_us: 900.0,
        page_us: 700.0,
        native_us: 60.0,
        us_per_byte: 4e-3,
        share: 0.5,
        within: None,
    };
    let load =
        |pages: f64, natives: f64, bytes: f64, compute_us: f64| Load { pages, natives, bytes, compute_us };
    let seen = [load(2.0, 0.0, 9e4, 3e3), load(1.0, 1.0, 6e4, 2e3), load(2.0, 0.0, 6e4, 3.5e3)];
    let samples = seen.map(|load| LoadSample { load, micros: truth.period(&load) });
    let fitted = refit_host(2.0, &samples).unwrap();
    for other in [load(1.0, 1.0, 8e4, 2.2e3), load(3.0, 1.0, 2e5, 3.2e3), load(2.0, 1.0, 1e5, 2.5e3)] {
        let off = fitted.period(&other) / truth.period(&other) - 1.0;
        assert!(off.abs() < 0.15, "{other:?} is off by {off}");
    }
    assert_eq!(refit_host(2.0, &[]), None);
}

#[test]
fn affinities_are_guesses() {
    let rate = |browser: &str, class: OperatorClass| speed(&kind(browser)).rates[class as usize].us_per_flop;
    let (conv, matmul, recurrent) = (OperatorClass::Conv, OperatorClass::MatMul, OperatorClass::Recurrent);
    assert!(rate("chromium", conv) < rate("firefox", conv));
    assert!(rate("edge", matmul) < rate("chrome", matmul));
    assert!(rate("firefox", recurrent) < rate("edge", recurrent));
    // A Firefox that is measured to be slow for sound is so.
    let guess = speed(&kind("firefox"));
    let mut work = Work { units: 1, ..Work::default() };
    work.flops[recurrent as usize] = 1e9;
    let slow = StepSample { micros: guess.step(&work) * 3.0, work };
    let fitted = refit_speed(&guess, &[slow]).unwrap().model;
    assert!(fitted.rates[recurrent as usize].us_per_flop > rate("edge", recurrent));
}

#[test]
fn estimates_add_up_only_where_bounds_are_known() {
    let known = Estimate::scaled(10.0, Some(Within { low: 0.5, high: 2.0 }));
    assert_eq!(known.plus(known), Estimate { value: 20.0, within: Some(Within { low: 10.0, high: 40.0 }) });
    assert_eq!(known.plus(Estimate::scaled(5.0, None)), Estimate { value: 15.0, within: None });
}

#[test]
fn what_comes_again_and_again_holds_a_lane_up() {
    let steps = |took: &dyn Fn(usize) -> f64| -> Vec<Seen> {
        (0..128).map(|at| Seen { forecast_us: 1000.0, took_us: took(at) }).collect()
    };
    let spread = |at: usize| 700.0 + 20.0 * (at * 37 % 64) as f64;
    let cases: [(&str, &dyn Fn(usize) -> f64, f64); 5] = [
        ("an ordinary spread", &spread, 0.0),
        ("a tail three times as long", &|at| if at % 20 == 0 { 3000.0 } else { spread(at) }, 0.0),
        ("one stop", &|at| if at == 40 { 80_000.0 } else { spread(at) }, 0.0),
        ("first steps after a load", &|at| if at >= 120 { 9000.0 } else { spread(at) }, 0.0),
        ("a stop in each sixteenth step", &|at| if at % 16 == 3 { 81_000.0 } else { spread(at) }, 5000.0),
    ];
    for (what, took, wanted) in cases {
        let found = held_up(&steps(took));
        assert!((found - wanted).abs() <= 0.02 * wanted, "{what}: {found} for {wanted}");
    }
    assert!(held_up(&steps(&|_| 80_000.0)[..31]) < 1.0, "too few");
}
