//! How far a request has come under its plan: which values are there, which stages may start. Pure.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::{Plan, Tensor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waits,
    Runs,
    Done,
}

/// A value that somebody has yet to read.
#[derive(Debug)]
struct Kept {
    tensor: Tensor,
    /// Stages that have not ended and read it, and the caller if it gets it.
    readers: usize,
}

pub(super) struct Progress {
    plan: Arc<Plan>,
    values: BTreeMap<String, Kept>,
    phases: Vec<Phase>,
}

impl Progress {
    /// Nothing has started; of the inputs, those stay that some stage reads.
    pub(super) fn new(plan: Arc<Plan>, inputs: Vec<Tensor>) -> Self {
        let phases = vec![Phase::Waits; plan.stages.len()];
        let mut progress = Self { plan, values: BTreeMap::new(), phases };
        for input in inputs {
            progress.keep(input);
        }
        progress
    }

    /// The stages that wait for nothing but to be started.
    pub(super) fn ready(&self) -> Vec<usize> {
        let there = |stage: &usize| {
            let mut inputs = self.plan.stages[*stage].inputs.iter();
            inputs.all(|read| self.values.contains_key(&read.name))
        };
        let waits = |stage: &usize| self.phases[*stage] == Phase::Waits;
        (0..self.phases.len()).filter(|stage| waits(stage) && there(stage)).collect()
    }

    /// Starts a stage that is ready; answers with its inputs, which stay here until it has ended.
    pub(super) fn start(&mut self, stage: usize) -> Vec<Tensor> {
        self.phases[stage] = Phase::Runs;
        let inputs = self.plan.stages[stage].inputs.iter();
        inputs.filter_map(|read| Some(self.values.get(&read.name)?.tensor.clone())).collect()
    }

    /// Takes in what a stage has made, and lets go of what nobody reads any more. Says what is missing.
    pub(super) fn ended(&mut self, stage: usize, outputs: Vec<Tensor>) -> Result<(), String> {
        self.phases[stage] = Phase::Done;
        let plan = self.plan.clone();
        for read in &plan.stages[stage].inputs {
            if let Some(kept) = self.values.get_mut(&read.name) {
                kept.readers -= 1;
                if kept.readers == 0 {
                    self.values.remove(&read.name);
                }
            }
        }
        let made = &plan.stages[stage].outputs;
        if let Some(missing) = made.iter().find(|name| !outputs.iter().any(|output| output.name == **name)) {
            return Err(format!("it has not made {missing:?}"));
        }
        for output in outputs.into_iter().filter(|output| made.contains(&output.name)) {
            self.keep(output);
        }
        Ok(())
    }

    fn keep(&mut self, tensor: Tensor) {
        let reads = |stage: &usize| {
            let mut inputs = self.plan.stages[*stage].inputs.iter();
            self.phases[*stage] != Phase::Done && inputs.any(|read| read.name == tensor.name)
        };
        let stages = (0..self.phases.len()).filter(reads).count();
        let caller = self.plan.outputs.iter().filter(|made| made.name == tensor.name).count();
        if stages + caller > 0 {
            self.values.insert(tensor.name.clone(), Kept { tensor, readers: stages + caller });
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phases.iter().all(|phase| *phase == Phase::Done)
    }

    /// Bytes of the values that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.values.values().map(|kept| kept.tensor.body.len()).sum()
    }

    /// What the caller gets of a request that is done, in the order of the whole model's outputs; `wanted` names some of
    /// them, or none for all.
    pub(super) fn outputs(mut self, wanted: &[String]) -> Vec<Tensor> {
        let plan = self.plan.clone();
        let gets = |name: &String| wanted.is_empty() || wanted.contains(name);
        let names = plan.outputs.iter().map(|made| &made.name).filter(|name| gets(name));
        names.filter_map(|name| Some(self.values.remove(name)?.tensor)).collect()
    }
}
