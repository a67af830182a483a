//! Arrivals by chance at shares of what the daemon can serve, up to ten times as much: what is answered in time, how
//! soon the rest is refused, and whether memory grows.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    closed::{self, Caller},
    dense, floats,
    pace::{Arrival, Offer},
    serving::{Serving, natively},
    supported,
};
use crate::{
    origin::Origin,
    processes, progress,
    report::{Found, Target, table},
    statistics::{Ratio, quantile, ratio, trend},
    wire::{Answer, Wire},
};

/// Of what was answered by callers that wait for their answers, in the same run.
const SHARES: [f64; 5] = [0.5, 0.8, 0.95, 1.2, 10.0];

const TIME: Duration = Duration::from_secs(20);

/// What each request has: about a hundred of the model's steps.
const DEADLINE: Duration = Duration::from_millis(500);

const CAPACITY: Duration = Duration::from_secs(6);
const LEAD: Duration = Duration::from_millis(500);
const IN_FLIGHT: usize = 8;

/// A core for the lane, and what is left for the daemon and its callers.
const CONFIG: &str = "[native]\nthreads = 1\n";

const REFUSED_MAX_US: f64 = 5000.0;

/// After all loads memory is watched at this share of the capacity, for so long.
const SOAKED: f64 = 0.8;
const SOAK: Duration = Duration::from_secs(360);

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Memory comes and goes with the log that the store writes back after 61,440 requests; blocks of looks are drawn
/// that are about as long.
const LOOKS: usize = 240;

/// What stops growing after some thousand requests is no part of a trend.
const WARM_UP: Duration = Duration::from_secs(20);

const BLOCK: usize = 60;
const SEED: u64 = 16;

#[derive(Serialize)]
struct Samples {
    /// Answers per second in a closed loop, before and after.
    capacity: Vec<f64>,
    offered: Vec<Offered>,
    /// Seconds since the first arrival, and bytes of the daemon that are resident.
    memory: Vec<(f64, f64)>,
}

/// One share of the capacity.
#[derive(Serialize)]
struct Offered {
    share: f64,
    per_second: f64,
    /// Microseconds from the intended sending, by what came of it: `ok`, or a refusal's code.
    took: BTreeMap<String, Vec<u64>>,
    /// Microseconds by which requests were sent later than intended.
    late: Vec<u64>,
}

#[derive(Serialize)]
struct Summary {
    capacity_per_s: f64,
    offered: Vec<OfferedSummary>,
    /// The daemon's memory at the end by that at the beginning, as its trend tells.
    memory: Ratio,
    bytes_per_s: f64,
}

#[derive(Serialize)]
struct OfferedSummary {
    share: f64,
    offered_per_s: f64,
    /// Answered within the deadline.
    goodput_per_s: f64,
    outcomes: BTreeMap<String, usize>,
    /// Microseconds, of answers, by those percentiles that so many support.
    percentiles: Vec<(f64, f64)>,
    /// To the limit; none without refusals enough.
    refused: Option<Ratio>,
    late_p99_us: f64,
}

pub(crate) async fn measure(program: &Path) -> anyhow::Result<Found> {
    progress("arrivals that wait for nobody, up to ten times what can be served");
    let folder = tempfile::tempdir()?;
    let model = dense::model(folder.path(), "dense", 1)?;
    let serving = Serving::native(program, CONFIG).await?;
    // One request per step, so that the capacity is the same at every load.
    serving.add(&model, &json!({"max": 1})).await?;
    let socket = serving.daemon.socket();
    let wire = Wire::connect(&socket).await?;
    let mut callers = vec![Caller::new(wire, IN_FLIGHT, |number| model.asking(number, &natively()))];
    let mut warm = closed::round(std::mem::take(&mut callers), LEAD, WARM_UP).await?;
    let mut round = closed::round(std::mem::take(&mut warm.callers), LEAD, CAPACITY).await?;
    let answer = round.answers[0].first().context("the daemon answers")?;
    let origin = Origin::of(&Answer::read(answer)?);
    let mut samples = Samples { capacity: vec![round.per_second()], offered: Vec::new(), memory: Vec::new() };
    let parameters = asked();
    for (at, share) in SHARES.into_iter().enumerate() {
        let per_second = share * samples.capacity[0];
        progress(&format!("{:.0} % of what can be served: {per_second:.0}/s", share * 100.0));
        let seed = SEED + at as u64;
        let offer = Offer { model: &model, parameters: &parameters, per_second, time: TIME, seed };
        let arrivals = offer.make(&socket).await?;
        samples.offered.push(Offered::of(share, per_second, arrivals));
    }
    progress("memory under load");
    let per_second = SOAKED * samples.capacity[0];
    let memory = Memory::watch(serving.daemon.pid()?);
    let seed = SEED + SHARES.len() as u64;
    Offer { model: &model, parameters: &parameters, per_second, time: SOAK, seed }.make(&socket).await?;
    samples.memory = memory.end().await?;
    round = closed::round(round.callers, LEAD, CAPACITY).await?;
    samples.capacity.push(round.per_second());
    serving.daemon.stop().await?;
    let summary = samples.summary();
    Found::new(origin, summary.targets(), samples.notes(&summary), &summary, &samples)
}

fn asked() -> Value {
    let mut parameters = natively();
    parameters["timeout"] = json!(DEADLINE.as_micros() as u64);
    parameters
}

/// Looks at a process's memory until told to end.
struct Memory {
    stop: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<anyhow::Result<Vec<(f64, f64)>>>,
}

impl Memory {
    fn watch(pid: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let looking = tokio::spawn(async move {
            let (started, mut looks) = (Instant::now(), Vec::new());
            while !ended.load(Ordering::Relaxed) {
                let bytes = processes::resident(pid).context("the daemon has ended")?;
                looks.push((started.elapsed().as_secs_f64(), bytes as f64));
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(looks)
        });
        Self { stop, looking }
    }

    async fn end(self) -> anyhow::Result<Vec<(f64, f64)>> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.await?
    }
}

impl Offered {
    fn of(share: f64, per_second: f64, arrivals: Vec<Arrival>) -> Self {
        let mut took: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut late = Vec::new();
        for Arrival { late_us, took_us, heard } in arrivals {
            late.push(late_us);
            took.entry(heard.err().unwrap_or_else(|| OK.to_owned())).or_default().push(took_us);
        }
        Self { share, per_second, took, late }
    }

    fn summary(&self) -> OfferedSummary {
        let took = |code: &str| self.took.get(code).map(|took| floats(took)).unwrap_or_default();
        let ok = took(OK);
        let in_time = ok.iter().filter(|took| **took <= DEADLINE.as_micros() as f64).count();
        let refused: Vec<_> =
            REFUSALS.iter().flat_map(|code| took(code)).map(|took| (took, REFUSED_MAX_US)).collect();
        OfferedSummary {
            share: self.share,
            offered_per_s: self.late.len() as f64 / TIME.as_secs_f64(),
            goodput_per_s: in_time as f64 / TIME.as_secs_f64(),
            outcomes: self.took.iter().map(|(code, took)| (code.clone(), took.len())).collect(),
            percentiles: supported(ok.len()).into_iter().map(|q| (q, quantile(&ok, q))).collect(),
            refused: supported(refused.len())
                .contains(&0.99)
                .then(|| ratio(&refused, |series| quantile(series, 0.99), BLOCK, SEED)),
            late_p99_us: quantile(&floats(&self.late), 0.99),
        }
    }
}

const OK: &str = "ok";

/// What a request is refused with at once.
const REFUSALS: [&str; 2] = ["overloaded", "rate_limited"];

impl Samples {
    fn summary(&self) -> Summary {
        let offered = self.offered.iter().map(Offered::summary).collect();
        let trend = trend(&self.memory, LOOKS, SEED);
        let first = trend.at_first.max(1.0);
        let seconds = self.memory.last().map_or(0.0, |(at, _)| *at);
        let grown = |per_s: f64| 1.0 + per_s * seconds / first;
        Summary {
            capacity_per_s: self.capacity[0],
            offered,
            memory: Ratio { value: grown(trend.value), low: grown(trend.low), high: grown(trend.high) },
            bytes_per_s: trend.value,
        }
    }

    fn notes(&self, summary: &Summary) -> Vec<String> {
        let capacity: Vec<_> = self.capacity.iter().map(|rate| format!("{rate:.0}/s")).collect();
        let mut notes = vec![
            format!(
                "arrivals by chance: {}, one row, one thread; capacity {} before and after; each request has {} ms",
                dense::DESCRIBED,
                capacity.join(" and "),
                DEADLINE.as_millis()
            ),
            String::new(),
        ];
        let header = [
            "of capacity",
            "offered/s",
            "in time/s",
            "answered",
            "not answered",
            "ms at percentiles",
            "sent late, p99",
        ];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(summary.offered.iter().map(OfferedSummary::row));
        notes.extend(table(&rows));
        notes.push(String::new());
        notes
    }
}

impl Summary {
    fn targets(&self) -> Vec<Target> {
        let Ratio { low, high, .. } = self.memory;
        let memory = Target {
            what: format!("memory after {} s at {:.0} % of capacity", SOAK.as_secs(), SOAKED * 100.0),
            found: format!("{:+.1} KiB/s", self.bytes_per_s / 1024.0),
            bound: "none".to_owned(),
            ratio: self.memory,
            wanted: "interval has 1".to_owned(),
            met: Some(low <= 1.0 && high >= 1.0),
        };
        self.offered.iter().filter_map(OfferedSummary::target).chain([memory]).collect()
    }
}

impl OfferedSummary {
    fn percent(&self) -> String {
        format!("{:.0} %", self.share * 100.0)
    }

    fn target(&self) -> Option<Target> {
        self.refused.map(|ratio| Target {
            what: format!("refused at {} of capacity, p99", self.percent()),
            found: format!("{:.2} ms", ratio.value * REFUSED_MAX_US / 1e3),
            bound: "limit 5 ms".to_owned(),
            ratio,
            wanted: "≤ 1.00".to_owned(),
            met: Some(ratio.value <= 1.0),
        })
    }

    fn row(&self) -> [String; 7] {
        let percentiles = self.percentiles.iter();
        let percentiles: Vec<_> =
            percentiles.map(|(q, took)| format!("p{}: {:.1}", q * 100.0, took / 1e3)).collect();
        let others = self.outcomes.iter().filter(|(code, _)| *code != OK);
        let others: Vec<_> = others.map(|(code, count)| format!("{count} {code}")).collect();
        [
            self.percent(),
            format!("{:.0}", self.offered_per_s),
            format!("{:.0}", self.goodput_per_s),
            self.outcomes.get(OK).copied().unwrap_or_default().to_string(),
            others.join(", "),
            percentiles.join(", "),
            format!("{:.2} ms", self.late_p99_us / 1e3),
        ]
    }
}
