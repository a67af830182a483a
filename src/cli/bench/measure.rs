//! Measures a suite's cells: those of a model in turns of random order, so that what disturbs the machine disturbs all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::{
    super::{client::Client, output},
    aside::Draft,
    asked::{Asking, off},
    material::{Made, Material},
    places::Leases,
    print,
    server::{Measured, Offer},
    socket::{Answer, Ask, Refused, Socket},
    suites::Found,
    told::Told,
};
use crate::{
    bench::{Cell, Outcome, Place, Scenario, State, Turns, Wanted, statistics},
    domain::{BackendKind, ModelName, Provenance},
    tasks,
};

/// A cell's turn ends after this long; each has several, between those of others.
const TURN: Duration = Duration::from_millis(250);

/// A turn has at most one of so many parts of a cell's samples: a cell of half a millisecond would have all of them in one,
/// and be compared with what the machine did in another quarter of a second.
const TURNS_LEAST: usize = 40;

/// Samples of a window of the warm-up, and by how much the medians of three may differ when it is over.
const WINDOW: usize = 5;
const ALIKE: f64 = 1.1;

/// Longer than this share of a cell's time it is not warmed up.
const WARM_UP_SHARE: u32 = 2;

/// Requests arrive at the same moments in every run.
const SEED: u64 = 3;

pub(super) struct Measuring<'a> {
    pub(super) client: &'a Client,
    pub(super) found: &'a Found,
    pub(super) leases: &'a mut Leases,
    pub(super) ends: Instant,
    /// As far as they have come, in the suite's order.
    pub(super) cells: Vec<Cell>,
    /// What each cell that is measured asks and must hear.
    pub(super) materials: BTreeMap<usize, Arc<Material>>,
    pub(super) made: Made,
    /// Models that browsers keep for the suite.
    pub(super) loaded: BTreeSet<ModelName>,
    /// A model that was unloaded to be loaded anew, until it is.
    pub(super) unloaded: Option<ModelName>,
    /// On how many threads the cells compute that are measured now; none where the suite leaves it to the lanes.
    pub(super) threads: Option<u32>,
    /// Browsers that were launched with other threads than they have by themselves.
    pub(super) changed: BTreeSet<String>,
    pub(super) draft: Draft,
    pub(super) told: Told,
}

/// A cell that is being measured.
pub(super) struct Open {
    /// Among all.
    pub(super) at: usize,
    asking: Asking,
    asks: Vec<Ask>,
    next: usize,
    spent: Duration,
}

impl<'a> Measuring<'a> {
    pub(super) fn new(
        client: &'a Client,
        found: &'a Found,
        lanes: &BTreeMap<(String, BackendKind), Result<Place, String>>,
        leases: &'a mut Leases,
        draft: Draft,
    ) -> Self {
        let suite = &found.suite;
        let cells = suite.cells.iter().map(|wanted| {
            let state = match (&wanted.excluded, &lanes[&(wanted.browser.clone(), wanted.backend.clone())]) {
                (Some(reason), _) => State { outcome: Outcome::Excluded, reason: Some(reason.clone()) },
                (None, Err(reason)) => State { outcome: Outcome::Skipped, reason: Some(reason.clone()) },
                (None, Ok(_)) => {
                    let reason = "the suite ended before its turn".to_owned();
                    State { outcome: Outcome::TimedOut, reason: Some(reason) }
                }
            };
            Cell {
                model: suite.models[wanted.model].name.clone(),
                model_digest: None,
                model_bytes: None,
                seeded: suite.models[wanted.model].seeded,
                browser: wanted.browser.clone(),
                backend: wanted.backend.clone(),
                scenario: wanted.scenario,
                varied: wanted.varied.clone(),
                state,
                error: None,
                tolerance: match wanted.varied.precision.as_ref().and_then(|of| suite.precisions.get(of)) {
                    Some(precision) => precision.tolerance,
                    None => suite.models[wanted.model].tolerance,
                },
                samples_us: Vec::new(),
                warm_up_us: Vec::new(),
                warm: false,
                provenance: None,
                work: None,
                served: None,
                cold: Vec::new(),
                beside: Vec::new(),
                alone_us: Vec::new(),
                memory: Vec::new(),
                turns: None,
            }
        });
        let (ends, mut cells): (_, Vec<_>) = (Instant::now() + suite.budget, cells.collect());
        take_over(&mut cells, draft.measured());
        let told = Told::new(draft.id(), &suite.name, ends, &cells, leases.ids());
        Self {
            client,
            found,
            leases,
            ends,
            cells,
            materials: BTreeMap::new(),
            made: Made::default(),
            loaded: BTreeSet::new(),
            unloaded: None,
            threads: None,
            changed: BTreeSet::new(),
            told,
            draft,
        }
    }

    /// Whether every cell had its turn.
    pub(super) fn is_complete(&self) -> bool {
        self.cells.iter().all(|cell| cell.state.outcome != Outcome::TimedOut)
    }

    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let mut socket = Socket::open(self.client).await?;
        for threads in self.found.suite.threads() {
            if Instant::now() < self.ends {
                self.turn_to(threads).await?;
            }
            for model in 0..self.found.suite.models.len() {
                let pending = |at: &usize| {
                    let wanted = self.wanted(*at);
                    wanted.model == model && wanted.scenario != Scenario::Concurrent && self.is_pending(*at)
                };
                let cells: Vec<_> = (0..self.cells.len()).filter(pending).collect();
                if !cells.is_empty() && Instant::now() < self.ends {
                    self.told.now(&format!("measuring {}", self.found.suite.models[model].name));
                    self.model(&mut socket, cells).await?;
                }
            }
            self.concurrent(&mut socket).await?;
        }
        Ok(())
    }

    /// Whether the cell has not had its turn, and is of the present number of threads.
    pub(super) fn is_pending(&self, at: usize) -> bool {
        self.wanted(at).varied.threads == self.threads && self.cells[at].state.outcome == Outcome::TimedOut
    }

    pub(super) fn wanted(&self, at: usize) -> &'a Wanted {
        &self.found.suite.cells[at]
    }

    async fn model(&mut self, socket: &mut Socket, cells: Vec<usize>) -> anyhow::Result<()> {
        let (mut open, mut cold) = (Vec::new(), Vec::new());
        for at in cells {
            if Instant::now() >= self.ends || !self.prepare(socket, at).await? || !self.load(at).await {
                continue;
            }
            let (asking, scenario) = (self.asking(at), self.wanted(at).scenario);
            if scenario == Scenario::ColdStart {
                cold.push(at);
                continue;
            }
            let asks = asking.asks(scenario.at_once());
            let mut cell = Open { at, asking, asks, next: 0, spent: Duration::ZERO };
            if self.warm_up(socket, &mut cell).await? {
                open.push(cell);
            }
        }
        let (turns, mut alone) =
            open.into_iter().partition(|open: &Open| self.wanted(open.at).scenario.takes_turns());
        self.turns(socket, turns).await?;
        self.draft.save(&self.cells);
        alone.shuffle(&mut rand::rng());
        for mut cell in alone {
            match self.wanted(cell.at).scenario {
                Scenario::Soak => self.soak(socket, &mut cell).await?,
                _ => self.serve(&cell).await?,
            }
            self.draft.save(&self.cells);
        }
        self.starts(cold).await
    }

    /// Measures a model's cold starts, for which browsers hold nothing else of the suite.
    async fn starts(&mut self, cells: Vec<usize>) -> anyhow::Result<()> {
        for at in cells {
            if Instant::now() < self.ends {
                self.keep_natively(&self.materials[&at].model.clone()).await?;
                self.cold_starts(at).await?;
                self.readmit().await?;
                self.draft.save(&self.cells);
            }
        }
        Ok(())
    }

    /// Has all others of the suite's models kept natively alone, so that no browser that starts loads them.
    async fn keep_natively(&mut self, but: &ModelName) -> anyhow::Result<()> {
        for name in std::mem::take(&mut self.loaded) {
            if name == *but {
                self.loaded.insert(name);
            } else {
                self.load_natively(&name).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn load_natively(&self, model: &ModelName) -> anyhow::Result<()> {
        let native = json!({"browser": ["native"], "backend": [BackendKind::ort_cpu()]});
        self.client.post(&format!("/api/v1/models/{model}/load"), &native).await.map(drop)
    }

    /// Leaves no model unloaded, no plan of the suite and no lane with its threads, whatever has come between.
    pub(super) async fn tidy(&mut self) {
        let readmitted = self.readmit().await;
        let (forgotten, given_back) = (self.forget_plans().await, self.give_threads_back().await);
        for error in [readmitted, forgotten, given_back].into_iter().filter_map(Result::err) {
            output::progress(&format!("{error:#}"));
        }
    }

    /// Has a model that a cold start left unloaded serve again.
    pub(super) async fn readmit(&mut self) -> anyhow::Result<()> {
        match self.unloaded.take() {
            Some(model) => self.load_natively(&model).await,
            None => Ok(()),
        }
    }

    /// Measures cells in turns until each has had enough.
    async fn turns(&mut self, socket: &mut Socket, mut open: Vec<Open>) -> anyhow::Result<()> {
        let began_at_us = tasks::now_us();
        for cell in &open {
            self.cells[cell.at].turns = Some(Turns { began_at_us, samples: Vec::new() });
        }
        while !open.is_empty() && Instant::now() < self.ends {
            open.shuffle(&mut rand::rng());
            let mut still = Vec::new();
            for mut cell in open {
                if self.turn(socket, &mut cell).await? {
                    still.push(cell);
                }
            }
            open = still;
        }
        for cell in open {
            self.budget_over(cell.at);
        }
        Ok(())
    }

    /// Loads the model into the cell's lane, which proves it there; says whether it may be measured.
    pub(super) async fn load(&mut self, at: usize) -> bool {
        let wanted = self.wanted(at);
        let material = &self.materials[&at];
        // The daemon has what it compares with, and a plan's stages from when it is made.
        if wanted.backend == BackendKind::ort_cpu() || material.plan.is_some() {
            return true;
        }
        let name = &material.model;
        self.loaded.insert(name.clone());
        let doing = format!("loading {name} into {}/{}", wanted.browser, wanted.backend);
        output::progress(&doing);
        self.told.now(&doing);
        let place = json!({"browser": [wanted.browser], "backend": [wanted.backend]});
        match self.client.post(&format!("/api/v1/models/{name}/load"), &place).await {
            Ok(_) => true,
            Err(refused) => {
                self.ended(at, Outcome::Skipped, Some(format!("{refused:#}")));
                false
            }
        }
    }

    /// Asks until what it takes falls no more; says whether the cell may be measured.
    async fn warm_up(&mut self, socket: &mut Socket, open: &mut Open) -> anyhow::Result<bool> {
        let limits = &self.found.suite.limits;
        let started = Instant::now();
        let most = limits.time / WARM_UP_SHARE;
        loop {
            let Some(sample) = self.sample(socket, open).await? else { return Ok(false) };
            let cell = &mut self.cells[open.at];
            cell.warm_up_us.push(sample);
            let count = cell.warm_up_us.len();
            cell.warm = count >= limits.warm_up && alike(&cell.warm_up_us);
            if cell.warm || started.elapsed() >= most || Instant::now() >= self.ends {
                return Ok(true);
            }
        }
    }

    /// A cell's turn; says whether it is to have another.
    async fn turn(&mut self, socket: &mut Socket, open: &mut Open) -> anyhow::Result<bool> {
        let limits = &self.found.suite.limits;
        let had = self.cells[open.at].samples_us.len();
        let most = limits.samples_max.min(had + limits.samples_max.div_ceil(TURNS_LEAST));
        let started = Instant::now();
        let mut going_on = true;
        while going_on {
            let Some(sample) = self.sample(socket, open).await? else { break };
            let samples = &mut self.cells[open.at].samples_us;
            samples.push(sample);
            going_on = samples.len() < most && started.elapsed() < TURN;
        }
        open.spent += started.elapsed();
        let cell = &mut self.cells[open.at];
        let samples = &cell.samples_us;
        if let Some(turns) = &mut cell.turns
            && samples.len() > had
        {
            turns.samples.push(samples.len() - had);
        }
        if going_on {
            return Ok(false);
        }
        let enough = samples.len() >= limits.samples_min;
        let narrow = enough && statistics::rough_spread(samples) <= limits.spread;
        if narrow || samples.len() >= limits.samples_max || enough && open.spent >= limits.time {
            self.ended(open.at, Outcome::Ok, None);
            return Ok(false);
        }
        Ok(true)
    }

    /// One sample in microseconds, of answers that are right; nothing when the cell has ended.
    pub(super) async fn sample(
        &mut self,
        socket: &mut Socket,
        open: &mut Open,
    ) -> anyhow::Result<Option<f64>> {
        let at_once = self.cells[open.at].scenario.at_once();
        let asks = if at_once == 1 {
            let next = open.next % open.asks.len();
            open.next += 1;
            &open.asks[next..=next]
        } else {
            &open.asks[..]
        };
        let (answers, took) = socket.ask(asks).await?;
        let answers = match answers {
            Ok(answers) => answers,
            Err(Refused { code, message }) => {
                self.ended(open.at, Outcome::Failed, Some(format!("{code}: {message}")));
                return Ok(None);
            }
        };
        let material = self.materials[&open.at].clone();
        let cell = &mut self.cells[open.at];
        match off(&material.known, &answers, cell.tolerance) {
            Ok(error) => cell.error = Some(cell.error.unwrap_or(0.0).max(error)),
            Err(detail) => {
                self.ended(open.at, Outcome::Wrong, Some(detail));
                return Ok(None);
            }
        }
        cell.provenance = answers.last().and_then(provenance);
        Ok(Some(match cell.scenario {
            Scenario::MultiStream => took,
            Scenario::Offline => took / at_once as f64,
            // What passes between its stages belongs to a plan's answer.
            _ if material.plan.is_some() => took,
            _ => compute(&answers[0].parameters)?,
        }))
    }

    /// Has requests arrive at the cell's rate, for which it has its lane to itself.
    async fn serve(&mut self, open: &Open) -> anyhow::Result<()> {
        let suite = &self.found.suite;
        let rate = self.wanted(open.at).varied.rate.context("a cell of this scenario has a rate")?;
        let within = suite.scenarios.server.as_ref().and_then(|server| server.within);
        let offer =
            Offer::new(rate, &suite.limits, self.ends.saturating_duration_since(Instant::now()), SEED);
        let (known, tolerance) = (self.materials[&open.at].clone(), self.cells[open.at].tolerance);
        let measured = offer.make(self.client, &open.asking, (&known.known, tolerance), within).await?;
        let Measured { samples_us, served, error, last, state } = measured;
        let arrived = served.arrived;
        let cell = &mut self.cells[open.at];
        (cell.samples_us, cell.served) = (samples_us, Some(served));
        cell.error = cell.error.into_iter().chain(error).reduce(f64::max);
        cell.provenance = last.as_ref().and_then(provenance).or(cell.provenance.take());
        if state.outcome == Outcome::Ok && arrived < suite.limits.samples_min {
            let reason = format!("the suite ended after {arrived} requests had arrived");
            self.ended(open.at, Outcome::TimedOut, Some(reason));
        } else {
            self.ended(open.at, state.outcome, state.reason);
        }
        Ok(())
    }

    pub(super) fn budget_over(&mut self, at: usize) {
        let had = self.cells[at].samples_us.len();
        if had >= self.found.suite.limits.samples_min {
            return self.ended(at, Outcome::Ok, None);
        }
        self.ended(at, Outcome::TimedOut, Some(format!("the suite ended after {had} samples")));
    }

    pub(super) fn ended(&mut self, at: usize, outcome: Outcome, reason: Option<String>) {
        let cell = &mut self.cells[at];
        cell.state = State { outcome, reason };
        output::progress(&print::told(cell));
        self.told.ended(&self.cells);
    }
}

/// Has cells stand as they were measured before.
fn take_over(cells: &mut [Cell], measured: &[Cell]) {
    for cell in cells {
        let is_it = |earlier: &&Cell| earlier.is_same(cell);
        if let Some(earlier) = measured.iter().find(is_it).filter(|_| cell.state.outcome != Outcome::Excluded)
        {
            *cell = earlier.clone();
        }
    }
}

pub(super) fn provenance(answer: &Answer) -> Option<Provenance> {
    serde_json::from_value(answer.parameters["provenance"].clone()).ok()
}

fn compute(parameters: &Value) -> anyhow::Result<f64> {
    parameters["timing_us"]["compute"].as_f64().context("an answer says what it took to compute")
}

/// Whether the last three windows have medians that are alike.
pub(super) fn alike(samples: &[f64]) -> bool {
    let Some(from) = samples.len().checked_sub(3 * WINDOW) else { return false };
    let medians: Vec<_> = samples[from..].chunks(WINDOW).map(statistics::median).collect();
    statistics::quantile(&medians, 1.0) <= statistics::quantile(&medians, 0.0) * ALIKE
}
