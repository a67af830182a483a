//! Starts a driver program of our own: finds it a port, and makes sure that it is the one who answers there.
//!
//! Drivers do not say which port they took, so one is chosen before the start, and somebody else may take it first.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, time::Instant};

use crate::{
    driver::{
        DriverError,
        ledger::RunDir,
        process::{Order, Process, Watch},
        procs,
    },
    tasks::Tasks,
};

/// Losing a free port in the milliseconds until the program takes it is rare; several times in a row it is no race.
const STARTS_MAX: u32 = 4;

/// No driver tells when it listens: `WebKitWebDriver` writes nothing at all.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What every driver program keeps below its own folder.
const HOME_VARIABLE: &str = "XDG_CACHE_HOME";

pub(super) struct Start<'a> {
    pub(super) tasks: &'a Tasks,
    pub(super) run: &'a Arc<RunDir>,
    pub(super) name: &'a str,
    pub(super) program: &'a Path,
    pub(super) flags: Vec<String>,
    pub(super) environment: Vec<(&'static str, OsString)>,
    pub(super) deadline: Instant,
}

/// How one start went.
enum Met {
    Ours,
    /// The port is somebody else's.
    Clash,
    Ended,
    Late,
}

impl Start<'_> {
    /// A running program and the port at which it answers.
    pub(super) async fn start(&self) -> Result<(Process, u16), DriverError> {
        let started = Instant::now();
        let mut starts = 0;
        loop {
            starts += 1;
            let port = free_port().map_err(|source| self.refused(source))?;
            let process = self.spawn(port)?;
            let watch = process.watch().clone();
            match self.meet(&process, port).await {
                Met::Ours => return Ok((process, port)),
                Met::Clash if starts < STARTS_MAX => {
                    tracing::info!(
                        name = self.name,
                        port,
                        "the port went to another process, taking the next"
                    );
                    process.end().await;
                }
                met => {
                    process.end().await;
                    return Err(failed(&met, &watch, started));
                }
            }
        }
    }

    fn spawn(&self, port: u16) -> Result<Process, DriverError> {
        let folders = self.run.folders(self.name).map_err(|error| self.refused(io::Error::other(error)))?;
        let mut args = vec![OsString::from(format!("--port={port}"))];
        args.extend(self.flags.iter().map(OsString::from));
        let mut variables = self.environment.clone();
        variables.push((HOME_VARIABLE, folders.own.clone().into()));
        if cfg!(target_os = "linux") {
            for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
                variables.push((name, folders.own.clone().into()));
            }
            // Sockets are made there, whose paths must be short.
            variables.push(("XDG_RUNTIME_DIR", folders.scratch.clone().into()));
            // The user's own settings are not for us to read, and cost a bus and a database in the home.
            variables.push(("GSETTINGS_BACKEND", "memory".into()));
            variables.push(("NO_AT_BRIDGE", "1".into()));
        }
        let order =
            Order { program: self.program, args, variables, folders, announcement: "\0", noise: "\0" };
        Process::spawn(self.tasks, self.run, order)
    }

    async fn meet(&self, process: &Process, port: u16) -> Met {
        let watch = process.watch();
        let answered = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            _ = watch.ended() => if is_taken(port) { Met::Clash } else { Met::Ended },
            () = answered => if listens(process.pid(), port) { Met::Ours } else { Met::Clash },
            () = tokio::time::sleep_until(self.deadline) => Met::Late,
        }
    }

    fn refused(&self, source: io::Error) -> DriverError {
        DriverError::Spawn { program: self.program.display().to_string(), source }
    }
}

fn failed(met: &Met, watch: &Watch, started: Instant) -> DriverError {
    let (program, last_lines) = (watch.program().to_owned(), watch.last_lines());
    match met {
        Met::Ended => DriverError::Launch { program, status: watch.status(), last_lines },
        Met::Clash => DriverError::Connect {
            program,
            waited_ms: started.elapsed().as_millis(),
            last_lines: format!("{last_lines} (its port went to another process {STARTS_MAX} times)"),
        },
        Met::Ours | Met::Late => {
            DriverError::Connect { program, waited_ms: started.elapsed().as_millis(), last_lines }
        }
    }
}

/// A port that is nobody's at this moment.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Whether a process of this group holds the socket that listens at the port. Only Linux tells; elsewhere a program
/// that goes on running is believed to have its port.
pub(super) fn listens(group: i32, port: u16) -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let sockets = listening(port);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| procs::read(*pid).is_some_and(|proc| proc.group == group)).any(|pid| {
        let handles = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        handles
            .filter_map(|handle| fs::read_link(handle.path()).ok())
            .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
    })
}

/// The sockets that listen at a port of this network namespace, as links of descriptors name them.
fn listening(port: u16) -> HashSet<String> {
    const LISTENING: &str = "0A";
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|table| fs::read_to_string(table).unwrap_or_default());
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, at) = fields.get(1)?.rsplit_once(':')?;
        let ours = u16::from_str_radix(at, 16) == Ok(port) && *fields.get(3)? == LISTENING;
        ours.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
    };
    tables.iter().flat_map(|table| table.lines().filter_map(socket)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_to_be_ours_or_another_s() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = nix::unistd::getpgrp().as_raw();
        assert!(is_taken(port));
        assert!(listens(ours, port));
        assert!(!listens(1, port), "another group was taken for the listener's");
        drop(listener);
        assert!(!is_taken(port));
        assert!(!listens(ours, port), "a closed port was taken for one that listens");
    }
}
