//! A `weft serve` on a home that outlives it, and what it has launched.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
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

use crate::{
    processes::{saying, tree},
    requests::BROWSER,
};

/// Browsers answer their own control port within milliseconds.
const CONTROL_WITHIN: Duration = Duration::from_secs(10);

/// The variable that marks what belongs to a run of the daemon.
const MARK: &str = "WEFT_RUN";

/// The other folder that a browser has to itself: its sockets are there.
const TEMPORARY: &str = "TMPDIR";

const PREFERENCES: &str = "user.js";

pub(crate) struct Daemon {
    pub(crate) url: String,
    program: PathBuf,
    home: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts `program` with one Chromium and waits for the line that says where it listens.
    pub(crate) async fn start(program: &Path, home: &Path) -> anyhow::Result<Self> {
        Self::start_with(program, home, &format!("{BROWSER}=1")).await
    }

    /// The same with these browsers.
    pub(crate) async fn start_with(program: &Path, home: &Path, browsers: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--browsers", browsers, "--home"])
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
        self.add_with(source, &[]).await
    }

    /// Adds a model with these options.
    pub(crate) async fn add_with(&self, source: &str, options: &[&str]) -> anyhow::Result<()> {
        let mut add = Command::new(&self.program);
        add.args(["models", "add", source, "--url", &self.url]).args(options);
        let status = add.stdout(Stdio::null()).status().await?;
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
        let environment =
            std::fs::read(format!("/proc/{pid}/environ")).context("the browser's environment")?;
        let wrapped = !saying(&tree(i32::try_from(pid)?), "bwrap").is_empty();
        Ok(Launched { program, arguments: words.collect(), environment, profile, wrapped })
    }
}

/// A browser as the daemon launched it.
pub(crate) struct Launched {
    pub(crate) program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<u8>,
    profile: PathBuf,
    /// Whether its pages are confined by bubblewrap.
    pub(crate) wrapped: bool,
}

impl Launched {
    /// The same arguments for a profile of one's own.
    pub(crate) fn arguments(&self, profile: &Path) -> Vec<OsString> {
        let own = |argument: &OsString| elsewhere(argument.as_bytes(), &self.profile, profile);
        self.arguments.iter().map(own).collect()
    }

    /// The same with all that the daemon has the browser keep below a folder of its own kept below `own`.
    pub(crate) fn command(&self, own: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.arguments(&own.join("profile"))).env_clear().envs(self.environment(own));
        command
    }

    /// Without the daemon's mark, by which its guardian finds what is to end with it.
    pub(crate) fn environment(&self, own: &Path) -> Vec<(OsString, OsString)> {
        let variables = self.environment.split(|byte| *byte == 0);
        let split = |variable: &[u8]| {
            let at = variable.iter().position(|byte| *byte == b'=')?;
            Some((
                OsString::from_vec(variable[..at].to_vec()),
                OsString::from_vec(variable[at + 1..].to_vec()),
            ))
        };
        let variables: Vec<_> = variables.filter_map(split).filter(|(name, _)| name != MARK).collect();
        let temporary =
            variables.iter().find(|(name, _)| name == TEMPORARY).map(|(_, folder)| folder.clone());
        let folders = [self.profile.parent().map(Path::to_owned), temporary.map(PathBuf::from)];
        let moved = |value: OsString| {
            folders.iter().flatten().fold(value, |value, from| elsewhere(value.as_bytes(), from, own))
        };
        variables.into_iter().map(|(name, value)| (name, moved(value))).collect()
    }

    /// Makes a new profile below `own`, with the preferences of this one.
    pub(crate) fn prepare(&self, own: &Path) -> std::io::Result<()> {
        let profile = own.join("profile");
        std::fs::create_dir(&profile)?;
        match std::fs::copy(self.profile.join(PREFERENCES), profile.join(PREFERENCES)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            // Only Firefox has them.
            _ => Ok(()),
        }
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

/// `text` with the folder `from` in it replaced by `to`.
fn elsewhere(text: &[u8], from: &Path, to: &Path) -> OsString {
    let from = from.as_os_str().as_bytes();
    let Some(at) = text.windows(from.len()).position(|window| window == from) else {
        return OsString::from_vec(text.to_vec());
    };
    let (before, after) = (&text[..at], &text[at + from.len()..]);
    OsString::from_vec([before, to.as_os_str().as_bytes(), after].concat())
}
