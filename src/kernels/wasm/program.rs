//! What a WebAssembly module follows: what its memory holds at first, and which calls it does in their order.
//!
//! It travels as JSON beside one block of bytes, which begins with the records of the calls.
//! Memory is laid out as the module's own, what outlives a step, what the programs of a model share, records, and what a
//! step needs.

use serde::{Deserialize, Serialize};

use crate::{
    domain::Datatype,
    kernels::gpu::program::{Kept, Source},
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Bytes of the memory that it takes, the module's own among them.
    pub memory: u64,
    /// Where the block's first bytes go, which are the records.
    pub records: Records,
    /// Done once for all programs whose `shared` is the same: it does not depend on inputs' sizes.
    pub shared: Vec<Setup>,
    /// Done whenever another program has used the memory since.
    pub own: Vec<Setup>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// None of a program that computes each step by itself.
    pub kept: Option<Kept>,
    /// A step.
    pub calls: Calls,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    pub address: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setup {
    Fill(Fill),
    Run(Calls),
}

/// Calls whose records lie one behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    pub address: u64,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    pub address: u64,
    /// As it is stored, little-endian.
    pub datatype: Datatype,
    pub elements: u64,
    /// Taken as it lies; else each element becomes a word.
    pub raw: bool,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    /// As clients see it; a word for each element in memory.
    pub datatype: Datatype,
    pub shape: Vec<u64>,
    /// None where it has no elements, or where the program was made for its value.
    pub address: Option<u64>,
}
