//! Programs of others that are run to their end: bounded in time and in what is heard of them, in a folder and a group of
//! their own, of which nothing is left afterwards.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

use super::{
    ledger::{self, RunDir},
    procs,
    spawner::{self, Tie},
    sweep::{self, Claim, Leader},
};
use crate::tasks::Tasks;

/// What is kept of each of its outputs, from the end.
const HEARD_MAX: usize = 8 << 10;

/// A folder for one errand after another; it goes with all that is in it, and with what still runs there.
pub struct Workshop {
    folder: PathBuf,
    tasks: Tasks,
}

pub struct Errand {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub variables: Vec<(&'static str, OsString)>,
    pub within: Duration,
}

/// The ends of what it said.
#[derive(Debug)]
pub struct Said {
    pub stdout: String,
    pub stderr: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    #[error("{program} could not be started: {source}")]
    Start { program: String, source: io::Error },
    #[error("{program} took over {} s and was ended", within.as_secs())]
    TooLong { program: String, within: Duration },
    #[error("{program} ended with {status}: {said}")]
    Failed { program: String, status: ExitStatus, said: String },
    #[error("{program} was ended, because nobody waits for it any more")]
    Abandoned { program: String },
}

impl Workshop {
    /// Opens an empty one within the run's folder, so that whatever ends the run ends what goes on here.
    pub fn open(run: &RunDir, tasks: &Tasks) -> io::Result<Self> {
        let folder = run.path().join(format!("errand-{:032x}", rand::random::<u128>()));
        std::fs::create_dir(&folder)?;
        Ok(Self { folder, tasks: tasks.clone() })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a program here to its end. One whose caller leaves is ended.
    pub async fn run(self: &Arc<Self>, errand: Errand) -> Result<Said, ErrandError> {
        let program = errand.program.display().to_string();
        let abandoned = ErrandError::Abandoned { program };
        let left = CancellationToken::new();
        let (done, outcome) = oneshot::channel();
        let (workshop, watch, stopping) = (self.clone(), left.clone(), self.tasks.stopping());
        self.tasks.spawn("errand", async move {
            let outcome = workshop.work(errand, watch, stopping).await;
            // Whoever asked may have left.
            let _ = done.send(outcome);
        });
        let _guard = left.drop_guard();
        outcome.await.unwrap_or(Err(abandoned))
    }

    async fn work(
        &self,
        errand: Errand,
        left: CancellationToken,
        stopping: CancellationToken,
    ) -> Result<Said, ErrandError> {
        let Errand { program, arguments, variables, within } = errand;
        let name = program.display().to_string();
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env(procs::MARKER, &self.folder)
            .env("HOME", &self.folder)
            .env("TMPDIR", &self.folder)
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let start = |source| ErrandError::Start { program: name.clone(), source };
        let mut child = spawner::spawn(command, Tie::Bound).map_err(start)?;
        let pid = child.id().expect("nobody has waited for the child yet").cast_signed();
        let leader = Leader { pid, start: procs::read(pid).map_or(spawner::UNKNOWN, |own| own.start) };
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let heard = async { tokio::join!(tail(out), tail(err)) };
        let whole = async { tokio::join!(child.wait(), heard) };
        let ended = tokio::select! {
            (status, heard) = whole => Ok((status, heard)),
            () = tokio::time::sleep(within) => Err(ErrandError::TooLong { program: name.clone(), within }),
            () = left.cancelled() => Err(ErrandError::Abandoned { program: name.clone() }),
            () = stopping.cancelled() => Err(ErrandError::Abandoned { program: name.clone() }),
        };
        // Whatever it has left running.
        let folder = self.folder.clone();
        let swept =
            tokio::task::spawn_blocking(move || sweep::sweep(Claim { folder: &folder, leaders: &[leader] }));
        if let Ok(Err(pids)) = swept.await {
            tracing::error!(?pids, program = name, "processes of an errand do not die");
        }
        let (status, (stdout, stderr)) = ended?;
        let status = status.map_err(start)?;
        if !status.success() {
            let said = last_line(&stderr).or_else(|| last_line(&stdout)).unwrap_or("nothing").to_owned();
            return Err(ErrandError::Failed { program: name, status, said });
        }
        Ok(Said { stdout, stderr })
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Err(error) = ledger::remove(&self.folder) {
            tracing::warn!(%error, "an errand's folder was not removed; the run's end removes it");
        }
    }
}

fn last_line(said: &str) -> Option<&str> {
    said.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

/// Reads to the end and keeps the last of it.
async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 4 << 10]);
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        if kept.len() > 2 * HEARD_MAX {
            kept.drain(..kept.len() - HEARD_MAX);
        }
    }
    String::from_utf8_lossy(&kept[kept.len().saturating_sub(HEARD_MAX)..]).into_owned()
}
