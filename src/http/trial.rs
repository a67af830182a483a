//! Requests that the daemon makes by itself, of the inputs that a model is judged by: to prove plans and to compare them.

use std::sync::Arc;

use axum::http::HeaderMap;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{Api, infer, models, plans};
use crate::{
    bench::statistics::median,
    domain::{Caller, Costs, DimBinding, Failure, Tensor},
    models::Entry,
    planner::Objective,
    scheduler::{Accepted, Answer, PRIORITY_LAST, Planned, Request, Under, Wants},
    telemetry::Origin,
};

/// What each of two takes is measured so often: their medians are then of nine pairs, of which four may be disturbed.
const ROUNDS: usize = 9;

/// Requests that are asked at once, whatever the objective says: as many as a caller has under way by itself.
const AT_ONCE_MAX: u32 = 64;

/// Whom trials are charged to, as nobody asked for them.
const CALLER: &str = "review";

/// Whoever asks, and how urgently.
pub(super) struct Trial<'a> {
    pub(super) api: &'a Arc<Api>,
    pub(super) whole: &'a Arc<Entry>,
    pub(super) caller: Caller,
    pub(super) origin: Origin,
    pub(super) priority: u32,
}

/// Under what a model is asked: a plan, or as the whole where that stands.
pub(super) type Side = Option<Arc<Planned>>;

impl<'a> Trial<'a> {
    /// One behind all that others ask.
    pub(super) fn in_nobodys_way(api: &'a Arc<Api>, whole: &'a Arc<Entry>) -> Self {
        let (caller, origin) = (Caller { id: CALLER.into(), weight: 1 }, Origin::of(&HeaderMap::new()));
        Self { api, whole, caller, origin, priority: PRIORITY_LAST }
    }

    pub(super) async fn ask(&self, inputs: Vec<Tensor>, side: &Side) -> Result<Answer, Failure> {
        let bytes = inputs.iter().map(|tensor| tensor.body.len()).sum();
        let permit = self.api.scheduler.admit(&self.caller, bytes)?;
        let (under, wants) = match side {
            Some(planned) => (Under::Plan(planned.clone()), Wants::default()),
            None => (Under::Single, plans::whole_wants(self.api)),
        };
        let request = Request {
            entry: self.whole.clone(),
            binding: self.whole.model.signature.bind(&inputs)?,
            inputs,
            outputs: Vec::new(),
            wants,
            priority: self.priority,
            caller: self.caller.clone(),
            accepted: Accepted::now(),
            deadline: Instant::now() + models::PROVE_WITHIN,
            trace: self.origin.part(None, None).trace(self.whole.model.name.as_str()),
            sequence: None,
            under,
        };
        infer::answered(self.api, request, permit).await
    }

    /// What each of two takes by the objective, in turns of random order: the medians.
    pub(super) async fn compare(
        &self,
        standing: &Side,
        candidate: &Side,
        objective: Objective,
    ) -> Result<Costs, Failure> {
        let inputs = self.whole.gate_inputs(&DimBinding::new());
        let sides = [standing, candidate];
        for side in sides {
            // Whatever is still to be loaded is not what it takes.
            self.round(side, &inputs, 0, objective).await?;
        }
        let mut samples = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            let first = usize::from(rand::random::<bool>());
            for at in [first, 1 - first] {
                samples[at].push(self.round(sides[at], &inputs, round, objective).await?);
            }
        }
        let [standing, candidate] = samples.map(|samples| Some(median(&samples)));
        Ok(Costs { standing, candidate })
    }

    /// Microseconds that the objective judges by.
    async fn round(
        &self,
        side: &Side,
        inputs: &[Vec<Tensor>],
        round: usize,
        objective: Objective,
    ) -> Result<f64, Failure> {
        let at_once = at_once(objective);
        let asked = (0..at_once).map(|at| inputs[(round + at) % inputs.len()].clone());
        let begun = Instant::now();
        try_join_all(asked.map(|inputs| self.ask(inputs, side))).await?;
        let took = begun.elapsed().as_secs_f64() * 1e6;
        Ok(match objective {
            Objective::Throughput { .. } => took / at_once as f64,
            Objective::Latency | Objective::Memory | Objective::Stream { .. } => took,
        })
    }
}

fn at_once(objective: Objective) -> usize {
    match objective {
        Objective::Latency | Objective::Memory => 1,
        Objective::Throughput { in_flight: many } | Objective::Stream { requests: many } => {
            many.clamp(1, AT_ONCE_MAX) as usize
        }
    }
}
