//! What a GPU follows: buffers, what they hold at first, pipelines, and dispatches in their order.
//!
//! It is all that a host is told of a model, natively and in a page, where it travels as JSON beside one block of bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    domain::Datatype,
    kernels::{
        ir::{self, Routine, Slot},
        lower::POSITION,
    },
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Bytes of each buffer, multiples of four.
    pub buffers: Vec<u64>,
    pub fills: Vec<Fill>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// None of a program that computes each step by itself.
    pub kept: Option<Kept>,
    /// Sources in WGSL.
    pub modules: Vec<String>,
    pub pipelines: Vec<Pipeline>,
    /// Bytes of the block that are the dispatches' parameters: one buffer of uniforms. The block begins with them.
    pub uniforms: u64,
    /// Dispatched once, after the fills.
    pub once: Vec<Dispatch>,
    pub calls: Vec<Dispatch>,
    /// A word that a kernel sets to a `Fault` when it meets what it cannot compute; cleared ahead of each step.
    pub fault: u32,
}

/// What a buffer holds before anything runs, from its beginning: words of 32 bits, of whatever is stored.
/// Weights of few bits are kept as they are stored; theirs are the buffers with less than four bytes for each element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    pub buffer: u32,
    /// As it is stored, little-endian.
    pub datatype: Datatype,
    pub elements: u64,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Where it begins in the block of bytes.
    Block { offset: u64 },
    /// In a file of the model, by its name.
    File { name: String, offset: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    /// As clients see it. Floats are 32 bits wide in a buffer, and so is all else.
    pub datatype: Datatype,
    pub shape: Vec<u64>,
    /// None where it has no elements, or where the program was made for its value.
    pub buffer: Option<u32>,
}

/// What outlives a step, for the next step of this program or of another one of the same model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The input that says how many rows are there already.
    pub position: String,
    /// Rows of each state that can be there.
    pub rows: u64,
    /// In the same order in every program of a model.
    pub states: Vec<State>,
}

/// `outer` times `room` rows of `row_bytes`, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which buffer; in a WebAssembly module, from which address on.
    pub place: u64,
    pub outer: u64,
    pub room: u64,
    pub row_bytes: u64,
}

impl Kept {
    /// Of a routine that has states; `place` says where a slot lies.
    pub fn of(routine: &Routine, place: impl Fn(Slot) -> u64) -> Option<Self> {
        let rows = routine.states.first()?.rows as u64;
        let state = |state: &ir::State| State {
            place: place(state.slot),
            outer: state.outer as u64,
            room: state.room as u64,
            row_bytes: state.inner as u64 * 4,
        };
        let states = routine.states.iter().map(state).collect();
        Some(Self { position: POSITION.to_owned(), rows, states })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    pub module: u32,
    pub entry: String,
    /// What `override`s of the module are set to.
    pub constants: BTreeMap<String, f64>,
}

/// Bind group 0 holds the uniforms at binding 0, and the buffers at 1 and on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    pub pipeline: u32,
    /// Where its parameters lie among the uniforms, a multiple of 256.
    pub uniform: u64,
    /// Bytes of them.
    pub uniform_bytes: u64,
    /// Whole buffers; the last is written, and is none of those before it.
    pub buffers: Vec<u32>,
    pub groups: [u32; 3],
}
