//! Computes what a routine says, plainly: constants of a graph, and what kernels are compared with.
//!
//! Floats are computed in 32 bits and summed in 64, whole numbers in 64.

mod attention;
mod conv;
mod gather;
mod map;
mod norm;
mod pool;
mod products;
mod reduce;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    host::{self, Host},
    ir::{Call, Element, Port, Routine, Slot, Source, State, View, Weight},
};

/// What slots hold: all that a call reads, and in its full size all that it writes.
pub type Memory = BTreeMap<Slot, Host>;

/// What stays of a step that cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("an index is out of range")]
    Index,
    #[error("input {name:?} is missing, or has another number or kind of elements")]
    Input { name: String },
    #[error("a weight of {bytes} bytes at {offset} of {file:?} is not there")]
    Weight { file: String, offset: u64, bytes: usize },
}

/// Computes one call.
pub fn run(call: &Call, memory: &mut Memory) -> Result<(), Fault> {
    match call {
        Call::Map(call) => map::map(call, memory),
        Call::Gather(call) => return gather::gather(call, memory),
        Call::Reduce(call) => reduce::reduce(call, memory),
        Call::Softmax(call) => reduce::softmax(call, memory),
        Call::Norm(call) => norm::norm(call, memory),
        Call::MatMul(call) => products::matmul(call, memory),
        Call::MatMulBits(call) => products::matmul_bits(call, memory),
        Call::GatherBits(call) => return products::gather_bits(call, memory),
        Call::Attention(call) => attention::attention(call, memory),
        Call::Rotary(call) => return attention::rotary(call, memory),
        Call::Keep(call) => return attention::keep(call, memory),
        Call::Conv(call) => conv::conv(call, memory),
        Call::Pool(call) => pool::pool(call, memory),
    }
    Ok(())
}

/// What states hold between steps, by their names.
pub type States = BTreeMap<String, Host>;

/// Computes a routine's outputs by name. `file` gives bytes of a model's file: its name, an offset, how many.
pub fn run_all(
    routine: &Routine,
    inputs: &BTreeMap<String, Host>,
    file: &dyn Fn(&str, u64, usize) -> Option<Bytes>,
) -> Result<BTreeMap<String, Host>, Fault> {
    run_kept(routine, inputs, file, &mut States::new())
}

/// The same, with what earlier steps have left; zeros where they have left nothing.
pub fn run_kept(
    routine: &Routine,
    inputs: &BTreeMap<String, Host>,
    file: &dyn Fn(&str, u64, usize) -> Option<Bytes>,
    states: &mut States,
) -> Result<BTreeMap<String, Host>, Fault> {
    let mut memory = Memory::new();
    for state in &routine.states {
        memory.insert(state.slot, carried(state, states.remove(&state.name)));
    }
    for weight in &routine.weights {
        memory.insert(weight.slot, filled(routine, weight, file)?);
    }
    for Port { name, slot, .. } in &routine.inputs {
        let Some(slot) = slot else { continue };
        let info = routine.slots[slot.0 as usize];
        let given = inputs.get(name).filter(|host| host.len() == info.len && host.element() == info.element);
        memory.insert(*slot, given.ok_or_else(|| Fault::Input { name: name.clone() })?.clone());
    }
    for call in routine.once.iter().chain(&routine.calls) {
        for slot in call.writes() {
            let info = routine.slots[slot.0 as usize];
            memory.entry(slot).or_insert_with(|| Host::zeros(info.element, info.len));
        }
        run(call, &mut memory)?;
    }
    let outputs = routine.outputs.iter().map(|Port { name, datatype, slot, .. }| {
        let empty = if datatype.is_float() { Element::F32 } else { Element::I32 };
        let host = slot.map_or_else(|| Host::zeros(empty, 0), |slot| memory[&slot].clone());
        (name.clone(), host)
    });
    let outputs = outputs.collect();
    for State { name, slot, .. } in &routine.states {
        states.extend(memory.remove(slot).map(|left| (name.clone(), left)));
    }
    Ok(outputs)
}

/// The rows that a state of another room had, as far as there is room for them.
fn carried(state: &State, left: Option<Host>) -> Host {
    let State { outer, room, inner, rows, .. } = *state;
    let mut made = vec![0.0; outer * room * inner];
    if let Some(Host::F32(left)) = left {
        let had = left.len() / outer;
        let kept = (rows * inner).min(had);
        for (to, from) in made.chunks_exact_mut(room * inner).zip(left.chunks_exact(had)) {
            to[..kept].copy_from_slice(&from[..kept]);
        }
    }
    Host::F32(made)
}

/// What a weight's slot holds at first.
fn filled(
    routine: &Routine,
    weight: &Weight,
    file: &dyn Fn(&str, u64, usize) -> Option<Bytes>,
) -> Result<Host, Fault> {
    let info = routine.slots[weight.slot.0 as usize];
    let size = weight.datatype.size().unwrap_or(1);
    let len = if info.element == Element::Bytes { info.len } else { info.len * size };
    let (name, offset) = match &weight.source {
        Source::Bytes(_) => ("", 0),
        Source::File { name, offset } => (name.as_str(), *offset),
    };
    let bytes = match &weight.source {
        Source::Bytes(bytes) => Some(bytes.clone()),
        Source::File { .. } => file(name, offset, len),
    };
    let host = bytes.filter(|bytes| bytes.len() == len).and_then(|bytes| match info.element {
        Element::Bytes => Some(Host::Bytes(bytes)),
        Element::F32 | Element::I32 => Host::decode(&bytes, weight.datatype),
    });
    host.ok_or_else(|| Fault::Weight { file: name.to_owned(), offset, bytes: len })
}

/// What a slot of floats holds.
fn floats(memory: &Memory, slot: Slot) -> &[f32] {
    memory[&slot].floats().expect("a slot of floats")
}

fn ints(memory: &Memory, slot: Slot) -> &[i64] {
    memory[&slot].ints().expect("a slot of whole numbers")
}

/// Where a view's elements lie.
fn places(shape: &[usize], view: &View) -> Vec<usize> {
    host::places(shape, view.offset, &view.strides)
}

/// Writes the elements of a view.
fn write(memory: &mut Memory, shape: &[usize], view: &View, made: &Host) {
    let places = places(shape, view);
    match (memory.get_mut(&view.slot).expect("a slot in its full size"), made) {
        (Host::F32(slot), Host::F32(made)) => {
            places.iter().zip(made).for_each(|(at, made)| slot[*at] = *made);
        }
        (Host::I64(slot), Host::I64(made)) => {
            places.iter().zip(made).for_each(|(at, made)| slot[*at] = *made);
        }
        _ => unreachable!("a call makes what its slot holds"),
    }
}
