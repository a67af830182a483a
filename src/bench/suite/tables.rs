//! What a suite's file says of its scenarios, each in a table of its own.

use std::{ops::Range, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{Limits, RawSuite, SuiteError, Told};
use crate::bench::{
    Scenario,
    scenario::{ColdStart, Scenarios, Server, Soak, Start},
};

/// No daemon on one machine answers more; a higher rate is a slip.
const RATE_MAX: f64 = 10_000.0;

/// Each takes seconds; fewer than nine cannot be compared.
const COLD_STARTS: usize = 9;
const COLD_STARTS_MAX: usize = 1000;

/// A browser's memory is looked at by the daemon about as often.
const SOAK_EVERY: Duration = Duration::from_secs(1);
const SOAK_EVERY_MIN: Duration = Duration::from_millis(100);

/// Points that a slope is drawn through, at least.
const SOAK_POINTS_MIN: u32 = 10;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawScenarios {
    server: Option<Spanned<RawServer>>,
    cold_start: Option<Spanned<RawColdStart>>,
    soak: Option<Spanned<RawSoak>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    rate: Spanned<Vec<f64>>,
    within: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawColdStart {
    samples: Option<Spanned<usize>>,
    start: Option<Spanned<Vec<Start>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSoak {
    time: Spanned<String>,
    every: Option<Spanned<String>>,
}

impl Told<'_> {
    pub(super) fn scenarios(
        &self,
        raw: &RawSuite,
        limits: &Limits,
        budget: Duration,
    ) -> Result<Scenarios, SuiteError> {
        let wanted = raw.matrix.get_ref().scenario.get_ref();
        let RawScenarios { server, cold_start, soak } = &raw.scenario;
        let tables = [
            (Scenario::Server, server.as_ref().map(Spanned::span)),
            (Scenario::ColdStart, cold_start.as_ref().map(Spanned::span)),
            (Scenario::Soak, soak.as_ref().map(Spanned::span)),
        ];
        for (scenario, table) in tables {
            let stray = format!("the matrix does not have the scenario `{}`", scenario.name());
            self.check(table.is_none() || wanted.contains(&scenario), &table.unwrap_or_default(), &stray)?;
        }
        let span = raw.matrix.get_ref().scenario.span();
        let needs = |scenario, there, what: &str| {
            let message = format!("the scenario `{scenario}` needs {what}");
            self.check(there, &span, &message)
        };
        if wanted.contains(&Scenario::Server) {
            needs("server", server.is_some(), "[scenario.server] with its `rate`, requests per second")?;
        }
        if wanted.contains(&Scenario::Soak) {
            needs("soak", soak.is_some(), "[scenario.soak] with its `time`")?;
        }
        if wanted.contains(&Scenario::Concurrent) {
            needs("concurrent", raw.model.len() > 1, "a second model")?;
        }
        Ok(Scenarios {
            server: server.as_ref().map(|table| self.server(table.get_ref(), limits, budget)).transpose()?,
            cold_start: self.cold_start(cold_start.as_ref().map(Spanned::get_ref))?,
            soak: self.soak(soak.as_ref().map(Spanned::get_ref), budget)?,
        })
    }

    fn server(&self, raw: &RawServer, limits: &Limits, budget: Duration) -> Result<Server, SuiteError> {
        let RawServer { rate, within } = raw;
        let (span, rates) = (rate.span(), rate.get_ref());
        self.check(!rates.is_empty(), &span, "rate is at least one figure")?;
        for rate in rates {
            let absurd = format!("a rate is more than 0 and at most {RATE_MAX} per second; {rate} is not");
            self.check(*rate > 0.0 && *rate <= RATE_MAX, &span, &absurd)?;
            let seconds = limits.samples_min as f64 / rate;
            let too_slow = format!(
                "at {rate} per second, samples_min ({}) take {seconds:.0} s, which is more than the budget",
                limits.samples_min
            );
            self.check(seconds < budget.as_secs_f64(), &span, &too_slow)?;
            let same = rates.iter().filter(|other| other.total_cmp(rate).is_eq());
            self.check(same.count() == 1, &span, "a rate is there twice")?;
        }
        let within = within.as_ref().map(|within| self.positive("within", within)).transpose()?;
        Ok(Server { rate: rates.clone(), within })
    }

    fn cold_start(&self, raw: Option<&RawColdStart>) -> Result<ColdStart, SuiteError> {
        let samples = raw.and_then(|raw| raw.samples.as_ref());
        let start = raw.and_then(|raw| raw.start.as_ref());
        let span = |span: Option<Range<usize>>| span.unwrap_or_default();
        let count = samples.map_or(COLD_STARTS, |samples| *samples.get_ref());
        self.check(
            (2..=COLD_STARTS_MAX).contains(&count),
            &span(samples.map(Spanned::span)),
            &format!("samples are 2 to {COLD_STARTS_MAX}"),
        )?;
        let starts =
            start.map_or_else(|| vec![Start::Browser, Start::Session], |start| start.get_ref().clone());
        let twice = starts.len() == 2 && starts[0] == starts[1] || starts.len() > 2;
        self.check(
            !starts.is_empty() && !twice,
            &span(start.map(Spanned::span)),
            "start is \"browser\", \"session\" or both",
        )?;
        Ok(ColdStart { samples: count, start: starts })
    }

    fn soak(&self, raw: Option<&RawSoak>, budget: Duration) -> Result<Soak, SuiteError> {
        let Some(RawSoak { time, every }) = raw else {
            return Ok(Soak { time: Duration::ZERO, every: SOAK_EVERY });
        };
        let (span, time) = (time.span(), self.positive("time", time)?);
        self.check(time < budget, &span, "time is less than the budget")?;
        let at = every.as_ref().map_or(span, Spanned::span);
        let every = every.as_ref().map_or(Ok(SOAK_EVERY), |every| self.duration(every))?;
        self.check(every >= SOAK_EVERY_MIN, &at, "every is at least 100 ms")?;
        let few = format!("time is at least {SOAK_POINTS_MIN} times every ({every:?})");
        self.check(time >= every * SOAK_POINTS_MIN, &at, &few)?;
        Ok(Soak { time, every })
    }

    fn positive(&self, name: &str, text: &Spanned<String>) -> Result<Duration, SuiteError> {
        let duration = self.duration(text)?;
        self.check(!duration.is_zero(), &text.span(), &format!("{name} is more than 0"))?;
        Ok(duration)
    }
}
