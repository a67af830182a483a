//! The calls of a routine while they are fused: who writes and who reads each slot.

use std::collections::HashSet;

use crate::kernels::ir::{Call, Map, Routine, Slot};

pub(super) struct Calls {
    routine: Routine,
    /// Those that are left, each in its place.
    listed: Vec<Option<Call>>,
    writers: Vec<Vec<usize>>,
    readers: Vec<Vec<usize>>,
    /// What clients read, and later steps.
    outputs: HashSet<Slot>,
}

impl Calls {
    pub(super) fn of(mut routine: Routine) -> Self {
        let listed: Vec<Option<Call>> = std::mem::take(&mut routine.calls).into_iter().map(Some).collect();
        let slots = routine.slots.len();
        let outputs = routine.lasting().collect();
        let mut own = Self {
            routine,
            listed,
            writers: vec![Vec::new(); slots],
            readers: vec![Vec::new(); slots],
            outputs,
        };
        for at in 0..own.listed.len() {
            own.enter(at);
        }
        own
    }

    fn enter(&mut self, at: usize) {
        let Some(call) = &self.listed[at] else { return };
        for (slots, of) in [(call.reads(), &mut self.readers), (call.writes(), &mut self.writers)] {
            for slot in slots {
                let of = &mut of[slot.0 as usize];
                if !of.contains(&at) {
                    of.push(at);
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.listed.len()
    }

    pub(super) fn call(&self, at: usize) -> Option<&Call> {
        self.listed[at].as_ref()
    }

    pub(super) fn map(&self, at: usize) -> Option<&Map> {
        if let Some(Call::Map(map)) = self.call(at) { Some(map) } else { None }
    }

    /// Elements of a slot.
    pub(super) fn held(&self, slot: Slot) -> usize {
        self.routine.slots[slot.0 as usize].len
    }

    /// The only call that writes a slot.
    pub(super) fn maker(&self, slot: Slot) -> Option<usize> {
        if let [at] = self.writers[slot.0 as usize][..] { Some(at) } else { None }
    }

    /// The only map that writes a slot.
    pub(super) fn made_by(&self, slot: Slot) -> Option<&Map> {
        self.map(self.maker(slot)?)
    }

    pub(super) fn readers(&self, slot: Slot) -> &[usize] {
        &self.readers[slot.0 as usize]
    }

    pub(super) fn is_output(&self, slot: Slot) -> bool {
        self.outputs.contains(&slot)
    }

    /// The only call that reads a slot, which no client does.
    pub(super) fn reader(&self, slot: Slot) -> Option<usize> {
        match self.readers(slot) {
            [at] if !self.is_output(slot) => Some(*at),
            _ => None,
        }
    }

    /// Puts a call in the place of another, and of those that it does the work of; not where it would read what it writes.
    pub(super) fn replace(&mut self, at: usize, call: Call, others: &[usize]) -> bool {
        let writes = call.writes();
        if call.reads().iter().any(|slot| writes.contains(slot)) {
            return false;
        }
        for gone in others.iter().chain([&at]) {
            let Some(call) = self.listed[*gone].take() else { continue };
            call.reads().iter().for_each(|slot| self.readers[slot.0 as usize].retain(|at| at != gone));
            call.writes().iter().for_each(|slot| self.writers[slot.0 as usize].retain(|at| at != gone));
        }
        self.listed[at] = Some(call);
        self.enter(at);
        true
    }

    /// The routine, without calls and weights that nobody reads any more.
    pub(super) fn finish(self) -> Routine {
        let Self { mut routine, listed, outputs, .. } = self;
        let mut wanted = outputs;
        let mut kept = |calls: Vec<Call>| {
            let mut kept: Vec<Call> = Vec::with_capacity(calls.len());
            for call in calls.into_iter().rev() {
                if call.writes().iter().any(|slot| wanted.contains(slot)) {
                    wanted.extend(call.reads());
                    kept.push(call);
                }
            }
            kept.reverse();
            kept
        };
        routine.calls = kept(listed.into_iter().flatten().collect());
        routine.once = kept(std::mem::take(&mut routine.once));
        routine.weights.retain(|weight| wanted.contains(&weight.slot));
        routine
    }
}
