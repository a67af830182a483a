//! What a report shows beside a result's samples: figures, ratios with their intervals, and which lane is fastest. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Cell, Figures, Outcome, Results, Scenario, Work,
    statistics::{Interval, apart, median, outliers, quantile, stretches},
};

/// A result with everything that is computed of it.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub results: &'a Results,
    /// In the order of the result's cells; null where a cell is not ok.
    pub cells: Vec<Option<Shown>>,
    /// How each cell was asked: its scenario, with what varies beside its lane.
    pub asked: Vec<String>,
    pub groups: Vec<Group>,
    /// The most operations per second that a cell came to.
    pub highest: Option<f64>,
}

/// What a cell's samples say.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub figures: Figures,
    /// A quarter and three quarters of the samples do not exceed these.
    pub quartiles: [f64; 2],
    /// The least and the greatest sample within Tukey's fences.
    pub whiskers: [f64; 2],
    /// Samples beyond them, by their place.
    pub outliers: Vec<usize>,
    /// Where a sample is of several requests at once.
    pub requests_per_second: Option<Interval>,
    /// Its median over the native one: above one it is slower. Null for native lanes and without one.
    pub over_native: Option<Interval>,
    /// What a median cold start is made of, in its order.
    pub cold: Vec<Part>,
    /// Where a sample is of computing alone and the graph tells what that is.
    pub attained: Option<Attained>,
}

/// A part of a cold start.
#[derive(Debug, Serialize)]
pub struct Part {
    pub name: &'static str,
    pub median_us: f64,
}

/// How much a cell computes of what it moves, and how fast.
#[derive(Debug, Serialize)]
pub struct Attained {
    /// Operations per byte.
    pub intensity: f64,
    pub flops_per_second: Interval,
}

/// Cells that differ in their lanes alone.
#[derive(Debug, Serialize)]
pub struct Group {
    pub model: String,
    pub scenario: String,
    /// All of them, as places among the result's cells.
    pub cells: Vec<usize>,
    /// The native lane that others are compared with: the fastest.
    pub native: Option<usize>,
    /// The fastest of all, and of browsers.
    pub of_all: Option<Fastest>,
    pub of_browsers: Option<Fastest>,
}

#[derive(Debug, Serialize)]
pub struct Fastest {
    pub cell: usize,
    pub next: Option<Next>,
}

#[derive(Debug, Serialize)]
pub struct Next {
    pub cell: usize,
    /// Its median over the fastest one's.
    pub ratio: Interval,
}

impl<'a> Report<'a> {
    #[must_use]
    pub fn of(results: &'a Results) -> Self {
        let mut shown: Vec<_> = results.cells.iter().map(shown).collect();
        let asked: Vec<_> = results.cells.iter().map(|cell| cell.varied.of(cell.scenario)).collect();
        let mut members: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, cell) in results.cells.iter().enumerate() {
            members.entry((&cell.model, &asked[at])).or_default().push(at);
        }
        let mut groups: Vec<_> = members.into_values().collect();
        groups.sort();
        let groups = groups.into_iter().map(|members| group(results, members, &mut shown)).collect();
        let attained = shown.iter().flatten().filter_map(|shown| shown.attained.as_ref());
        let highest = attained.map(|attained| attained.flops_per_second.value).reduce(f64::max);
        Self { results, cells: shown, asked, groups, highest }
    }
}

fn shown(cell: &Cell) -> Option<Shown> {
    let figures = cell.figures().filter(|_| cell.state.outcome == Outcome::Ok)?;
    let samples = &cell.samples_us;
    let outliers = outliers(samples);
    let mut beyond = outliers.iter().peekable();
    let within = samples.iter().enumerate().filter(|(at, _)| beyond.next_if_eq(&at).is_none());
    let whiskers = within.fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], (_, sample)| {
        [least.min(*sample), most.max(*sample)]
    });
    Some(Shown {
        requests_per_second: per_sample(cell.scenario).and_then(|requests| rate(requests, &figures.median)),
        quartiles: [quantile(samples, 0.25), quantile(samples, 0.75)],
        whiskers,
        outliers,
        over_native: None,
        cold: cell.cold_parts().into_iter().map(|(name, median_us)| Part { name, median_us }).collect(),
        attained: cell.work.and_then(|work| attained(cell.scenario, work, &figures.median)),
        figures,
    })
}

fn attained(scenario: Scenario, work: Work, time_us: &Interval) -> Option<Attained> {
    let requests = if scenario == Scenario::SingleStream { Some(1.0) } else { per_sample(scenario) };
    let flops_per_second = rate(requests? * work.flops as f64, time_us)?;
    let intensity = work.flops as f64 / work.bytes as f64;
    (work.flops > 0 && intensity.is_finite()).then_some(Attained { intensity, flops_per_second })
}

/// How many requests a sample's time is of, where they are sent at once and so say what a lane gets done.
fn per_sample(scenario: Scenario) -> Option<f64> {
    match scenario {
        Scenario::MultiStream => Some(scenario.at_once() as f64),
        Scenario::Offline => Some(1.0),
        Scenario::SingleStream
        | Scenario::Server
        | Scenario::ColdStart
        | Scenario::Concurrent
        | Scenario::Soak => None,
    }
}

fn rate(requests: f64, time_us: &Interval) -> Option<Interval> {
    let per_second = |time_us: f64| requests * 1e6 / time_us;
    finite(Interval {
        value: per_second(time_us.value),
        low: per_second(time_us.high),
        high: per_second(time_us.low),
    })
}

/// A clock that is too coarse measures nothing, and nothing can be divided by that.
fn finite(interval: Interval) -> Option<Interval> {
    [interval.value, interval.low, interval.high].iter().all(|bound| bound.is_finite()).then_some(interval)
}

fn group(results: &Results, members: Vec<usize>, shown: &mut [Option<Shown>]) -> Group {
    let cell = |at: usize| &results.cells[at];
    let ratio = |head: usize, base: usize| {
        finite(apart(&stretches(&cell(head).samples_us), &stretches(&cell(base).samples_us)))
    };
    let mut ranked: Vec<_> = members.iter().copied().filter(|at| shown[*at].is_some()).collect();
    ranked.sort_by_cached_key(|at| median(&cell(*at).samples_us).to_bits());
    let (natives, browsers): (Vec<_>, Vec<_>) =
        ranked.iter().copied().partition(|at| cell(*at).backend.is_native());
    let native = natives.first().copied();
    for at in &browsers {
        if let Some(shown) = &mut shown[*at] {
            shown.over_native = native.and_then(|native| ratio(*at, native));
        }
    }
    let fastest = |ranked: &[usize]| {
        let next = ranked.get(1).and_then(|next| Some(Next { cell: *next, ratio: ratio(*next, ranked[0])? }));
        ranked.first().map(|cell| Fastest { cell: *cell, next })
    };
    let any = cell(members[0]);
    Group {
        model: any.model.to_string(),
        scenario: any.varied.of(any.scenario),
        native,
        of_all: fastest(&ranked),
        of_browsers: fastest(&browsers),
        cells: members,
    }
}
