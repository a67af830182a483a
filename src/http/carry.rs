//! Carries one input through a model, or through several together: reads it, asks the scheduler, reads what it answers.
//!
//! Each ask is a request as any other, with its own row, verdict and provenance.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use utoipa::ToSchema;

use super::{Api, infer};
use crate::{
    domain::{Caller, Code, Digest, Failure, ModelName, Provenance, RequestId, Retry, RunId, Timing},
    modality::{Ask, Dialogue, Finding, ModalityError, Part, Turn},
    models::Entry,
    protocol::client::{Parameters, ParsedInfer},
    scheduler::Answer,
    telemetry::Origin,
};

/// How many inputs are read at once: it takes whole cores, and an image's pixels take memory.
pub struct Readers(Semaphore);

impl Default for Readers {
    fn default() -> Self {
        Self(Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)))
    }
}

/// Whose input is carried through what.
pub(super) struct Order {
    pub(super) api: Arc<Api>,
    /// By the parts that a dialogue names.
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) parameters: Parameters,
    pub(super) caller: Caller,
    pub(super) origin: Origin,
}

#[derive(Debug)]
pub(super) struct Carried {
    pub(super) findings: Vec<Finding>,
    pub(super) computed: Vec<Computed>,
}

/// Where requests for an answer were computed: those of one model in one lane together
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Computed {
    model: ModelName,
    model_version: Digest,
    /// How many.
    requests: u64,
    /// The first one's run and request.
    run: RunId,
    request: RequestId,
    /// The first one's.
    provenance: Provenance,
    /// The sums of all.
    timing_us: Timing,
}

impl Order {
    /// Carries what `begin` begins to its end, within the caller's time.
    pub(super) async fn carry(
        self,
        bytes: usize,
        begin: impl FnOnce() -> Result<Box<dyn Dialogue>, ModalityError> + Send + 'static,
    ) -> Result<Carried, Failure> {
        let given = self.parameters.timeout().unwrap_or(*self.api.timeout.borrow());
        let deadline = Instant::now() + given;
        match timeout_at(deadline, self.carry_on(deadline, bytes, begin)).await {
            Ok(carried) => carried,
            Err(_) => Err(too_late(given)),
        }
    }

    async fn carry_on(
        &self,
        deadline: Instant,
        bytes: usize,
        begin: impl FnOnce() -> Result<Box<dyn Dialogue>, ModalityError> + Send + 'static,
    ) -> Result<Carried, Failure> {
        // The input counts as pending until its tensors do.
        let permit = self.api.scheduler.admit(&self.caller, bytes)?;
        let mut dialogue = self.read(begin).await?;
        let (mut computed, mut answers) = (Vec::new(), Vec::new());
        let mut permit = Some(permit);
        loop {
            let (next, turn) = self
                .read(move || {
                    let turn = dialogue.turn(answers)?;
                    Ok((dialogue, turn))
                })
                .await?;
            dialogue = next;
            drop(permit.take());
            match turn {
                Turn::Done(findings) => return Ok(Carried { findings, computed }),
                Turn::Ask(asks) => {
                    let all = try_join_all(asks.into_iter().map(|ask| self.ask(deadline, ask))).await?;
                    answers = Vec::with_capacity(all.len());
                    for (part, answer) in all {
                        count(&mut computed, &self.entries[part.0], &answer);
                        answers.push(answer.outputs);
                    }
                }
            }
        }
    }

    /// Works on a thread that may be kept busy.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ModalityError> + Send + 'static,
    ) -> Result<T, Failure> {
        let _place = self.api.readers.0.acquire().await.expect("the places are never closed");
        let done = tokio::task::spawn_blocking(work).await.map_err(|_| {
            // What a library makes of an input that nobody has tried it with.
            Failure::new(Code::Internal, Retry::Never, "the input made its reader panic")
        })?;
        done.map_err(|error| {
            let failure = Failure::from(error);
            self.api.metrics.refused(None, failure.code);
            failure
        })
    }

    async fn ask(&self, deadline: Instant, ask: Ask) -> Result<(Part, Answer), Failure> {
        let entry = &self.entries[ask.part.0];
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        let parsed = ParsedInfer {
            id: String::new(),
            model: entry.model.name.clone(),
            version: None,
            outputs: ask.outputs.into_iter().map(|output| (output, None)).collect(),
            parameters: Parameters { timeout: left.as_micros() as u64, ..self.parameters.clone() },
            inputs: ask.inputs,
        };
        let bytes = parsed.inputs.iter().map(|tensor| tensor.body.len()).sum();
        let permit = self.api.scheduler.admit(&self.caller, bytes)?;
        let origin = self.origin.part(None, None);
        let (request, _) =
            infer::request(parsed, Some(entry.clone()), self.caller.clone(), origin, &self.api)?;
        Ok((ask.part, infer::answered(&self.api, request, permit).await?))
    }
}

fn too_late(given: Duration) -> Failure {
    let message = format!("the answer took longer than the {} s that were given", given.as_secs_f64());
    Failure::new(Code::DeadlineExceeded, Retry::Same, message)
}

fn count(computed: &mut Vec<Computed>, entry: &Entry, answer: &Answer) {
    let alike = |known: &&mut Computed| {
        let (known, new) = (&known.provenance, &answer.provenance);
        (known.model_digest, &known.lane, known.verdict, &known.fallback)
            == (new.model_digest, &new.lane, new.verdict, &new.fallback)
    };
    let Answer { run, request, provenance, timing, .. } = answer;
    let Some(known) = computed.iter_mut().find(alike) else {
        computed.push(Computed {
            model: entry.model.name.clone(),
            model_version: entry.model.digest,
            requests: 1,
            run: run.clone(),
            request: request.clone(),
            provenance: provenance.clone(),
            timing_us: *timing,
        });
        return;
    };
    known.requests += 1;
    let sum = &mut known.timing_us;
    sum.queue += timing.queue;
    sum.transfer += timing.transfer;
    sum.decode += timing.decode;
    sum.compute += timing.compute;
    sum.encode += timing.encode;
    sum.total += timing.total;
}
