//! Decides whether a Chromium or a `WebKitGTK` can have its sandbox here, which is given up only where it cannot work,
//! and sees whether a Firefox did.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::OnceLock};

use super::{process, procs};

/// What the machine says about sandboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ground {
    pub(super) root: bool,
    /// `user.max_user_namespaces`.
    pub(super) most: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, on Debian's older kernels.
    pub(super) clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, on Ubuntu.
    pub(super) restricted: Option<u64>,
    /// Whether making a user namespace worked; `None` when there was nothing to try it with.
    /// Containers forbid it by a filter that no file tells of.
    pub(super) tried: Option<bool>,
}

impl Ground {
    pub(super) fn survey() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok();
        Self {
            root: nix::unistd::geteuid().is_root(),
            most: read("user/max_user_namespaces"),
            clone: read("kernel/unprivileged_userns_clone"),
            restricted: read("kernel/apparmor_restrict_unprivileged_userns"),
            tried: process::succeeds("unshare", &["--user", "--map-root-user", "true"]),
        }
    }

    /// `Err` says why the sandbox of this program must stay off.
    pub(super) fn allows(&self, program: &Path) -> Result<(), &'static str> {
        if self.root {
            return Err("the browser refuses its sandbox to root");
        }
        if has_setuid_helper(program) {
            return Ok(());
        }
        match self {
            Self { most: Some(0), .. } => Err("user.max_user_namespaces is 0"),
            Self { clone: Some(0), .. } => Err("kernel.unprivileged_userns_clone is 0"),
            Self { tried: Some(true), .. } => Ok(()),
            Self { restricted: Some(1), .. } => Err("AppArmor restricts user namespaces"),
            Self { tried: Some(false), .. } => Err("making a user namespace is forbidden here"),
            _ => Ok(()),
        }
    }
}

/// The older sandbox needs no user namespaces: a helper beside the program that runs as root.
fn has_setuid_helper(program: &Path) -> bool {
    let helper = program.canonicalize().unwrap_or_default().with_file_name("chrome-sandbox");
    fs::metadata(helper).is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o4000 != 0)
}

/// Whether bubblewrap, tried once, which confines `WebKitGTK`'s pages, can make what they are put into; for root it can as well.
pub(super) fn bubblewrap_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let confined = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid", "true"];
    *WORKS.get_or_init(|| process::succeeds("bwrap", &confined) == Some(true))
}

/// How a process's status reads when its system calls are filtered.
const FILTERED: &str = "2";

/// Whether Firefox confines the processes of its pages, in the group that `leader` leads.
///
/// Firefox keeps its sandbox for root as well, and weakens it silently where it must: the kernel is asked.
pub(super) async fn confines_tabs(leader: i32) -> Option<bool> {
    let looked = tokio::task::spawn_blocking(move || {
        let tabs = procs::all().into_iter().filter(|proc| proc.group == leader && is_tab(proc.pid));
        let filtered: Vec<bool> = tabs.filter_map(|proc| filtered(proc.pid)).collect();
        (!filtered.is_empty()).then(|| filtered.iter().all(|filtered| *filtered))
    });
    looked.await.expect("looking at the process table does not panic")
}

/// A process's kind is the last of its words, which the process that forked it may have joined by spaces.
fn is_tab(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| matches!(byte, 0 | b' ')).rfind(|word| !word.is_empty()) == Some(b"tab")
}

fn filtered(pid: i32) -> Option<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?;
    Some(mode.trim() == FILTERED)
}
