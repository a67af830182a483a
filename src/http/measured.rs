//! What stages took in the lanes that ran them, as samples of the lanes' and their links' speed.

use std::{collections::BTreeMap, sync::Arc};

use super::{Api, crowd};
use crate::{
    domain::{Digest, LaneId, PlanId, StageRun, StagedAnswer},
    models::{Entry, Open},
    predict::{LinkSample, LoadSample, StepSample, Work},
    store::StoreError,
};

/// How far a stage's bytes may be from those at the chain's sizes: its request had the same sizes, or was another matter.
const BYTES_OFF: f64 = 0.01;

/// Of each plan, the newest answers by which lanes and links are judged.
const JUDGED_BY: usize = 32;

/// What a lane took.
#[derive(Default)]
pub(super) struct Samples {
    pub(super) steps: Vec<StepSample>,
    pub(super) transfers: Vec<LinkSample>,
    /// Both of the plan that answered last, in order, and when that was.
    pub(super) latest: Vec<(StepSample, LinkSample)>,
    latest_at_us: i64,
}

/// What the stages of a model's latest answers under each plan took.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) lanes: BTreeMap<LaneId, Samples>,
    /// An entry for each plan under which the machine was busy.
    pub(super) loads: Vec<LoadSample>,
}

pub(super) async fn measured(api: &Arc<Api>, whole: Digest, open: &Open) -> Result<Measured, StoreError> {
    let mut measured = Measured::default();
    let mut shards: BTreeMap<Digest, Option<Part>> = BTreeMap::new();
    let mut plans: BTreeMap<PlanId, Vec<StagedAnswer>> = BTreeMap::new();
    for answer in api.store.staged_answers(whole).await? {
        plans.entry(answer.plan.clone()).or_default().push(answer);
    }
    for answers in plans.into_values() {
        let (mut at_its_sizes, mut all) = (true, BTreeMap::<LaneId, Vec<_>>::new());
        for (at, answer) in answers.iter().enumerate() {
            for run in &answer.stages {
                let (shard, lane) = (run.provenance.model_digest, &run.provenance.lane);
                let part = shards.entry(shard).or_insert_with(|| Part::of(api, shard, whole, open));
                let Some(part) = part.as_ref().filter(|part| part.at_its_sizes(run)) else {
                    at_its_sizes &= at >= JUDGED_BY;
                    continue;
                };
                let (step, transfer) = samples(part, run);
                if at < JUDGED_BY {
                    let judged = measured.lanes.entry(lane.clone()).or_default();
                    judged.steps.push(step.clone());
                    judged.transfers.push(transfer);
                }
                all.entry(lane.clone()).or_default().push((step, transfer));
            }
        }
        measured.loads.extend(crowd::load(&answers).filter(|_| at_its_sizes));
        let at_us = answers.first().map_or(0, |newest| newest.accepted_at_us);
        for (lane, latest) in all {
            let lane = measured.lanes.entry(lane).or_default();
            if at_us > lane.latest_at_us {
                (lane.latest, lane.latest_at_us) = (latest, at_us);
            }
        }
    }
    Ok(measured)
}

/// Times are those of the step, which may have been that of several requests.
fn samples(part: &Part, run: &StageRun) -> (StepSample, LinkSample) {
    let (timing, requests) = (&run.timing_us, f64::from(run.provenance.batch));
    let work = part.work.clone().times(requests);
    let transfer = LinkSample {
        down_bytes: run.bytes_in as f64 * requests,
        up_bytes: run.bytes_out as f64 * requests,
        micros: (timing.transfer + timing.decode + timing.encode) as f64,
    };
    (StepSample { work, micros: timing.compute as f64 }, transfer)
}

/// A shard as a part of the chain.
struct Part {
    work: Work,
    bytes_in: f64,
}

impl Part {
    /// Nothing for what is no shard of this model.
    fn of(api: &Arc<Api>, shard: Digest, whole: Digest, open: &Open) -> Option<Self> {
        let entry = api.plans.of_file(shard)?;
        let (chain, units) = (open.chain(), units(&entry, whole, open)?);
        let half = entry.model.conversion.as_ref()?.shard_activations.is_some();
        let bytes_in = open.bytes_read(&units, half);
        Some(Self { work: Work::of(chain, units), bytes_in })
    }

    /// Whether the stage ran on inputs of the sizes that the chain has.
    fn at_its_sizes(&self, run: &StageRun) -> bool {
        (run.bytes_in as f64 - self.bytes_in).abs() <= BYTES_OFF * self.bytes_in
    }
}

/// The units of the chain that a shard has; nothing for what is no shard of this model.
pub(super) fn units(shard: &Entry, whole: Digest, open: &Open) -> Option<Vec<usize>> {
    let made = shard.model.conversion.as_ref()?;
    if made.shard_of.as_deref() != Some(whole.to_string().as_str()) {
        return None;
    }
    // They have numbers of another chain where the whole's products were split otherwise.
    if made.shard_ways != open.ways().map(|ways| ways.to_string()) {
        return None;
    }
    numbered(made.shard_units.as_deref()?, open.chain().units.len())
}

/// The units that `0-3,7` tells, if the chain has so many.
fn numbered(text: &str, most: usize) -> Option<Vec<usize>> {
    let mut units = Vec::new();
    for run in text.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= most {
            return None;
        }
        units.extend(first..=last);
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn units_are_read_as_shards_tell_them() {
        let cases = [
            ("0-3,7", 8, Some(vec![0, 1, 2, 3, 7])),
            ("5", 6, Some(vec![5])),
            ("0-3,7", 7, None),
            ("", 7, None),
            ("3-", 7, None),
            ("a", 7, None),
            ("0-99999999999999999999", 7, None),
        ];
        for (text, most, wanted) in cases {
            assert_eq!(numbered(text, most), wanted, "{text:?} of {most}");
        }
    }
}
