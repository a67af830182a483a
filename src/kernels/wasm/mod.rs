//! Routines as programs for the WebAssembly module of the page: which of its functions compute a call, and where in
//! memory everything lies.
//!
//! The module's source is `web-harness/kernels`; `abi.h` there says what a record of a call is.
//! It never sees a module: the page's engine follows what is made here.

mod bits;
mod calls;
mod expr;
mod making;
mod memory;
pub mod program;
mod record;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use self::{
    making::Making,
    memory::{Item, Plan},
    program::{Calls, Fill, Port, Program, Records, Setup},
    record::Record,
};
use super::{
    gpu::program::{Kept, Source},
    ir::{self, Element, Routine, SlotInfo, Weight},
};

/// Why no program can be made of a routine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WasmError {
    #[error("the model takes {needed} bytes of memory, and WebAssembly has {most}")]
    Memory { needed: u64, most: u64 },
    #[error("{value} is wider than 32 bits")]
    Wide { value: i64 },
    #[error("{call}: {why}")]
    Call { call: &'static str, why: &'static str },
}

/// All that the module is built of.
const SOURCES: [&str; 25] = [
    include_str!("../../../web-harness/kernels/abi.h"),
    include_str!("../../../web-harness/kernels/attention.c"),
    include_str!("../../../web-harness/kernels/bits.h"),
    include_str!("../../../web-harness/kernels/conv.c"),
    include_str!("../../../web-harness/kernels/elements.c"),
    include_str!("../../../web-harness/kernels/functions.h"),
    include_str!("../../../web-harness/kernels/gather.c"),
    include_str!("../../../web-harness/kernels/gather_bits.c"),
    include_str!("../../../web-harness/kernels/keep.c"),
    include_str!("../../../web-harness/kernels/kernels.h"),
    include_str!("../../../web-harness/kernels/map.c"),
    include_str!("../../../web-harness/kernels/matmul.c"),
    include_str!("../../../web-harness/kernels/matmul_bits.c"),
    include_str!("../../../web-harness/kernels/norm.c"),
    include_str!("../../../web-harness/kernels/pool.c"),
    include_str!("../../../web-harness/kernels/quantise.c"),
    include_str!("../../../web-harness/kernels/reduce.c"),
    include_str!("../../../web-harness/kernels/repack.c"),
    include_str!("../../../web-harness/kernels/rotary.c"),
    include_str!("../../../web-harness/kernels/run.c"),
    include_str!("../../../web-harness/kernels/scalar.c"),
    include_str!("../../../web-harness/kernels/scalar.h"),
    include_str!("../../../web-harness/kernels/softmax.c"),
    include_str!("../../../web-harness/kernels/tile.c"),
    include_str!("../../../web-harness/kernels/tile.h"),
];

/// The engine's name with the version of the kernels in it: what was proven of others says nothing of these.
pub fn engine() -> String {
    format!("weft@{}/{}", env!("CARGO_PKG_VERSION"), fingerprint())
}

/// A digest of the module's sources.
pub fn fingerprint() -> String {
    let mut digest = Sha256::new();
    for source in SOURCES {
        digest.update(source.as_bytes());
    }
    digest.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes everything");
        text
    })
}

/// The program that computes a routine, and the block of bytes that goes with it.
pub fn compile(routine: &Routine) -> Result<(Program, Bytes), WasmError> {
    let mut making = Making::new(routine);
    for call in &routine.once {
        calls::lower(call, &mut making)?;
    }
    making.once = false;
    for call in &routine.calls {
        calls::lower(call, &mut making)?;
    }
    Writer::new(memory::plan(&making)?).finish(&making)
}

struct Writer<'m> {
    plan: Plan<'m>,
    block: Vec<u8>,
    /// What weights have put behind the records.
    weights: Vec<u8>,
}

impl<'m> Writer<'m> {
    fn new(plan: Plan<'m>) -> Self {
        Self { plan, block: Vec::new(), weights: Vec::new() }
    }

    fn finish(mut self, making: &Making<'_>) -> Result<(Program, Bytes), WasmError> {
        let (shared, own) = (std::mem::take(&mut self.plan.shared), std::mem::take(&mut self.plan.own));
        let shared = self.setup(&shared, &making.slots)?;
        let own = self.setup(&own, &making.slots)?;
        let steps = std::mem::take(&mut self.plan.steps);
        let calls = self.calls(&steps)?;
        let bytes = self.block.len() as u64;
        let routine = making.routine();
        let mut program = Program {
            memory: self.plan.memory,
            records: Records { address: self.plan.records, bytes },
            shared,
            own,
            inputs: self.ports(&routine.inputs),
            outputs: self.ports(&routine.outputs),
            kept: Kept::of(routine, |slot| self.address(slot)),
            calls,
        };
        for setup in program.shared.iter_mut().chain(&mut program.own) {
            if let Setup::Fill(Fill { source: Source::Block { offset }, .. }) = setup {
                *offset += bytes;
            }
        }
        self.block.append(&mut self.weights);
        Ok((program, self.block.into()))
    }

    fn setup(&mut self, items: &[Item<'m>], slots: &[SlotInfo]) -> Result<Vec<Setup>, WasmError> {
        let one = |item: &Item<'m>| -> Result<Setup, WasmError> {
            Ok(match item {
                Item::Fill(weight) => Setup::Fill(self.fill(weight, slots)),
                Item::Run(record) => Setup::Run(self.calls(&[*record])?),
            })
        };
        items.iter().map(one).collect()
    }

    fn fill(&mut self, weight: &Weight, slots: &[SlotInfo]) -> Fill {
        let info = slots[weight.slot.0 as usize];
        let source = match &weight.source {
            ir::Source::File { name, offset } => Source::File { name: name.clone(), offset: *offset },
            ir::Source::Bytes(bytes) => {
                let offset = self.weights.len() as u64;
                self.weights.extend(bytes);
                self.weights.resize(self.weights.len().next_multiple_of(4), 0);
                Source::Block { offset }
            }
        };
        Fill {
            address: self.address(weight.slot),
            datatype: weight.datatype,
            elements: info.len as u64,
            raw: info.element == Element::Bytes,
            source,
        }
    }

    fn calls(&mut self, records: &[&'m Record]) -> Result<Calls, WasmError> {
        let address = self.plan.records + self.block.len() as u64;
        let Self { plan, block, .. } = self;
        for record in records {
            record.encode(&|slot| plan.address(slot).expect("what a record touches has a place"), block)?;
        }
        Ok(Calls { address, count: records.len() as u64 })
    }

    fn address(&self, slot: ir::Slot) -> u64 {
        self.plan.address(slot).expect("what is filled or kept has a place")
    }

    fn ports(&self, ports: &[ir::Port]) -> Vec<Port> {
        let port = |port: &ir::Port| Port {
            name: port.name.clone(),
            datatype: port.datatype,
            shape: port.shape.iter().map(|size| *size as u64).collect(),
            address: port.slot.and_then(|slot| self.plan.address(slot)),
        };
        ports.iter().map(port).collect()
    }
}
