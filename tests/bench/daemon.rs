//! A `weft serve` on a home that outlives it, and what it has launched.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::requests::BROWSER;

/// Browsers answer their own control port within milliseconds.
const CONTROL_WITHIN: Duration = Duration::from_secs(10);

const PROFILE_FLAG: &str = "--user-data-dir=";

pub(crate) struct Daemon {
    pub(crate) url: String,
    program: PathBuf,
    home: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts `program` with one Chromium and waits for the line that says where it listens.
    pub(crate) async fn start(program: &Path, home: &Path) -> anyhow::Result<Self> {
        Self::start_many(program, home, 1).await
    }

    /// The same with several.
    pub(crate) async fn start_many(program: &Path, home: &Path, instances: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--browsers",
                &format!("{BROWSER}={instances}"),
                "--home",
            ])
            .arg(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.join("serve.log"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        let line = BufReader::new(stdout)
            .lines()
            .next_line()
            .await?
            .context("the daemon ended before it listened")?;
        let url = line.strip_prefix("listening on ").context("the daemon's first line")?.to_owned();
        Ok(Self { url, program: program.to_owned(), home: home.to_owned(), child })
    }

    pub(crate) async fn add(&self, source: &str) -> anyhow::Result<()> {
        let mut add = Command::new(&self.program);
        let status =
            add.args(["models", "add", source, "--url", &self.url]).stdout(Stdio::null()).status().await?;
        ensure!(status.success(), "weft models add {source} failed: {status}");
        Ok(())
    }

    pub(crate) fn socket(&self) -> String {
        format!("{}/v2/ws", self.url.replacen("http", "ws", 1))
    }

    pub(crate) fn pid(&self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.child.id().context("the daemon has ended already")?)?)
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid()?), Signal::SIGTERM)?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }

    /// The browser that runs now, as the daemon's ledger and the kernel tell of it.
    pub(crate) fn browser(&self) -> anyhow::Result<Launched> {
        let run =
            std::fs::read_dir(self.home.join("run"))?.next().context("the daemon has a run folder")??;
        let ledger = std::fs::read_to_string(run.path().join("ledger"))?;
        let lines = ledger.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut launches = lines.filter(|line| line["line"] == "process");
        let last = launches.next().context("no browser was launched")?;
        let pid = last["pid"].as_i64().context("a process has an id")?;
        let profile = PathBuf::from(last["profile"].as_str().context("a process has a profile")?);
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).context("the browser's command line")?;
        let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        let mut words = words.map(|word| OsString::from_vec(word.to_vec()));
        let program = words.next().context("a command line starts with its program")?.into();
        Ok(Launched { program, arguments: words.collect(), profile })
    }
}

/// A browser as the daemon launched it.
pub(crate) struct Launched {
    pub(crate) program: PathBuf,
    arguments: Vec<OsString>,
    profile: PathBuf,
}

impl Launched {
    /// The same arguments for a profile of one's own.
    pub(crate) fn arguments(&self, profile: &Path) -> Vec<OsString> {
        let own = |argument: &OsString| {
            if !argument.as_encoded_bytes().starts_with(PROFILE_FLAG.as_bytes()) {
                return argument.clone();
            }
            let mut own = OsString::from(PROFILE_FLAG);
            own.push(profile);
            own
        };
        self.arguments.iter().map(own).collect()
    }

    pub(crate) fn sandbox(&self) -> bool {
        !self.arguments.iter().any(|argument| argument == "--no-sandbox")
    }

    /// Opens a page of ours in this browser.
    /// The control port's plain HTTP does, because a debugger's session would slow what the page's Worker does.
    pub(crate) async fn open(&self, url: &str) -> anyhow::Result<()> {
        let port =
            std::fs::read_to_string(self.profile.join("DevToolsActivePort")).context("the control port")?;
        let port = port.lines().next().context("the control port's number")?;
        // What follows an ampersand would be taken for an option of the order itself.
        let order = format!("http://127.0.0.1:{port}/json/new?{}", url.replace('&', "%26"));
        let http = reqwest::Client::builder().no_proxy().timeout(CONTROL_WITHIN).build()?;
        http.put(order).send().await?.error_for_status().context("opening a page beside the daemon's")?;
        Ok(())
    }
}
