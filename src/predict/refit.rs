//! A lane's and a link's speed from what steps there took.

use super::{
    fit::{Fit, Row, fit},
    speed::{Link, Rate, Speed, Work},
};

/// What a lane computed, and how long that took.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSample {
    pub work: Work,
    pub micros: f64,
}

/// What a step carried, and how long that took beside its computing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSample {
    pub down_bytes: f64,
    pub up_bytes: f64,
    pub micros: f64,
}

/// What was fitted. For each of its figures 19 of 20 lie between those of `low` and `high`; as a whole they err less, which
/// `model.within` tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Refit<T> {
    pub model: T,
    pub low: T,
    pub high: T,
}

/// The least that a figure of a model before may be, so that a measurement can be a multiple of it.
const LEAST: f64 = 1e-12;

/// What a lane takes by its latest steps, and by what was thought before for what these say nothing of.
/// Nothing where no step took any time.
pub fn refit_speed(before: &Speed, samples: &[StepSample]) -> Option<Refit<Speed>> {
    let figures: Vec<f64> = before
        .rates
        .iter()
        .flat_map(|rate| [rate.us_per_flop, rate.us_per_byte])
        .chain([before.unit_us, before.step_us])
        .collect();
    let row = |sample: &StepSample| {
        let work = &sample.work;
        let classes = work.flops.iter().zip(&work.moved).flat_map(|(flops, moved)| [*flops, *moved]);
        Row { amounts: classes.chain([f64::from(work.units), 1.0]).collect(), micros: sample.micros }
    };
    let model = |figures: Vec<f64>| {
        let mut speed = before.clone();
        let (rates, rest) = figures.split_at(2 * speed.rates.len());
        for (rate, [us_per_flop, us_per_byte]) in speed.rates.iter_mut().zip(rates.as_chunks().0) {
            *rate = Rate { us_per_flop: *us_per_flop, us_per_byte: *us_per_byte };
        }
        (speed.unit_us, speed.step_us) = (rest[0], rest[1]);
        speed
    };
    let (fit, mut refit) = refit(&samples.iter().map(row).collect::<Vec<_>>(), &figures, model)?;
    for model in [&mut refit.model, &mut refit.low, &mut refit.high] {
        (model.samples, model.within) = (samples.len() as u32, fit.within);
    }
    Some(refit)
}

/// What a link takes by its latest transfers, as [`refit_speed`] for lanes.
pub fn refit_link(before: &Link, samples: &[LinkSample]) -> Option<Refit<Link>> {
    let figures = [before.round_trip_us, before.down_us_per_byte, before.up_us_per_byte];
    let row = |sample: &LinkSample| Row {
        amounts: vec![1.0, sample.down_bytes, sample.up_bytes],
        micros: sample.micros,
    };
    let model = |figures: Vec<f64>| Link {
        round_trip_us: figures[0],
        down_us_per_byte: figures[1],
        up_us_per_byte: figures[2],
        ..before.clone()
    };
    let (fit, mut refit) = refit(&samples.iter().map(row).collect::<Vec<_>>(), &figures, model)?;
    for model in [&mut refit.model, &mut refit.low, &mut refit.high] {
        (model.samples, model.within) = (samples.len() as u32, fit.within);
    }
    Some(refit)
}

pub(super) fn refit<T>(
    rows: &[Row],
    before: &[f64],
    model: impl Fn(Vec<f64>) -> T,
) -> Option<(Fit, Refit<T>)> {
    let before: Vec<_> = before.iter().map(|figure| figure.max(LEAST)).collect();
    let fit = fit(rows, &before)?;
    let best = model(fit.terms.iter().map(|(value, _)| *value).collect());
    let low = model(fit.terms.iter().map(|(_, within)| within.low).collect());
    let high = model(fit.terms.iter().map(|(_, within)| within.high).collect());
    Some((fit, Refit { model: best, low, high }))
}
