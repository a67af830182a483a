//! What a lane must give up when it holds too much, or when a load found no room. Pure.
//!
//! GPU objects go when their session does.
//! A WASM heap never shrinks: sessions that go leave room inside it, and only a fresh Worker gives it back.

use tokio::time::Instant;

use super::{
    Limits,
    lane::{Lane, SessionState},
};
use crate::{backend::SessionName, domain::LaneMemory};

/// A heap is worth a fresh Worker when what its sessions hold is at most its half; they are loaded anew on demand.
const HELD_SHARE: u64 = 2;

/// A load takes a model's bytes for the file and again for what the engine makes of it.
const LOAD_COPIES: u64 = 2;

/// When a session was last used, and what it is thought to hold.
type Held = (Instant, SessionName, LaneMemory);

#[derive(Debug, PartialEq)]
pub(super) enum Relief {
    /// Sessions to unload, least recently used first.
    Unload(Vec<SessionName>),
    /// To be recycled once nothing runs in it.
    Recycle(String),
}

/// What a lane over its ceiling gives up; the most recently used session stays, since it alone may need as much.
pub(super) fn relief(lane: &Lane, limits: &Limits, now: Instant) -> Option<Relief> {
    let memory = lane.memory()?;
    let ceiling = limits.lane_memory;
    let over = memory.less(LaneMemory { wasm_bytes: ceiling, gpu_bytes: ceiling });
    if over == LaneMemory::default() || lane.draining.is_some() || lane.preparing() > 0 {
        return None;
    }
    let mut kept = by_last_use(lane);
    kept.pop();
    let kept = loaded_last(lane, kept);
    let (mut freed, mut unloaded) = (LaneMemory::default(), Vec::new());
    let held = kept_memory(lane);
    let fits = |freed: LaneMemory| {
        let small = held.less(freed).wasm_bytes <= memory.wasm_bytes / HELD_SHARE;
        freed.gpu_bytes >= over.gpu_bytes && (over.wasm_bytes == 0 || small)
    };
    for (_, session, memory) in kept {
        if fits(freed) {
            break;
        }
        freed = freed.plus(memory);
        unloaded.push(session);
    }
    let small = held.less(freed).wasm_bytes <= memory.wasm_bytes / HELD_SHARE;
    if over.wasm_bytes > 0 && small && now >= lane.since + limits.recycle_after {
        return Some(Relief::Recycle(format!(
            "its heap of {} bytes is over {ceiling}, and its sessions hold {} of it",
            memory.wasm_bytes,
            held.less(freed).wasm_bytes
        )));
    }
    (!unloaded.is_empty()).then_some(Relief::Unload(unloaded))
}

/// What to unload before a load of `bytes` that found no room is tried again; nothing when there is nothing.
pub(super) fn room_for(lane: &Lane, bytes: u64) -> Vec<SessionName> {
    let wanted = bytes.saturating_mul(LOAD_COPIES);
    let mut freed = 0u64;
    let mut unloaded = Vec::new();
    for (_, session, memory) in loaded_last(lane, by_last_use(lane)) {
        if freed >= wanted && !unloaded.is_empty() {
            break;
        }
        freed = freed.saturating_add(memory.wasm_bytes.max(memory.gpu_bytes));
        unloaded.push(session);
    }
    unloaded
}

/// Whether models of so many bytes can be loaded beside what a lane's sessions hold, without any of them to go.
pub(super) fn fits(lane: &Lane, bytes: u64, limits: &Limits) -> bool {
    let ceiling = lane.backend.memory_max().map_or(u64::MAX, |heap| heap.min(limits.lane_memory));
    kept_memory(lane).wasm_bytes.saturating_add(bytes.saturating_mul(LOAD_COPIES)) <= ceiling
}

fn kept_memory(lane: &Lane) -> LaneMemory {
    by_last_use(lane).iter().fold(LaneMemory::default(), |sum, (_, _, memory)| sum.plus(*memory))
}

/// Sessions of loaded models behind the others.
fn loaded_last(lane: &Lane, mut sessions: Vec<Held>) -> Vec<Held> {
    sessions.sort_by_key(|(_, session, _)| lane.kept.contains(&session.model));
    sessions
}

/// The sessions that may go, least recently used first.
fn by_last_use(lane: &Lane) -> Vec<Held> {
    let ready = |(name, state): (&SessionName, &SessionState)| match state {
        SessionState::Ready { used, memory, .. } => Some((*used, name.clone(), *memory)),
        SessionState::Preparing | SessionState::Stale | SessionState::Refused { .. } => None,
    };
    let mut sessions: Vec<_> = lane.sessions.iter().filter_map(ready).collect();
    sessions.sort_by_key(|(used, _, _)| *used);
    sessions
}
