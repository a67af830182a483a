//! This program once more, with one thing to do: its standard input is a socket to us, and it ends when we close that.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{ledger::RunDir, procs, spawner};

/// Its process. Dropping it ends the process and waits for that.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    log: PathBuf,
    pub socket: UnixStream,
}

impl Companion {
    /// Starts `program` with these arguments; `name` is what its log is called.
    pub fn start(program: &Path, arguments: &[OsString], name: &str, run: &RunDir) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let log = run.path().join(format!("{name}.log"));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env(procs::MARKER, run.path())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .process_group(0);
        Ok(Self { child: spawner::bound(command)?, log, socket })
    }

    /// What it said last before it ended.
    pub fn last_words(&self) -> Option<String> {
        let said = std::fs::read_to_string(&self.log).ok()?;
        said.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It has ended already, or has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end: what a companion was started with as its standard input.
pub fn socket() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}
