//! Turns a parsed request into one for the scheduler: the model it names, its signature, its restrictions, its time.

use tokio::time::Instant;

use super::{Api, models};
use crate::{
    domain::{Caller, Code, Digest, Failure, Policy, Retry},
    protocol::client::{FallbackPolicy, Parameters, ParsedInfer},
    scheduler::{Accepted, Request, Wants},
    tasks,
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

pub(super) fn request(parsed: ParsedInfer, caller: Caller, api: &Api) -> Result<(Request, Form), Failure> {
    let accepted = Accepted { at: Instant::now(), at_us: tasks::now_us() };
    let entry = api.registry.get(&parsed.model).ok_or_else(|| models::unknown(parsed.model.as_str(), api))?;
    if let Some(version) = &parsed.version
        && version.parse::<Digest>() != Ok(entry.model.digest)
    {
        let message = format!("model {} has version {}, not {version}", parsed.model, entry.model.digest);
        return Err(Failure::new(Code::UnknownModel, Retry::Never, message));
    }
    let signature = &entry.model.signature;
    let binding = signature.bind(&parsed.inputs)?;
    let outputs: Vec<_> = parsed.outputs.iter().map(|(name, _)| name.clone()).collect();
    signature.check_outputs(&outputs)?;
    if let Some(twice) = outputs.iter().enumerate().find(|(at, name)| outputs[..*at].contains(name)) {
        return Err(Failure::invalid(format!("output {:?} is asked for twice", twice.1)));
    }
    let parameters = &parsed.parameters;
    let (backends, browsers) = (parameters.backends(), parameters.browsers());
    let restricted = !backends.is_empty() || !browsers.is_empty();
    let policy = parameters.policy.unwrap_or(api.policy);
    check_pin(policy, parameters, restricted)?;
    let wants = Wants {
        policy,
        backends,
        browsers,
        native_fallback: policy != Policy::Pin && native_fallback(parameters.fallback, restricted),
        strict: parameters.strict,
        lease: parameters.lease.clone(),
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
        caller,
        accepted,
        deadline: accepted.at + parameters.timeout().unwrap_or(api.timeout),
        entry,
    };
    Ok((request, form))
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
