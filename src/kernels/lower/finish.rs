//! The last of a routine's making: what nobody reads goes, constants become weights, slots get consecutive numbers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::LowerError;
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Call, Routine, Slot, Source, Weight},
    },
};

/// `known` are the slots whose elements are constants.
pub(super) fn finish(mut routine: Routine, known: &HashMap<Slot, Arc<Host>>) -> Result<Routine, LowerError> {
    prune(&mut routine);
    let mut read: BTreeSet<Slot> = routine.once.iter().chain(&routine.calls).flat_map(Call::reads).collect();
    read.extend(routine.lasting());
    routine.weights.retain(|weight| read.contains(&weight.slot));
    for slot in read {
        if let Some(host) = known.get(&slot) {
            routine.weights.push(inline(slot, host)?);
        }
    }
    renumber(&mut routine);
    Ok(routine)
}

/// Drops calls that write what nobody reads.
fn prune(routine: &mut Routine) {
    let mut wanted: HashSet<Slot> = routine.lasting().collect();
    for calls in [&mut routine.calls, &mut routine.once] {
        let mut kept: Vec<Call> = Vec::with_capacity(calls.len());
        for call in std::mem::take(calls).into_iter().rev() {
            if call.writes().iter().any(|slot| wanted.contains(slot)) {
                wanted.extend(call.reads());
                kept.push(call);
            }
        }
        kept.reverse();
        *calls = kept;
    }
}

fn inline(slot: Slot, host: &Host) -> Result<Weight, LowerError> {
    let (datatype, bytes) = match host {
        Host::F32(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (Datatype::Fp32, bytes.into())
        }
        Host::I64(values) => {
            let mut bytes = Vec::with_capacity(values.len() * 4);
            for value in values {
                let narrow = i32::try_from(*value).map_err(|_| LowerError::Wide { value: *value })?;
                bytes.extend(narrow.to_le_bytes());
            }
            (Datatype::Int32, bytes.into())
        }
        Host::Bytes(bytes) => (Datatype::Uint8, bytes.clone()),
    };
    Ok(Weight { slot, datatype, source: Source::Bytes(bytes) })
}

/// Gives the slots that are left consecutive numbers.
fn renumber(routine: &mut Routine) {
    let mut numbers: BTreeMap<Slot, Slot> = BTreeMap::new();
    let mut slots = Vec::new();
    let old = std::mem::take(&mut routine.slots);
    let mut number = |slot: &mut Slot| {
        *slot = *numbers.entry(*slot).or_insert_with(|| {
            slots.push(old[slot.0 as usize]);
            Slot(u32::try_from(slots.len() - 1).expect("no more than before"))
        });
    };
    let ports = routine.inputs.iter_mut().chain(&mut routine.outputs);
    ports.filter_map(|port| port.slot.as_mut()).for_each(&mut number);
    routine.weights.iter_mut().for_each(|weight| number(&mut weight.slot));
    routine.states.iter_mut().for_each(|state| number(&mut state.slot));
    let calls = routine.once.iter_mut().chain(&mut routine.calls);
    calls.for_each(|call| call.each_slot(&mut number));
    routine.slots = slots;
}
