//! How a model is asked, and what a suite says of it beyond the name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// One request after the other; a sample is what one computes.
    SingleStream,
    /// Eight requests at once, again when all are answered; a sample is how long that takes.
    MultiStream,
    /// Thirty-two requests at once; a sample is the time per request.
    Offline,
    /// Requests that arrive by chance at a rate and wait for nobody; a sample is the time from when one was to be sent.
    Server,
    /// A browser or a session that is started anew; a sample is the time until the first answer.
    ColdStart,
    /// All of the suite's models asked at once in one lane; a sample is the time until this one's answer.
    Concurrent,
    /// One request after the other for a long time; a sample is the median of what one computes in an interval.
    Soak,
}

impl Scenario {
    /// Requests that are sent at once for one sample.
    #[must_use]
    pub fn at_once(self) -> usize {
        match self {
            Self::SingleStream | Self::Server | Self::ColdStart | Self::Concurrent | Self::Soak => 1,
            Self::MultiStream => 8,
            Self::Offline => 32,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleStream => "single_stream",
            Self::MultiStream => "multi_stream",
            Self::Offline => "offline",
            Self::Server => "server",
            Self::ColdStart => "cold_start",
            Self::Concurrent => "concurrent",
            Self::Soak => "soak",
        }
    }

    /// Whether cells of it are measured in turns with others.
    #[must_use]
    pub fn takes_turns(self) -> bool {
        matches!(self, Self::SingleStream | Self::MultiStream | Self::Offline)
    }

    /// Whether a model that is split can be asked so.
    #[must_use]
    pub fn goes_with_plans(self) -> bool {
        self.takes_turns() || self == Self::Server
    }
}

/// What tells a cell from others of its model, lane and scenario; what does not apply is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Varied {
    /// Requests per second that arrive on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What is started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// How many of the model's inputs a request joins along their first axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// `fp32` for the model as it is, else a variant of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// `single` for the whole model in the lane; else the lane is where the plan's last stage runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// On how many the lane computes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
}

impl Varied {
    /// The scenario with it, in words.
    #[must_use]
    pub fn of(&self, scenario: Scenario) -> String {
        let rate = self.rate.map(|rate| format!("{rate}/s"));
        let start = self.start.map(|start| start.name().to_owned());
        let batch = self.batch.map(|batch| format!("batch {batch}"));
        let plan = self.plan.as_ref().map(|plan| format!("plan {plan}"));
        let threads = self.threads.map(|threads| format!("threads {threads}"));
        [Some(scenario.name().to_owned()), rate, start, batch, self.precision.clone(), plan, threads]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What a sample of a cold start begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The launch of a browser.
    Browser,
    /// The load of the model into a lane that serves.
    Session,
}

impl Start {
    fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Session => "session",
        }
    }
}

/// What a suite says of its scenarios.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenarios {
    /// Where the matrix has that scenario.
    pub server: Option<Server>,
    pub cold_start: ColdStart,
    pub soak: Soak,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Requests per second; a cell of each.
    pub rate: Vec<f64>,
    /// What an answer should take at most: the share that does is told.
    pub within: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColdStart {
    pub samples: usize,
    /// A cell of each; natively there is no browser to start.
    pub start: Vec<Start>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Soak {
    pub time: Duration,
    /// How often memory is looked at.
    pub every: Duration,
}

impl Scenarios {
    /// A scenario in all the ways in which it is to be measured.
    #[must_use]
    pub fn ways(&self, scenario: Scenario, native: bool) -> Vec<Varied> {
        match (scenario, &self.server) {
            (Scenario::Server, Some(Server { rate, .. })) => {
                rate.iter().map(|rate| Varied { rate: Some(*rate), ..Varied::default() }).collect()
            }
            (Scenario::ColdStart, _) => {
                let there = |start: &&Start| !native || **start == Start::Session;
                let starts = self.cold_start.start.iter().filter(there);
                starts.map(|start| Varied { start: Some(*start), ..Varied::default() }).collect()
            }
            _ => vec![Varied::default()],
        }
    }
}
