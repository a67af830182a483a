//! Which execution provider took which part of a session's graph, as the engine itself recorded it.

use std::{ffi::CStr, ptr, slice};

use ort::{AsPointer, Error, Result, session::Session, sys};

use super::library::short_name;
use crate::domain::Placement;

/// The session option that makes the engine keep the record.
pub(super) const RECORD: (&str, &str) = ("session.record_ep_graph_assignment_info", "1");

/// Nodes per provider, counted when the graph was divided, before a provider fuses what it took.
pub(super) fn read(session: &Session) -> Result<Placement> {
    let mut placement = Placement::new();
    let mut parts: *const *const sys::OrtEpAssignedSubgraph = ptr::null();
    let mut count = 0;
    // SAFETY: the session lives through this function and owns all that the calls point to.
    unsafe {
        let status =
            (ort::api().Session_GetEpGraphAssignmentInfo)(session.ptr(), &raw mut parts, &raw mut count);
        Error::result_from_status(status)?;
        for part in list(parts, count) {
            let mut name = ptr::null();
            Error::result_from_status((ort::api().EpAssignedSubgraph_GetEpName)(*part, &raw mut name))?;
            let mut nodes = ptr::null();
            let mut count = 0;
            let status = (ort::api().EpAssignedSubgraph_GetNodes)(*part, &raw mut nodes, &raw mut count);
            Error::result_from_status(status)?;
            *placement.entry(short_name(&CStr::from_ptr(name).to_string_lossy())).or_insert(0) +=
                count as u64;
        }
    }
    Ok(placement)
}

/// # Safety
/// `items` points to `count` values, or `count` is 0.
unsafe fn list<'a, T>(items: *const T, count: usize) -> &'a [T] {
    // SAFETY: the caller says so; an empty list may come as a null pointer, which no slice may hold.
    if count == 0 { &[] } else { unsafe { slice::from_raw_parts(items, count) } }
}
