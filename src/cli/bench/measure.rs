//! Measures a suite's cells: those of a model in turns of random order, so that what disturbs the machine disturbs all.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::{
    super::{client::Client, models, output},
    asked::{Asking, Known, off},
    cold::Freezer,
    places::Leases,
    print,
    server::{Measured, Offer},
    socket::{Answer, Ask, Refused, Socket},
    suites::Found,
};
use crate::{
    bench::{Cell, Outcome, Place, Scenario, State, Varied, Wanted, statistics},
    domain::{BackendKind, ModelName, Provenance, Tensor},
};

/// A cell's turn ends after this long; each has several, between those of others.
const TURN: Duration = Duration::from_millis(250);

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
    /// What each model is asked and must answer, by its place in the suite.
    pub(super) known: BTreeMap<usize, Knowledge>,
    /// A model that was unloaded to be loaded anew, until it is.
    pub(super) unloaded: Option<ModelName>,
}

type Knowledge = Arc<(Arc<Vec<Vec<Tensor>>>, Known)>;

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
                browser: wanted.browser.clone(),
                backend: wanted.backend.clone(),
                scenario: wanted.scenario,
                varied: wanted.varied.clone(),
                state,
                error: None,
                tolerance: suite.models[wanted.model].tolerance,
                samples_us: Vec::new(),
                warm_up_us: Vec::new(),
                warm: false,
                provenance: None,
                served: None,
                cold: Vec::new(),
                beside: Vec::new(),
                alone_us: Vec::new(),
                memory: Vec::new(),
            }
        });
        let (ends, cells) = (Instant::now() + suite.budget, cells.collect());
        Self { client, found, leases, ends, cells, known: BTreeMap::new(), unloaded: None }
    }

    /// Whether every cell had its turn.
    pub(super) fn is_complete(&self) -> bool {
        self.cells.iter().all(|cell| cell.state.outcome != Outcome::TimedOut)
    }

    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        let mut socket = Socket::open(self.client).await?;
        for model in 0..self.found.suite.models.len() {
            let pending = |at: &usize| {
                let wanted = self.wanted(*at);
                wanted.model == model
                    && wanted.scenario != Scenario::Concurrent
                    && self.cells[*at].state.outcome == Outcome::TimedOut
            };
            let cells: Vec<_> = (0..self.cells.len()).filter(pending).collect();
            if !cells.is_empty() && Instant::now() < self.ends {
                self.model(&mut socket, model, cells).await?;
            }
        }
        self.concurrent(&mut socket).await
    }

    pub(super) fn wanted(&self, at: usize) -> &'a Wanted {
        &self.found.suite.cells[at]
    }

    /// Has the daemon know the model, and knows what it natively answers; says whether these cells may be measured.
    pub(super) async fn know(
        &mut self,
        socket: &mut Socket,
        model: usize,
        cells: &[usize],
    ) -> anyhow::Result<bool> {
        let inputs = self.found.inputs(&self.found.suite.models[model].inputs)?.tensors()?;
        let inputs = Arc::new(inputs);
        self.add(model).await?;
        match self.natively(socket, model, &inputs).await? {
            Ok(known) => {
                self.known.insert(model, Arc::new((inputs, known)));
                Ok(true)
            }
            Err(Refused { code, message }) => {
                let reason = format!("the native lane gives nothing to compare with: {code}: {message}");
                for at in cells {
                    self.ended(*at, Outcome::Failed, Some(reason.clone()));
                }
                Ok(false)
            }
        }
    }

    pub(super) fn asking(&self, at: usize, inputs: &Arc<Vec<Vec<Tensor>>>) -> Asking {
        let wanted = self.wanted(at);
        let subject = &self.found.suite.models[wanted.model];
        Asking::new(subject, wanted, inputs, self.leases.of(&wanted.browser))
    }

    async fn model(&mut self, socket: &mut Socket, model: usize, cells: Vec<usize>) -> anyhow::Result<()> {
        if !self.know(socket, model, &cells).await? {
            return Ok(());
        }
        let knowledge = self.known[&model].clone();
        let (inputs, known) = &*knowledge;
        let (mut open, mut cold) = (Vec::new(), Vec::new());
        for at in cells {
            if Instant::now() < self.ends && self.load(at).await {
                let (asking, scenario) = (self.asking(at, inputs), self.wanted(at).scenario);
                if scenario == Scenario::ColdStart {
                    cold.push(at);
                    continue;
                }
                let asks = asking.asks(scenario.at_once());
                let mut cell = Open { at, asking, asks, next: 0, spent: Duration::ZERO };
                if self.warm_up(socket, &mut cell, known).await? {
                    open.push(cell);
                }
            }
        }
        let (turns, mut alone) =
            open.into_iter().partition(|open: &Open| self.wanted(open.at).scenario.takes_turns());
        self.turns(socket, turns, known).await?;
        alone.shuffle(&mut rand::rng());
        for mut cell in alone {
            match self.wanted(cell.at).scenario {
                Scenario::Soak => self.soak(socket, &mut cell, known).await?,
                _ => self.serve(&cell, known).await?,
            }
        }
        self.starts(model, cold, &knowledge).await
    }

    /// Measures a model's cold starts, for which browsers hold nothing else of the suite.
    async fn starts(&mut self, model: usize, cells: Vec<usize>, knowledge: &Knowledge) -> anyhow::Result<()> {
        if cells.is_empty() {
            return Ok(());
        }
        for earlier in &self.found.suite.models[..model] {
            // What is kept natively is loaded by no browser that starts.
            self.load_natively(&earlier.name).await?;
        }
        let (inputs, known) = &**knowledge;
        for at in cells {
            if Instant::now() < self.ends {
                self.cold_starts(&Freezer { at, inputs, known }).await?;
                self.readmit().await?;
            }
        }
        Ok(())
    }

    async fn load_natively(&self, model: &ModelName) -> anyhow::Result<()> {
        let native = json!({"browser": ["native"], "backend": [BackendKind::ort_cpu()]});
        self.client.post(&format!("/api/v1/models/{model}/load"), &native).await.map(drop)
    }

    /// Has a model that a cold start left unloaded serve again.
    pub(super) async fn readmit(&mut self) -> anyhow::Result<()> {
        match self.unloaded.take() {
            Some(model) => self.load_natively(&model).await,
            None => Ok(()),
        }
    }

    /// Measures cells in turns until each has had enough.
    async fn turns(&mut self, socket: &mut Socket, mut open: Vec<Open>, known: &Known) -> anyhow::Result<()> {
        while !open.is_empty() && Instant::now() < self.ends {
            open.shuffle(&mut rand::rng());
            let mut still = Vec::new();
            for mut cell in open {
                if self.turn(socket, &mut cell, known).await? {
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

    /// Has the daemon know the model.
    async fn add(&mut self, model: usize) -> anyhow::Result<()> {
        let subject = &self.found.suite.models[model];
        let path = format!("/api/v1/models/{}", subject.name);
        let shown = match self.client.get(&path).await {
            Ok(shown) => shown,
            Err(absent) => {
                let Some(source) = &subject.source else { return Err(absent) };
                output::progress(&format!("adding {}", subject.name));
                models::bring(self.client, &self.found.source(source), subject.name.as_str()).await?;
                self.client.get(&path).await?
            }
        };
        let digest = serde_json::from_value(shown["digest"].clone()).context("a model's digest")?;
        for cell in self.cells.iter_mut().filter(|cell| cell.model == subject.name) {
            cell.model_digest = Some(digest);
        }
        Ok(())
    }

    /// What the native lane answers, which the others are compared with.
    async fn natively(
        &self,
        socket: &mut Socket,
        model: usize,
        inputs: &Arc<Vec<Vec<Tensor>>>,
    ) -> anyhow::Result<Result<Known, Refused>> {
        let subject = &self.found.suite.models[model];
        let native = Wanted {
            model,
            browser: "native".to_owned(),
            backend: BackendKind::ort_cpu(),
            scenario: Scenario::SingleStream,
            varied: Varied::default(),
            excluded: None,
        };
        let mut answers = Vec::new();
        for ask in Asking::new(subject, &native, inputs, None).asks(1) {
            match socket.ask(&[ask]).await?.0 {
                Ok(answer) => answers.extend(answer.into_iter().map(|answer| answer.outputs)),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        Ok(Ok(Known(answers)))
    }

    /// Loads the model into the cell's lane, which proves it there; says whether it may be measured.
    pub(super) async fn load(&mut self, at: usize) -> bool {
        let wanted = self.wanted(at);
        if wanted.backend.is_native() {
            return true;
        }
        let name = &self.cells[at].model;
        output::progress(&format!("loading {name} into {}/{}", wanted.browser, wanted.backend));
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
    async fn warm_up(&mut self, socket: &mut Socket, open: &mut Open, known: &Known) -> anyhow::Result<bool> {
        let limits = &self.found.suite.limits;
        let started = Instant::now();
        let most = limits.time / WARM_UP_SHARE;
        loop {
            let Some(sample) = self.sample(socket, open, known).await? else { return Ok(false) };
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
    async fn turn(&mut self, socket: &mut Socket, open: &mut Open, known: &Known) -> anyhow::Result<bool> {
        let limits = &self.found.suite.limits;
        let started = Instant::now();
        loop {
            let Some(sample) = self.sample(socket, open, known).await? else { return Ok(false) };
            let samples = &mut self.cells[open.at].samples_us;
            samples.push(sample);
            if samples.len() >= limits.samples_max || started.elapsed() >= TURN {
                break;
            }
        }
        open.spent += started.elapsed();
        let samples = &self.cells[open.at].samples_us;
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
        known: &Known,
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
        let cell = &mut self.cells[open.at];
        match off(known, &answers, cell.tolerance) {
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
            _ => compute(&answers[0].parameters)?,
        }))
    }

    /// Has requests arrive at the cell's rate, for which it has its lane to itself.
    async fn serve(&mut self, open: &Open, known: &Known) -> anyhow::Result<()> {
        let suite = &self.found.suite;
        let rate = self.wanted(open.at).varied.rate.context("a cell of this scenario has a rate")?;
        let within = suite.scenarios.server.as_ref().and_then(|server| server.within);
        let offer =
            Offer::new(rate, &suite.limits, self.ends.saturating_duration_since(Instant::now()), SEED);
        let tolerance = self.cells[open.at].tolerance;
        let measured = offer.make(self.client, &open.asking, (known, tolerance), within).await?;
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
