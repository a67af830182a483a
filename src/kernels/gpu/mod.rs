//! Routines as programs for a GPU: which buffers there are, which kernels compute a call, and the WGSL of these.
//!
//! What a kernel does by its structure stands in its source; sizes are its parameters, so that models have few kernels.
//! It never sees a device: `backend/wgpu` and the page follow what is made here.

mod buffers;
mod calls;
mod expr;
mod kernel;
pub mod program;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod tuning;
mod writer;

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use self::{calls::Site, program::Program, tuning::Tuning, writer::Writer};
use super::ir::Routine;
use crate::domain::Adapter;

/// What an adapter bears, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Of a buffer as a kernel sees it.
    pub binding_bytes: u64,
    pub buffer_bytes: u64,
    /// That the threads of a group share.
    pub workgroup_bytes: u32,
    /// Threads of a group.
    pub invocations: u32,
    /// Groups along one dimension.
    pub groups: u32,
    /// Whether processors do the work of a GPU.
    pub software: bool,
}

impl Limits {
    /// What WebGPU promises of every adapter.
    pub const PROMISED: Self = Self {
        binding_bytes: 128 << 20,
        buffer_bytes: 256 << 20,
        workgroup_bytes: 16 << 10,
        invocations: 256,
        groups: 65535,
        software: false,
    };

    /// Of a device in a page, by the names that WebGPU has for limits.
    pub fn of_page(adapter: Option<&Adapter>, limits: &BTreeMap<String, u64>) -> Self {
        let promised = Self::PROMISED;
        let wide = |name: &str, promised: u64| limits.get(name).copied().unwrap_or(promised);
        let narrow =
            |name: &str, promised: u32| u32::try_from(wide(name, promised.into())).unwrap_or(u32::MAX);
        Self {
            binding_bytes: wide("maxStorageBufferBindingSize", promised.binding_bytes),
            buffer_bytes: wide("maxBufferSize", promised.buffer_bytes),
            workgroup_bytes: narrow("maxComputeWorkgroupStorageSize", promised.workgroup_bytes),
            invocations: narrow("maxComputeInvocationsPerWorkgroup", promised.invocations),
            groups: narrow("maxComputeWorkgroupsPerDimension", promised.groups),
            software: adapter.is_some_and(|adapter| adapter.software),
        }
    }
}

/// Why no program can be made of a routine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    #[error("{what} takes {needed}, and the adapter bears {most}")]
    Limit { what: String, needed: u64, most: u64 },
    #[error("{call}: {why}")]
    Call { call: &'static str, why: &'static str },
}

/// The program that computes a routine, and the block of bytes that goes with it.
pub fn compile(routine: &Routine, limits: &Limits) -> Result<(Program, Bytes), GpuError> {
    let plan = buffers::plan(routine, limits)?;
    let tuning = Tuning::of(limits);
    let site = Site { slots: &routine.slots, tuning: &tuning, limits };
    let mut writer = Writer::new(&plan, limits.groups);
    let once = writer.dispatches(&routine.once, &site)?;
    let calls = writer.dispatches(&routine.calls, &site)?;
    Ok(writer.finish(routine, once, calls))
}

/// The engine's name with the version of the kernels in it: what was proven of others says nothing of these.
pub fn engine() -> String {
    format!("weft@{}/{}", env!("CARGO_PKG_VERSION"), fingerprint())
}

/// A digest of all that the kernels' sources are made of.
pub fn fingerprint() -> String {
    let mut digest = Sha256::new();
    for source in calls::SOURCES {
        digest.update(source.as_bytes());
    }
    digest.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes everything");
        text
    })
}
