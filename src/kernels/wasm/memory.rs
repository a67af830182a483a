//! Where slots lie in memory: what is never needed at the same time may lie in the same place.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{
    WasmError,
    making::{Making, Stage},
    record::Record,
};
use crate::kernels::ir::{Element, Slot, SlotInfo, Weight};

/// What the module keeps for itself, its stack among it: its `__heap_base` is below.
pub(super) const MODULE_BYTES: u64 = 320 << 10;

/// Vectors begin here.
const ALIGNMENT: u64 = 16;

/// Kernels read whole vectors beyond the last element of a slot.
const BEYOND: u64 = 64;

/// All that addresses of 32 bits reach.
const MEMORY_MAX: u64 = 1 << 32;

/// What is done ahead of the first step.
pub(super) enum Item<'m> {
    Fill(&'m Weight),
    Run(&'m Record),
}

pub(super) struct Plan<'m> {
    pub(super) shared: Vec<Item<'m>>,
    pub(super) own: Vec<Item<'m>>,
    pub(super) steps: Vec<&'m Record>,
    /// Where the records begin.
    pub(super) records: u64,
    pub(super) memory: u64,
    addresses: HashMap<Slot, u64>,
}

impl Plan<'_> {
    /// None of a slot that nothing touches.
    pub(super) fn address(&self, slot: Slot) -> Option<u64> {
        self.addresses.get(&slot).copied()
    }
}

/// When a slot is needed.
#[derive(Clone, Copy)]
struct Life {
    slot: Slot,
    bytes: u64,
    from: usize,
    to: usize,
}

pub(super) fn plan<'m>(making: &'m Making<'_>) -> Result<Plan<'m>, WasmError> {
    let of = |stage: Stage| {
        making.records.iter().filter(move |(when, _)| *when == stage).map(|(_, record)| record)
    };
    let routine = making.routine();
    let outputs: Vec<Slot> = routine.outputs.iter().filter_map(|port| port.slot).collect();
    let inputs: Vec<Slot> = routine.inputs.iter().filter_map(|port| port.slot).collect();
    let steps: Vec<&Record> = of(Stage::Step).collect();
    let own_records: Vec<&Record> = of(Stage::Own).collect();
    let later: HashSet<Slot> =
        own_records.iter().chain(&steps).flat_map(|record| &record.reads).chain(&outputs).copied().collect();
    let last: HashSet<Slot> =
        steps.iter().flat_map(|record| &record.reads).chain(&outputs).copied().collect();
    let shared = items(making, of(Stage::Shared), Stage::Shared, &later);
    let own = items(making, own_records.into_iter(), Stage::Own, &last);

    let sized = |life: Life| Life { bytes: bytes(making.slots[life.slot.0 as usize]), ..life };
    let mut addresses = HashMap::new();
    let mut end = MODULE_BYTES;
    // Ahead of all that programs differ in.
    for state in &routine.states {
        addresses.insert(state.slot, end);
        end += bytes(making.slots[state.slot.0 as usize]);
    }
    let (kept, staged): (Vec<Life>, Vec<Life>) =
        lives(&shared, &[]).into_iter().map(sized).partition(|life| later.contains(&life.slot));
    for life in kept {
        addresses.insert(life.slot, end);
        end += life.bytes;
    }
    end = place(staged, end, &mut addresses);
    let records = end;
    let all = making.records.iter().map(|(_, record)| record.bytes() as u64);
    end = (end + all.sum::<u64>()).next_multiple_of(ALIGNMENT);

    let mut lives: Vec<Life> = lives(&own, &steps)
        .into_iter()
        .map(sized)
        .filter(|life| !addresses.contains_key(&life.slot))
        .collect();
    let forever = own.len() + steps.len();
    let made: HashSet<Slot> = own.iter().flat_map(Item::writes).collect();
    for life in &mut lives {
        if outputs.contains(&life.slot) || (made.contains(&life.slot) && last.contains(&life.slot)) {
            life.to = forever;
        }
        if inputs.contains(&life.slot) {
            life.from = own.len();
        }
    }
    let known: HashSet<Slot> = lives.iter().map(|life| life.slot).collect();
    let idle = inputs.iter().filter(|slot| !known.contains(*slot) && !addresses.contains_key(*slot));
    lives.extend(idle.map(|slot| sized(Life { slot: *slot, bytes: 0, from: own.len(), to: forever })));
    end = place(lives, end, &mut addresses) + BEYOND;
    if end > MEMORY_MAX {
        return Err(WasmError::Memory { needed: end, most: MEMORY_MAX });
    }
    Ok(Plan { shared, own, steps, records, memory: end, addresses })
}

impl Item<'_> {
    fn writes(&self) -> Vec<Slot> {
        match self {
            Self::Fill(weight) => vec![weight.slot],
            Self::Run(record) => record.writes.clone(),
        }
    }

    fn reads(&self) -> &[Slot] {
        match self {
            Self::Fill(_) => &[],
            Self::Run(record) => &record.reads,
        }
    }
}

/// Each record after the weights that it reads, so that few of these are there at a time that nobody reads later.
fn items<'m>(
    making: &'m Making<'_>,
    records: impl Iterator<Item = &'m Record>,
    stage: Stage,
    later: &HashSet<Slot>,
) -> Vec<Item<'m>> {
    let weights = making.routine().weights.iter();
    let weights: Vec<&Weight> = weights.filter(|weight| Stage::of(weight) == stage).collect();
    let by_slot: HashMap<Slot, &Weight> = weights.iter().map(|weight| (weight.slot, *weight)).collect();
    let mut filled = HashSet::new();
    let mut items = Vec::new();
    for record in records {
        for slot in &record.reads {
            if let Some(weight) = by_slot.get(slot).copied().filter(|_| filled.insert(*slot)) {
                items.push(Item::Fill(weight));
            }
        }
        items.push(Item::Run(record));
    }
    let rest =
        weights.into_iter().filter(|weight| later.contains(&weight.slot) && !filled.contains(&weight.slot));
    items.extend(rest.map(Item::Fill));
    items
}

/// From the first to the last time that each slot is touched, in the order of the first.
fn lives(items: &[Item<'_>], steps: &[&Record]) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    let mut places: HashMap<Slot, usize> = HashMap::new();
    let mut touch = |slot: Slot, at: usize| {
        let place = *places.entry(slot).or_insert_with(|| {
            lives.push(Life { slot, bytes: 0, from: at, to: at });
            lives.len() - 1
        });
        lives[place].to = at;
    };
    for (at, item) in items.iter().enumerate() {
        item.reads().iter().copied().chain(item.writes()).for_each(|slot| touch(slot, at));
    }
    for (at, record) in steps.iter().enumerate() {
        record.reads.iter().chain(&record.writes).for_each(|slot| touch(*slot, items.len() + at));
    }
    lives
}

fn bytes(info: SlotInfo) -> u64 {
    let bytes = match info.element {
        Element::F32 | Element::I32 => info.len as u64 * 4,
        Element::Bytes => info.len as u64,
    };
    bytes.next_multiple_of(ALIGNMENT)
}

/// Places the largest first, each in the lowest gap that is free all its life; answers where they end.
fn place(mut lives: Vec<Life>, base: u64, addresses: &mut HashMap<Slot, u64>) -> u64 {
    lives.sort_by_key(|life| (Reverse(life.bytes), life.from, life.slot));
    // By address.
    let mut placed: Vec<(u64, Life)> = Vec::new();
    let mut end = base;
    for life in lives {
        let mut address = base;
        for (other, neighbour) in &placed {
            let meets = life.from <= neighbour.to && neighbour.from <= life.to;
            if meets && *other < address + life.bytes {
                address = address.max(other + neighbour.bytes);
            }
        }
        let at = placed.partition_point(|(other, _)| *other <= address);
        placed.insert(at, (address, life));
        addresses.insert(life.slot, address);
        end = end.max(address + life.bytes);
    }
    end
}
