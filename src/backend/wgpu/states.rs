//! What outlives steps on a device: the caches of a sequence, one set of buffers for each number of rows that there is a
//! program for, and which of them the last step has left.

use std::collections::BTreeMap;

use super::{
    device::{Device, GpuHostError},
    run::{Loaded, Weights},
};
use crate::{
    domain::Tensor,
    kernels::gpu::program::{Kept, State},
};

#[derive(Default)]
pub(super) struct States {
    sets: BTreeMap<u64, Set>,
    /// Rows of the set that the last step has left.
    last: Option<u64>,
}

struct Set {
    states: Vec<State>,
    buffers: Vec<wgpu::Buffer>,
}

impl States {
    /// The buffer that is there for a state of a program.
    pub(super) fn buffer(&self, kept: &Kept, at: usize) -> Option<&wgpu::Buffer> {
        let set = self.sets.get(&kept.rows)?;
        let place = kept.states.iter().position(|state| state.place == at as u64)?;
        set.buffers.get(place)
    }

    /// Takes the buffers of a program whose rows there was no set for.
    pub(super) fn add(&mut self, kept: &Kept, buffers: &[wgpu::Buffer]) {
        let own = |state: &State| buffers[state.place as usize].clone();
        let set = || Set { states: kept.states.clone(), buffers: kept.states.iter().map(own).collect() };
        self.sets.entry(kept.rows).or_insert_with(set);
    }

    /// Drops the sets that no program is made for and no step has left.
    fn retain(&mut self, used: &[u64]) {
        let last = self.last;
        self.sets.retain(|rows, _| Some(*rows) == last || used.contains(rows));
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sets.values().flat_map(|set| &set.buffers).map(wgpu::Buffer::size).sum()
    }
}

impl Weights {
    /// Frees what outlives steps only for programs that are gone.
    pub fn retain<'l>(&mut self, programs: impl IntoIterator<Item = &'l Loaded>) {
        let used: Vec<u64> =
            programs.into_iter().filter_map(|loaded| Some(loaded.kept.as_ref()?.rows)).collect();
        self.states.retain(&used);
    }
}

impl Device {
    /// Has what the steps before have left where this program takes it from; nothing for the first of a sequence.
    pub fn carry(
        &self,
        loaded: &Loaded,
        weights: &mut Weights,
        inputs: &[Tensor],
    ) -> Result<(), GpuHostError> {
        let Some(kept) = &loaded.kept else { return Ok(()) };
        let states = &mut weights.states;
        let begins = position(kept, inputs)? == 0;
        let from = match states.last {
            _ if begins => None,
            None => return Err(GpuHostError::Forgotten),
            Some(last) if last == kept.rows => return Ok(()),
            Some(last) => Some(last),
        };
        self.guarded("what outlives a step", || {
            let mut encoder = self.handle.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let to = &states.sets[&kept.rows];
            match from.map(|rows| (rows.min(kept.rows), &states.sets[&rows])) {
                // What an earlier sequence has left is not seen, but a number that is none would be.
                None => to.buffers.iter().for_each(|buffer| encoder.clear_buffer(buffer, 0, None)),
                Some((rows, from)) => copy(&mut encoder, from, to, rows),
            }
            self.queue.submit([encoder.finish()]);
            Ok(())
        })?;
        states.last = Some(kept.rows);
        Ok(())
    }
}

fn copy(encoder: &mut wgpu::CommandEncoder, from: &Set, to: &Set, rows: u64) {
    let buffers = from.buffers.iter().zip(&to.buffers);
    for ((source, target), (was, is)) in buffers.zip(from.states.iter().zip(&to.states)) {
        for outer in 0..is.outer {
            let [from, to] = [was, is].map(|state| outer * state.room * state.row_bytes);
            encoder.copy_buffer_to_buffer(source, from, target, to, rows * is.row_bytes);
        }
    }
}

fn position(kept: &Kept, inputs: &[Tensor]) -> Result<i64, GpuHostError> {
    let tensor = inputs.iter().find(|tensor| tensor.name == kept.position);
    let bytes = tensor.and_then(|tensor| tensor.body.contiguous().as_ref().try_into().ok());
    let bytes = bytes.ok_or_else(|| GpuHostError::Input { name: kept.position.clone() })?;
    Ok(i64::from_le_bytes(bytes))
}
