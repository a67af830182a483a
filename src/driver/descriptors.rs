//! How many files this process may have open: raised at the start as far as the system lets us, and put back for
//! the processes we start, since some of them go through all numbers up to the limit.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The daemon itself holds some 60 with one browser, a connection one, a launch some 10 for a moment.
const WANTED: u64 = 128;

/// What we were started with.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    #[error(
        "this process may open {most} files and needs at least {WANTED}: raise the limit, as with ulimit -n, \
         LimitNOFILE= of a unit, or --ulimit nofile= of a container"
    )]
    TooFew { most: u64 },
}

/// Raises the limit to what the system allows at most; answers that.
pub fn raise() -> Result<u64, DescriptorError> {
    let now = getrlimit(Resource::Nofile);
    INHERITED.get_or_init(|| now);
    // Where raising is refused, what holds is what counts.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }).is_ok();
    let most = if raised { now.maximum } else { now.current }.unwrap_or(u64::MAX);
    if most < WANTED { Err(DescriptorError::TooFew { most }) } else { Ok(most) }
}

pub(super) fn inherited() -> Option<Rlimit> {
    INHERITED.get().copied()
}

/// Called between fork and exec: it makes one system call.
pub(super) fn restore(limit: Option<Rlimit>) {
    if let Some(limit) = limit {
        // A child with more than it expects still runs.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
