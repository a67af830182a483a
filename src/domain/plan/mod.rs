//! A plan: a model's computation as stages, each a model of its own with a place, and what passes between them.
//!
//! Values are known by their names: what a stage calls an output, others read under that name as an input.

mod error;
mod review;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use error::PlanError;
pub use review::{Costs, Review, ReviewVerdict};

use super::{BackendKind, Datatype, Digest, Fallback, LaneId, PlanId, Port, Signature};

/// Stages of one plan. Every hop between two lanes costs a round trip, so that no model gains from more.
pub const STAGES_MAX: usize = 64;

/// A model's computation in stages. It never changes: another one is another plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The whole model's file.
    pub model: Digest,
    /// In an order in which they can run.
    pub stages: Vec<PlanStage>,
    /// What the caller gets, in the order of the whole model's outputs.
    pub outputs: Vec<Made>,
    pub fallback: PlanFallback,
    #[serde(default, skip_serializing_if = "Spares::is_none")]
    pub spares: Spares,
}

/// A part of the computation that runs in one lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanStage {
    /// The shard's file.
    pub model: Digest,
    #[serde(flatten)]
    pub place: Place,
    pub inputs: Vec<Read>,
    /// Those of its outputs that a later stage reads or the caller gets.
    pub outputs: Vec<String>,
}

/// A value that a stage reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Read {
    pub name: String,
    /// The stage that makes it; absent when the caller gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<usize>,
}

/// A value that the caller gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Made {
    pub name: String,
    /// The stage that makes it.
    pub by: usize,
}

/// Where a stage runs: in one lane, in one of several, in those of a browser or a backend, or in any when it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<LaneId>,
    /// Whichever of these has time for a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<LaneId>,
    /// A recipe's name, or `native`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendKind>,
}

/// What may run a stage when its place cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanFallback {
    /// Nothing: its requests wait for the place, or fail.
    None,
    /// Another browser's lane that is proven for the shard.
    Lanes,
    /// The same, and a native lane where there is none.
    #[default]
    Native,
}

/// In which precision floats pass between stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// As they are made.
    #[default]
    AsMade,
    /// FP32 as FP16, in half the bytes.
    Fp16,
}

/// Which shards are held ahead of need, so that a stage whose lane is lost moves without a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spares {
    /// None: another lane is given a shard when it is needed there.
    #[default]
    None,
    /// One other lane holds every stage's, as far as its memory allows.
    Shared,
    /// Some other lane holds each.
    PerStage,
}

impl Spares {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A stage that has gone to another lane than its place, has come back to it, or whose lane was lost and is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recovery {
    pub plan: PlanId,
    pub stage: usize,
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    /// Where it runs from now on.
    pub lane: LaneId,
    /// Why it is not where it was wanted; absent when it is.
    pub fallback: Option<Fallback>,
    /// Microseconds from the loss of the lane that it ran in until this, its next answer; absent where none was lost.
    pub took_us: Option<u64>,
}

/// A shard as a plan takes it.
#[derive(Clone, Debug)]
pub struct Shard<'a> {
    pub model: Digest,
    pub signature: &'a Signature,
    pub place: Place,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { lane: Some(lane), .. } => lane.fmt(f),
            Self { lanes, .. } if !lanes.is_empty() => {
                f.write_str(&lanes.iter().map(LaneId::as_str).collect::<Vec<_>>().join(" or "))
            }
            Self { browser: Some(browser), backend: Some(backend), .. } => {
                write!(f, "{backend} in {browser}")
            }
            Self { browser: Some(browser), .. } => browser.fmt(f),
            Self { backend: Some(backend), .. } => backend.fmt(f),
            Self { .. } => f.write_str("any"),
        }
    }
}

impl Plan {
    /// Finds out what passes between these shards, which together are to be the whole model.
    pub fn new(
        whole: (Digest, &Signature),
        shards: &[Shard<'_>],
        fallback: PlanFallback,
        spares: Spares,
    ) -> Result<Self, PlanError> {
        if fallback == PlanFallback::None && spares != Spares::None {
            return Err(PlanError::Spares);
        }
        let (model, signature) = whole;
        match shards.len() {
            0 => return Err(PlanError::Empty),
            stages if stages > STAGES_MAX => return Err(PlanError::TooMany { stages }),
            _ => {}
        }
        let makers = makers(signature, shards)?;
        let mut stages = Vec::with_capacity(shards.len());
        for (at, shard) in shards.iter().enumerate() {
            let Place { lane, lanes, browser, backend } = &shard.place;
            let named = [lane.is_some(), !lanes.is_empty(), browser.is_some() || backend.is_some()];
            if named.into_iter().filter(|named| *named).count() > 1 {
                return Err(PlanError::TwoPlaces { stage: at });
            }
            let inputs = reads(at, shard, signature, &makers, shards)?;
            stages.push(PlanStage {
                model: shard.model,
                place: shard.place.clone(),
                inputs,
                outputs: Vec::new(),
            });
        }
        let outputs = outputs(signature, &makers)?;
        for (at, shard) in shards.iter().enumerate() {
            let read = |name: &str| {
                let mut reads = stages.iter().flat_map(|stage| &stage.inputs);
                outputs.iter().any(|made| made.name == name) || reads.any(|read| read.name == name)
            };
            let names = shard.signature.outputs.iter().map(|port| port.name.clone());
            let wanted: Vec<_> = names.filter(|name| read(name)).collect();
            if wanted.is_empty() {
                return Err(PlanError::Idle { stage: at });
            }
            stages[at].outputs = wanted;
        }
        Ok(Self { model, stages, outputs, fallback, spares })
    }

    /// The stages that read what this one makes, each once.
    pub fn readers(&self, stage: usize) -> Vec<usize> {
        let reads = |other: &PlanStage| other.inputs.iter().any(|read| read.from == Some(stage));
        (0..self.stages.len()).filter(|at| reads(&self.stages[*at])).collect()
    }
}

/// Which stage makes each value.
type Makers<'a> = BTreeMap<&'a str, (usize, Datatype)>;

fn makers<'a>(whole: &Signature, shards: &'a [Shard<'_>]) -> Result<Makers<'a>, PlanError> {
    let mut makers = Makers::new();
    for (at, shard) in shards.iter().enumerate() {
        for port in &shard.signature.outputs {
            let value = || port.name.clone();
            if whole.inputs.iter().any(|input| input.name == port.name) {
                return Err(PlanError::Given { value: value(), stage: at });
            }
            if let Some((first, _)) = makers.insert(&port.name, (at, port.datatype)) {
                return Err(PlanError::Twice { value: value(), first, second: at });
            }
        }
    }
    Ok(makers)
}

/// What a stage reads, all of which is made before it.
fn reads(
    at: usize,
    shard: &Shard<'_>,
    whole: &Signature,
    makers: &Makers<'_>,
    shards: &[Shard<'_>],
) -> Result<Vec<Read>, PlanError> {
    let read = |port: &Port| {
        let value = || port.name.clone();
        let given = whole.inputs.iter().find(|input| input.name == port.name);
        let (from, made) = match (given, makers.get(port.name.as_str())) {
            (Some(given), _) => (None, given.datatype),
            (None, Some((by, _))) if *by >= at => {
                let (value, by) = (value(), *by);
                return Err(if leads(at, by, shards) {
                    PlanError::Cycle { value, stage: at, by }
                } else {
                    PlanError::Late { value, stage: at, by }
                });
            }
            (None, Some((by, made))) => (Some(*by), *made),
            (None, None) => return Err(PlanError::Missing { value: value(), stage: at }),
        };
        if made != port.datatype {
            return Err(PlanError::Datatype { value: value(), stage: at, made, read: port.datatype });
        }
        Ok(Read { name: value(), from })
    };
    shard.signature.inputs.iter().map(read).collect()
}

/// Whether what `from` makes reaches `to`, by whatever way.
fn leads(from: usize, to: usize, shards: &[Shard<'_>]) -> bool {
    let feeds = |from: usize, to: usize| {
        let made = |name: &str| shards[from].signature.outputs.iter().any(|port| port.name == name);
        shards[to].signature.inputs.iter().any(|port| made(&port.name))
    };
    let (mut reached, mut next) = (vec![false; shards.len()], vec![from]);
    while let Some(stage) = next.pop() {
        if stage == to {
            return true;
        }
        for other in (0..shards.len()).filter(|other| feeds(stage, *other)) {
            if !std::mem::replace(&mut reached[other], true) {
                next.push(other);
            }
        }
    }
    false
}

fn outputs(whole: &Signature, makers: &Makers<'_>) -> Result<Vec<Made>, PlanError> {
    let made = |port: &Port| {
        let value = || port.name.clone();
        match makers.get(port.name.as_str()) {
            None => Err(PlanError::Unmade { value: value() }),
            Some((by, made)) if *made != port.datatype => {
                Err(PlanError::Output { value: value(), stage: *by, made: *made, wanted: port.datatype })
            }
            Some((by, _)) => Ok(Made { name: value(), by: *by }),
        }
    };
    whole.outputs.iter().map(made).collect()
}
