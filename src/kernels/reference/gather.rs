//! Elements by their indices.

use super::{Fault, Memory, ints};
use crate::kernels::{host::Host, ir::Gather};

pub(super) fn gather(call: &Gather, memory: &mut Memory) -> Result<(), Fault> {
    let rows = ints(memory, call.indices).iter().map(|index| place(*index, call.axis));
    let rows: Vec<usize> = rows.collect::<Result<_, _>>()?;
    let mut places = Vec::with_capacity(call.outer * call.count * call.inner);
    for outer in 0..call.outer {
        for row in &rows {
            let from = (outer * call.axis + row) * call.inner;
            places.extend(from..from + call.inner);
        }
    }
    let made: Host = memory[&call.data].at(&places);
    memory.insert(call.output, made);
    Ok(())
}

/// An index below 0 counts from the end.
pub(super) fn place(index: i64, len: usize) -> Result<usize, Fault> {
    let from_front = if index < 0 { index.saturating_add(len as i64) } else { index };
    usize::try_from(from_front).ok().filter(|at| *at < len).ok_or(Fault::Index)
}
