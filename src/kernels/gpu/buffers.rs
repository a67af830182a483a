//! Which buffer each slot lies in: those that are never needed at the same time may share one.

use std::collections::BTreeMap;

use super::{GpuError, Limits};
use crate::kernels::ir::{Call, Element, Routine, Slot, SlotInfo};

pub(super) struct Plan {
    /// The buffer of each slot; none of those that no call touches and no output gives.
    pub(super) of: Vec<Option<u32>>,
    pub(super) bytes: Vec<u64>,
    pub(super) fault: u32,
}

/// The calls from which and to which a slot is needed, those that run once ahead of the others.
#[derive(Clone, Copy)]
struct Life {
    from: usize,
    to: usize,
}

pub(super) fn plan(routine: &Routine, limits: &Limits) -> Result<Plan, GpuError> {
    let lives = lives(routine);
    let bytes = |slot: usize| bytes(routine.slots[slot]);
    let mut of = vec![None; routine.slots.len()];
    let mut sizes = Vec::new();
    let add = |sizes: &mut Vec<u64>, bytes: u64| {
        sizes.push(bytes);
        u32::try_from(sizes.len() - 1).expect("there are fewer buffers")
    };
    for slot in (0..lives.len()).filter(|slot| lives[*slot].is_some()) {
        check(routine, slot, bytes(slot), limits)?;
    }
    // Weights stay: hosts share them among a model's programs.
    for weight in &routine.weights {
        let slot = weight.slot.0 as usize;
        if lives[slot].is_some() {
            of[slot] = Some(add(&mut sizes, bytes(slot)));
        }
    }
    // States outlive a program.
    for state in &routine.states {
        let slot = state.slot.0 as usize;
        of[slot] = Some(add(&mut sizes, bytes(slot)));
    }
    let mut others: Vec<(usize, Life)> = (0..lives.len())
        .filter(|slot| of[*slot].is_none())
        .filter_map(|slot| Some((slot, lives[slot]?)))
        .collect();
    others.sort_by_key(|(slot, life)| (std::cmp::Reverse(bytes(*slot)), life.from, *slot));
    // The largest first: of those that are free, the one made last fits best.
    let mut shared: Vec<(u32, BTreeMap<usize, usize>)> = Vec::new();
    for (slot, life) in others {
        let found = shared.iter_mut().rev().find(|(_, taken)| is_free(taken, life));
        let (buffer, taken) = match found {
            Some(found) => found,
            None => {
                shared.push((add(&mut sizes, bytes(slot)), BTreeMap::new()));
                shared.last_mut().expect("just put in")
            }
        };
        taken.insert(life.from, life.to);
        of[slot] = Some(*buffer);
    }
    let fault = add(&mut sizes, 4);
    Ok(Plan { of, bytes: sizes, fault })
}

fn is_free(taken: &BTreeMap<usize, usize>, life: Life) -> bool {
    taken.range(..=life.to).next_back().is_none_or(|(_, to)| *to < life.from)
}

fn lives(routine: &Routine) -> Vec<Option<Life>> {
    let begin = routine.once.len();
    let end = begin + routine.calls.len();
    let mut lives: Vec<Option<Life>> = vec![None; routine.slots.len()];
    let mut needed = |slot: Slot, at: usize| {
        let life = lives[slot.0 as usize].get_or_insert(Life { from: at, to: at });
        life.to = life.to.max(at);
    };
    for (at, call) in routine.once.iter().chain(&routine.calls).enumerate() {
        touched(call).for_each(|slot| needed(slot, at));
    }
    routine.outputs.iter().filter_map(|port| port.slot).for_each(|slot| needed(slot, end));
    let inputs: Vec<Slot> = routine.inputs.iter().filter_map(|port| port.slot).collect();
    for slot in &inputs {
        // Hosts write inputs ahead of the first call.
        if let Some(life) = &mut lives[slot.0 as usize] {
            life.from = begin;
        }
    }
    // What was made once is there for every step.
    let made: Vec<Slot> = routine.once.iter().flat_map(Call::writes).collect();
    for slot in made {
        if let Some(life) = &mut lives[slot.0 as usize]
            && life.to >= begin
        {
            life.to = end;
        }
    }
    lives
}

fn touched(call: &Call) -> impl Iterator<Item = Slot> {
    call.reads().into_iter().chain(call.writes())
}

fn bytes(info: SlotInfo) -> u64 {
    match info.element {
        Element::F32 | Element::I32 => info.len as u64 * 4,
        Element::Bytes => (info.len as u64).next_multiple_of(4),
    }
}

fn check(routine: &Routine, slot: usize, bytes: u64, limits: &Limits) -> Result<(), GpuError> {
    let most = limits.binding_bytes.min(limits.buffer_bytes);
    if bytes <= most {
        return Ok(());
    }
    let own = |port: &&crate::kernels::ir::Port| port.slot == Some(Slot(slot as u32));
    let what = if let Some(port) = routine.inputs.iter().find(own) {
        format!("the input {:?} in bytes", port.name)
    } else if let Some(port) = routine.outputs.iter().find(own) {
        format!("the output {:?} in bytes", port.name)
    } else if routine.weights.iter().any(|weight| weight.slot.0 as usize == slot) {
        "a weight in bytes".to_owned()
    } else {
        "a value within the model in bytes".to_owned()
    };
    Err(GpuError::Limit { what, needed: bytes, most })
}
