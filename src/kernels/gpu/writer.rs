//! A program under construction: modules, parameters and dispatches, each kept once.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{
    GpuError,
    buffers::Plan,
    calls::{self, Site},
    kernel::{Bound, Kernel},
    program::{Dispatch, Fill, Kept, Pipeline, Port, Program, Source},
};
use crate::kernels::ir::{self, Call, Element, Routine, Slot};

/// What offsets of uniforms are multiples of on every adapter.
const UNIFORM_STEP: usize = 256;

/// What offsets of weights in the block are multiples of, so that elements lie where they can be read.
const FILL_STEP: usize = 16;

pub(super) struct Writer<'p> {
    plan: &'p Plan,
    groups_max: u32,
    modules: Vec<String>,
    known: HashMap<String, u32>,
    block: Vec<u8>,
    uniforms: HashMap<Vec<u32>, u64>,
}

impl<'p> Writer<'p> {
    pub(super) fn new(plan: &'p Plan, groups_max: u32) -> Self {
        let (modules, known, block, uniforms) = Default::default();
        Self { plan, groups_max, modules, known, block, uniforms }
    }

    pub(super) fn dispatches(&mut self, calls: &[Call], site: &Site<'_>) -> Result<Vec<Dispatch>, GpuError> {
        calls.iter().map(|call| self.dispatch(&calls::kernel(call, site)?)).collect()
    }

    fn dispatch(&mut self, kernel: &Kernel) -> Result<Dispatch, GpuError> {
        kernel.check()?;
        let source = kernel.source();
        let pipeline = *self.known.entry(source).or_insert_with_key(|source| {
            self.modules.push(source.clone());
            u32::try_from(self.modules.len() - 1).expect("there are few kernels")
        });
        let (uniform, uniform_bytes) = self.uniform(&kernel.words);
        let buffers = kernel.bound.iter().map(|bound| match bound {
            Bound::Read(slot) | Bound::Written(slot) => self.buffer(*slot),
            Bound::Fault => self.plan.fault,
        });
        let buffers = buffers.collect();
        Ok(Dispatch { pipeline, uniform, uniform_bytes, buffers, groups: self.spread(kernel.groups)? })
    }

    fn buffer(&self, slot: Slot) -> u32 {
        self.plan.of[slot.0 as usize].expect("what calls read and write has a buffer")
    }

    fn uniform(&mut self, words: &[u32]) -> (u64, u64) {
        let bytes = (words.len() * 4).next_multiple_of(16);
        let block = &mut self.block;
        let at = *self.uniforms.entry(words.to_vec()).or_insert_with_key(|words| {
            let at = block.len();
            block.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            block.resize(at + bytes.next_multiple_of(UNIFORM_STEP), 0);
            at as u64
        });
        (at, bytes as u64)
    }

    /// Along a second dimension where the first cannot take them all, with as few too many as can be.
    fn spread(&self, groups: u64) -> Result<[u32; 3], GpuError> {
        let most = u64::from(self.groups_max);
        let rows = groups.div_ceil(most);
        if rows > most {
            return Err(GpuError::Limit {
                what: "a call's work in groups".to_owned(),
                needed: groups,
                most: most * most,
            });
        }
        let columns = groups.div_ceil(rows.max(1));
        let [columns, rows] =
            [columns, rows].map(|count| u32::try_from(count).expect("the limit is of 32 bits"));
        Ok([columns, rows, 1])
    }

    pub(super) fn finish(
        self,
        routine: &Routine,
        once: Vec<Dispatch>,
        calls: Vec<Dispatch>,
    ) -> (Program, Bytes) {
        let Self { plan, modules, mut block, .. } = self;
        let uniforms = block.len() as u64;
        let fills =
            routine.weights.iter().filter_map(|weight| fill(routine, plan, weight, &mut block)).collect();
        let module = |module| Pipeline { module, entry: "main".to_owned(), constants: BTreeMap::new() };
        let pipelines = (0..modules.len() as u32).map(module).collect();
        let port = |port: &ir::Port| Port {
            name: port.name.clone(),
            datatype: port.datatype,
            shape: port.shape.iter().map(|size| *size as u64).collect(),
            buffer: port.slot.and_then(|slot| plan.of[slot.0 as usize]),
        };
        let program = Program {
            buffers: plan.bytes.clone(),
            fills,
            inputs: routine.inputs.iter().map(port).collect(),
            outputs: routine.outputs.iter().map(port).collect(),
            kept: Kept::of(routine, |slot| plan.of[slot.0 as usize].expect("states have buffers").into()),
            modules,
            pipelines,
            uniforms,
            once,
            calls,
            fault: plan.fault,
        };
        (program, block.into())
    }
}

fn fill(routine: &Routine, plan: &Plan, weight: &ir::Weight, block: &mut Vec<u8>) -> Option<Fill> {
    let buffer = plan.of[weight.slot.0 as usize]?;
    let info = routine.slots[weight.slot.0 as usize];
    let source = match &weight.source {
        ir::Source::File { name, offset } => Source::File { name: name.clone(), offset: *offset },
        ir::Source::Bytes(bytes) => {
            let offset = block.len().next_multiple_of(FILL_STEP);
            block.resize(offset, 0);
            block.extend_from_slice(bytes);
            Source::Block { offset: offset as u64 }
        }
    };
    let size = if info.element == Element::Bytes { 1 } else { weight.datatype.size().unwrap_or(1) };
    debug_assert!(
        !matches!(&weight.source, ir::Source::Bytes(bytes) if bytes.len() != info.len * size),
        "a weight has as many bytes as its slot"
    );
    Some(Fill { buffer, datatype: weight.datatype, elements: info.len as u64, source })
}
