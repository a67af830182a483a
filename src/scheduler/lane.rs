//! What the actor knows of one lane.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::watch, time::Instant};
use utoipa::ToSchema;

use super::{
    Wants,
    latency::{Expected, PeakMean},
};
use crate::{
    backend::{Backend, SessionName},
    domain::{
        BackendKind, Code, Digest, DimBinding, Environment, Failure, LaneId, LaneMemory, LoadTiming,
        Placement, Policy, VerdictStatus,
    },
    models::Held,
};

/// One step computes while the next one's tensors travel.
pub(super) const DEPTH: usize = 2;

pub(super) struct Lane {
    pub(super) backend: Arc<dyn Backend>,
    /// Steps under way.
    pub(super) running: usize,
    /// Requests in them.
    pub(super) requests: usize,
    pub(super) sessions: BTreeMap<SessionName, SessionState>,
    /// Sessions that are loaded once their models' files are here.
    pub(super) awaited: BTreeSet<SessionName>,
    /// Loaded models and plans' spares that it was given: the last to go when room is wanted.
    pub(super) kept: BTreeSet<Digest>,
    /// Microseconds that a request has the lane to itself, or its part of a step's, per model.
    latency: BTreeMap<Digest, PeakMean>,
    /// Which start of a step was its latest, counted over all lanes.
    pub(super) last_start: u64,
    pub(super) since: Instant,
    /// Why it takes nothing more: it is to be recycled once it is empty.
    pub(super) draining: Option<String>,
    told: Option<watch::Receiver<LaneMemory>>,
    /// What it held when we last looked.
    seen: LaneMemory,
}

pub(super) enum SessionState {
    /// Being loaded and, if need be, proven.
    Preparing,
    /// Being prepared, but for a model that has been forgotten or changed since.
    Stale,
    Ready {
        placement: Placement,
        verdict: VerdictStatus,
        used: Instant,
        /// What it is thought to hold.
        memory: LaneMemory,
        load: LoadTiming,
        /// The model's files, which stay as long as it does.
        _held: Held,
    },
    /// Not to be used, until then or ever.
    Refused { failure: Failure, until: Option<Instant> },
}

/// Where a session stands for one request.
pub(super) enum Standing<'a> {
    Absent,
    Preparing,
    Ready,
    Refused(&'a Failure),
    /// Runs on several execution providers, and the request is strict.
    Mixed,
}

impl Lane {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            told: backend.memory(),
            backend,
            running: 0,
            requests: 0,
            sessions: BTreeMap::new(),
            awaited: BTreeSet::new(),
            kept: BTreeSet::new(),
            latency: BTreeMap::new(),
            last_start: 0,
            since: Instant::now(),
            draining: None,
            seen: LaneMemory::default(),
        }
    }

    pub(super) fn environment(&self) -> &Environment {
        self.backend.environment()
    }

    pub(super) fn native(&self) -> bool {
        self.environment().backend.is_native()
    }

    /// Whether a caller's restrictions leave this lane in.
    pub(super) fn named(&self, wants: &Wants) -> bool {
        let environment = self.environment();
        wants.leaves_in(&environment.instance, &environment.browser, &environment.backend)
    }

    /// Whether it may stand in for a browser's lane that a request wants.
    pub(super) fn stands_in(&self, wants: &Wants) -> bool {
        !self.native() && !self.unasked(wants) && !self.named(wants)
    }

    /// Whether it may answer natively for the lanes that a request wants.
    pub(super) fn falls_back(&self, wants: &Wants) -> bool {
        self.native() && !self.unasked(wants)
    }

    /// Whether its adapter is a software one that nobody asked for.
    fn unasked(&self, wants: &Wants) -> bool {
        let environment = self.environment();
        environment.software_adapter() && !wants.backends.contains(&environment.backend)
    }

    /// Whether it serves a request with these restrictions.
    /// Where browsers come first, native lanes are the fallback of a request that names nothing; and software adapters
    /// prove correctness rather than serve, unless their backend is asked for.
    pub(super) fn admitted(&self, wants: &Wants) -> bool {
        let software = self.environment().software_adapter() && unnamed(wants);
        let fallback = wants.policy == Policy::BrowserFirst && wants.any() && self.native();
        self.named(wants) && !software && !fallback
    }

    /// Whether a model that is loaded for these restrictions is held here; natively too, unless other lanes are named.
    pub(super) fn holds_for(&self, wants: &Wants) -> bool {
        self.named(wants) && !(self.environment().software_adapter() && unnamed(wants))
    }

    /// The session that a request needs here: WebNN compiles its graph for fixed dimensions.
    pub(super) fn session_name(&self, model: Digest, binding: &DimBinding) -> SessionName {
        let fixed = self.environment().backend == BackendKind::Webnn;
        SessionName { model, shapes: if fixed { binding.clone() } else { DimBinding::new() } }
    }

    pub(super) fn standing(&self, session: &SessionName, strict: bool, now: Instant) -> Standing<'_> {
        match self.sessions.get(session) {
            None if self.awaited.contains(session) => Standing::Preparing,
            None => Standing::Absent,
            Some(SessionState::Preparing | SessionState::Stale) => Standing::Preparing,
            Some(SessionState::Ready { placement, .. }) if strict && placement.len() > 1 => Standing::Mixed,
            Some(SessionState::Ready { .. }) => Standing::Ready,
            Some(SessionState::Refused { until: Some(until), .. }) if *until <= now => Standing::Absent,
            Some(SessionState::Refused { failure, .. }) => Standing::Refused(failure),
        }
    }

    pub(super) fn measured(&mut self, model: Digest, took: Duration, now: Instant) {
        let micros = took.as_micros() as f64;
        let latency = self.latency.entry(model).or_insert_with(|| PeakMean::new(micros, now));
        latency.measured(micros, now);
    }

    /// Microseconds that a request, or its part of a step, is expected to take on average.
    pub(super) fn service(&self, model: Digest, expected: Expected<'_>) -> f64 {
        let measured = self.latency.get(&model).map(PeakMean::mean);
        measured.unwrap_or_else(|| expected.of(self.environment()))
    }

    /// Expected microseconds until one more request is answered, a slow one of late taken into account.
    pub(super) fn expected(&self, model: Digest, expected: Expected<'_>, now: Instant) -> f64 {
        let measured = self.latency.get(&model).map(|latency| latency.expected(now));
        measured.unwrap_or_else(|| expected.of(self.environment())) * (self.requests + 1) as f64
    }

    /// What a step of the model takes here.
    pub(super) fn pace(&self, model: Digest) -> Pace {
        let step_us = self.latency.get(&model).map(PeakMean::mean);
        Pace { environment: self.environment().clone(), step_us, memory_max: self.backend.memory_max() }
    }

    /// What it holds, where that is known.
    pub(super) fn memory(&self) -> Option<LaneMemory> {
        self.told.as_ref().map(|told| *told.borrow())
    }

    /// What a session is thought to hold after its load: at least its file, which a heap with room in it hides.
    pub(super) fn footprint(&self, grown: LaneMemory, file: u64) -> LaneMemory {
        if self.environment().backend.on_gpu() {
            return grown;
        }
        LaneMemory { wasm_bytes: grown.wasm_bytes.max(file), ..grown }
    }

    /// Puts what the lane has grown by since the last look down to the session that ran.
    pub(super) fn ran(&mut self, session: &SessionName) {
        let grown = self.look();
        if let Some(SessionState::Ready { memory, .. }) = self.sessions.get_mut(session) {
            *memory = memory.plus(grown);
        }
    }

    /// What it has grown by since the last look.
    pub(super) fn look(&mut self) -> LaneMemory {
        let now = self.memory().unwrap_or_default();
        now.less(std::mem::replace(&mut self.seen, now))
    }

    /// The loads that it had no room for, though nothing else was left to go.
    pub(super) fn outgrown(self) -> Vec<(SessionName, SessionState)> {
        let no_room = |(_, state): &(_, SessionState)| match state {
            SessionState::Refused { failure, .. } => failure.code == Code::OutOfMemory,
            SessionState::Preparing | SessionState::Stale | SessionState::Ready { .. } => false,
        };
        self.sessions.into_iter().filter(no_room).collect()
    }

    /// Takes note that a model's session is to stay, once it is at least being loaded.
    pub(super) fn keep(&mut self, session: &SessionName) {
        if self.sessions.contains_key(session) {
            self.kept.insert(session.model);
        }
    }

    /// Sessions that it has or is about to have.
    pub(super) fn held(&self) -> usize {
        self.sessions.len() + self.awaited.iter().filter(|name| !self.sessions.contains_key(name)).count()
    }

    pub(super) fn preparing(&self) -> usize {
        let under_way =
            |state: &&SessionState| matches!(state, SessionState::Preparing | SessionState::Stale);
        self.sessions.values().filter(under_way).count()
    }

    /// What to drop when more than `most` are kept: a refusal, else the session used longest ago, loaded models' last.
    /// The one used last stays: somebody waits for it.
    pub(super) fn surplus(&self, most: usize) -> Option<SessionName> {
        if self.sessions.len() - self.preparing() <= most {
            return None;
        }
        let refusal = |(_, state): &(_, &SessionState)| matches!(state, SessionState::Refused { .. });
        if let Some((name, _)) = self.sessions.iter().find(refusal) {
            return Some(name.clone());
        }
        let mut ready: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|(name, state)| match state {
                SessionState::Ready { used, .. } => Some((*used, name)),
                SessionState::Refused { .. } | SessionState::Preparing | SessionState::Stale => None,
            })
            .collect();
        ready.sort();
        ready.pop();
        ready
            .into_iter()
            .min_by_key(|(used, name)| (self.kept.contains(&name.model), *used))
            .map(|(_, name)| name.clone())
    }

    /// Its sessions that `of` picks, as the API shows them.
    pub(super) fn session_loads(
        &self,
        of: impl Fn(&SessionName) -> bool,
    ) -> impl Iterator<Item = SessionLoad> {
        self.sessions.iter().filter(move |(name, _)| of(name)).map(|(name, state)| {
            let session = name.to_string();
            let nothing = SessionLoad {
                session,
                state: "preparing",
                placement: None,
                memory: None,
                load: None,
                reason: None,
            };
            match state {
                SessionState::Preparing | SessionState::Stale => nothing,
                SessionState::Ready { placement, verdict, memory, load, .. } => SessionLoad {
                    state: verdict.as_str(),
                    placement: Some(placement.clone()),
                    memory: self.told.is_some().then_some(*memory),
                    load: Some(load.clone()),
                    ..nothing
                },
                SessionState::Refused { failure, .. } => {
                    SessionLoad { state: "refused", reason: Some(failure.to_string()), ..nothing }
                }
            }
        })
    }

    pub(super) fn load(&self) -> LaneLoad {
        LaneLoad {
            lane: self.environment().lane.clone(),
            running: self.running,
            draining: self.draining.clone(),
            sessions: self.session_loads(|_| true).collect(),
        }
    }
}

/// Whether a request names no backend, nor a lane, which has one.
fn unnamed(wants: &Wants) -> bool {
    wants.backends.is_empty() && wants.lanes.is_empty()
}

/// What a step of a model takes in a lane.
#[derive(Clone, Debug)]
pub struct Pace {
    pub environment: Environment,
    /// Microseconds on average, its transfer included; none where it has not run.
    pub step_us: Option<f64>,
    /// The bytes that its heap can grow to; none natively.
    pub memory_max: Option<u64>,
}

/// A lane's load as the API shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LaneLoad {
    pub lane: LaneId,
    pub running: usize,
    /// Why it takes nothing more, when it is about to be recycled.
    pub draining: Option<String>,
    pub sessions: Vec<SessionLoad>,
}

impl LaneLoad {
    /// What a lane that serves is doing.
    pub fn state(&self) -> &'static str {
        if self.running > 0 {
            "executing"
        } else if self.sessions.iter().any(|session| session.state == "preparing") {
            "loading"
        } else {
            "ready"
        }
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SessionLoad {
    pub session: String,
    pub state: &'static str,
    #[schema(value_type = Option<BTreeMap<String, u64>>)]
    pub placement: Option<Placement>,
    /// What it is thought to hold: what its load and its steps made the lane grow by.
    pub memory: Option<LaneMemory>,
    pub load: Option<LoadTiming>,
    pub reason: Option<String>,
}
