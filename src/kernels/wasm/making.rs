//! A program under construction: its slots, those of the routine and more, and its records by when they run.

use std::collections::HashMap;

use super::{bits::Rounded, record::Record};
use crate::kernels::ir::{Element, Routine, Slot, SlotInfo, Source, Weight};

/// What rows are rounded for: their slot, how many are in one, bits of a number, numbers of a block.
pub(super) type Rounding = (Slot, usize, usize, usize);

/// When a slot gets what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Once for all of a model's programs: weights in its files, and what is made of these.
    Shared,
    /// Once for this program.
    Own,
    Step,
}

impl Stage {
    pub(super) fn of(weight: &Weight) -> Self {
        match weight.source {
            Source::File { .. } => Self::Shared,
            Source::Bytes(_) => Self::Own,
        }
    }
}

pub(super) struct Making<'r> {
    routine: &'r Routine,
    pub(super) slots: Vec<SlotInfo>,
    /// In the order in which they run within their stage.
    pub(super) records: Vec<(Stage, Record)>,
    /// Of the slots that are there ahead of the first step.
    ready: HashMap<Slot, Stage>,
    repacked: HashMap<(Slot, usize), Slot>,
    rounded: HashMap<Rounding, Rounded>,
    /// Whether the records to come run once.
    pub(super) once: bool,
}

impl<'r> Making<'r> {
    pub(super) fn new(routine: &'r Routine) -> Self {
        Self {
            routine,
            slots: routine.slots.clone(),
            records: Vec::new(),
            ready: routine.weights.iter().map(|weight| (weight.slot, Stage::of(weight))).collect(),
            repacked: HashMap::new(),
            rounded: HashMap::new(),
            once: true,
        }
    }

    pub(super) fn routine(&self) -> &'r Routine {
        self.routine
    }

    pub(super) fn element(&self, slot: Slot) -> Element {
        self.slots[slot.0 as usize].element
    }

    pub(super) fn len(&self, slot: Slot) -> usize {
        self.slots[slot.0 as usize].len
    }

    /// A place for what the records to come make.
    pub(super) fn fresh(&mut self, element: Element, len: usize) -> Slot {
        self.slots.push(SlotInfo { element, len });
        Slot(u32::try_from(self.slots.len() - 1).expect("programs have fewer slots"))
    }

    pub(super) fn stage(&self, slot: Slot) -> Stage {
        self.ready.get(&slot).copied().unwrap_or(Stage::Step)
    }

    /// A record in the stage of its call.
    pub(super) fn push(&mut self, record: Record) {
        let latest = record.reads.iter().map(|slot| self.stage(*slot)).max().unwrap_or(Stage::Own);
        let stage = if self.once { latest } else { Stage::Step };
        self.put(stage, record);
    }

    /// A record that makes something of one slot, as early as that is there.
    pub(super) fn push_derived(&mut self, from: Slot, record: Record) {
        self.put(self.stage(from), record);
    }

    fn put(&mut self, stage: Stage, record: Record) {
        for slot in record.writes.iter().filter(|_| stage != Stage::Step) {
            let latest = self.ready.entry(*slot).or_insert(stage);
            *latest = stage.max(*latest);
        }
        self.records.push((stage, record));
    }

    pub(super) fn repacked(&self, from: Slot, bits: usize) -> Option<Slot> {
        self.repacked.get(&(from, bits)).copied()
    }

    pub(super) fn keep_repacked(&mut self, from: Slot, bits: usize, to: Slot) {
        self.repacked.insert((from, bits), to);
    }

    pub(super) fn rounded(&self, key: Rounding) -> Option<Rounded> {
        self.rounded.get(&key).copied()
    }

    pub(super) fn keep_rounded(&mut self, key: Rounding, rounded: Rounded) {
        self.rounded.insert(key, rounded);
    }
}
