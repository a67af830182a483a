//! Turns a parsed request into one for the scheduler: the model it names, its signature, its restrictions, its time.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Api, FRAME_MAX, models, plans};
use crate::{
    domain::{Caller, Code, Failure, ModelName, PlanId, Policy, Retry},
    models::Entry,
    protocol::client::{FallbackPolicy, Parameters, ParsedInfer, Told},
    scheduler::{Accepted, Answer, Permit, Request, Submitted, Wants},
    telemetry::Origin,
};

/// How the outputs of one request travel.
pub(super) struct Form {
    all_binary: bool,
    binary: Vec<(String, bool)>,
}

impl Form {
    pub(super) fn binary(&self, output: &str) -> bool {
        let named = self.binary.iter().find(|(name, _)| name == output);
        named.map_or(self.all_binary, |(_, binary)| *binary)
    }
}

/// A request that does not fit is counted, since nothing further will see it.
/// What it asks for is looked up unless that has been found.
pub(super) fn request(
    parsed: ParsedInfer,
    found: Option<Arc<Entry>>,
    caller: Caller,
    origin: Origin,
    api: &Arc<Api>,
) -> Result<(Request, Form), Failure> {
    checked(parsed, found, caller, origin, api).inspect_err(|failure| api.metrics.refused(None, failure.code))
}

fn checked(
    parsed: ParsedInfer,
    found: Option<Arc<Entry>>,
    caller: Caller,
    origin: Origin,
    api: &Arc<Api>,
) -> Result<(Request, Form), Failure> {
    let accepted = Accepted::now();
    let entry = match found {
        Some(entry) => entry,
        None => models::find_version(api, &parsed.model, parsed.version.as_deref())?,
    };
    entry.check_usable()?;
    let signature = &entry.model.signature;
    let binding = signature.bind(&parsed.inputs)?;
    let outputs: Vec<_> = parsed.outputs.iter().map(|(name, _)| name.clone()).collect();
    signature.check_outputs(&outputs)?;
    if let Some(twice) = outputs.iter().enumerate().find(|(at, name)| outputs[..*at].contains(name)) {
        return Err(Failure::invalid(format!("output {:?} is asked for twice", twice.1)));
    }
    let parameters = &parsed.parameters;
    let under = plans::wanted(api, &entry, parameters)?;
    let (backends, browsers) = (parameters.backends(), parameters.browsers());
    let restricted = !backends.is_empty() || !browsers.is_empty();
    let policy = match parameters.plan.as_deref() {
        None | Some(PlanId::SINGLE) => parameters.policy.unwrap_or(api.policy),
        Some(_) => plans::policy(api),
    };
    check_pin(policy, parameters, restricted)?;
    let wants = Wants {
        policy,
        backends,
        browsers,
        native_fallback: policy != Policy::Pin && native_fallback(parameters.fallback, restricted),
        strict: parameters.strict,
        lease: parameters.lease.clone(),
        ..Wants::default()
    };
    let form = Form {
        all_binary: parameters.binary_data_output,
        binary: parsed.outputs.iter().filter_map(|(name, binary)| Some((name.clone(), (*binary)?))).collect(),
    };
    let request = Request {
        inputs: parsed.inputs,
        outputs,
        binding,
        wants,
        priority: parameters.priority,
        sequence: parameters.sequence()?,
        under,
        caller,
        accepted,
        trace: origin.trace(entry.model.name.as_str()),
        deadline: accepted.at + parameters.timeout().unwrap_or(*api.timeout.borrow()),
        entry,
    };
    Ok((request, form))
}

/// Submits a request and waits for its answer; whoever stops waiting has cancelled it.
pub(super) async fn answered(api: &Api, request: Request, permit: Permit) -> Result<Answer, Failure> {
    let (reply, replied) = oneshot::channel();
    let submitted =
        api.scheduler.submit(request, permit, Box::new(move |result| drop(reply.send(result))))?;
    let leaving = Leaving(Some(submitted));
    let answer = replied.await.unwrap_or_else(|_| Err(unanswered()));
    leaving.stayed();
    answer
}

/// Cancels the request when the client has left, by which this is dropped.
struct Leaving(Option<Submitted>);

impl Leaving {
    fn stayed(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(submitted) = self.0.take() {
            submitted.cancel();
        }
    }
}

fn unanswered() -> Failure {
    Failure::new(Code::Internal, Retry::Same, "the scheduler dropped the request")
}

/// What `answer` tells, as every protocol tells it.
pub(super) fn told<'a>(id: Option<&'a str>, model: &'a ModelName, answer: &'a Answer) -> Told<'a> {
    let Answer { run, request, outputs, provenance, timing } = answer;
    Told { id, model, outputs, run, request, provenance, timing: *timing }
}

/// The size of an answer, when it may be sent.
pub(super) fn fits(size: usize) -> Result<u32, Failure> {
    let fitting = u32::try_from(size).ok().filter(|_| size <= FRAME_MAX);
    fitting.ok_or_else(|| {
        let message = format!("the answer is over the limit of {FRAME_MAX} bytes");
        Failure::new(Code::TooLarge, Retry::Never, message)
    })
}

/// Whoever pins a request says where to, and allows nothing else.
fn check_pin(policy: Policy, parameters: &Parameters, restricted: bool) -> Result<(), Failure> {
    if policy != Policy::Pin {
        return Ok(());
    }
    if !restricted && parameters.lease.is_none() {
        return Err(Failure::invalid("the policy pin wants a backend, a browser or a lease to be named"));
    }
    if parameters.fallback == Some(FallbackPolicy::Native) {
        return Err(Failure::invalid("the policy pin allows no fallback"));
    }
    Ok(())
}

/// By default a caller who names where to run wants nothing else.
fn native_fallback(asked: Option<FallbackPolicy>, restricted: bool) -> bool {
    match asked {
        Some(policy) => policy == FallbackPolicy::Native,
        None => !restricted,
    }
}
