//! A `weft serve` of one's own: started in a throw-away home, asked over its WebSocket, stopped by SIGTERM.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, anyhow, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

pub(crate) struct Served {
    pub(crate) url: String,
    program: PathBuf,
    home: tempfile::TempDir,
    child: Child,
}

impl Served {
    /// Starts `program` with these browsers and waits for the line that says where it listens.
    pub(crate) async fn start(program: &Path, browsers: &str) -> anyhow::Result<Self> {
        Self::start_with(program, browsers, &[]).await
    }

    /// Starts with these files in its home: their paths there and their texts.
    pub(crate) async fn start_with(
        program: &Path,
        browsers: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let home = tempfile::tempdir().context("a throw-away home")?;
        for (path, text) in files {
            let path = home.path().join(path);
            std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            std::fs::write(path, text)?;
        }
        let log = home.path().join("serve.log");
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--browsers", browsers, "--home"])
            .arg(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
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
        Ok(Self { url, program: program.to_owned(), home, child })
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs another `weft` command against this daemon, its output going where ours goes.
    pub(crate) async fn weft(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let status = Command::new(&self.program).args(arguments).args(["--url", &self.url]).status().await?;
        ensure!(status.success(), "weft {} failed: {status}", arguments.join(" "));
        Ok(())
    }

    pub(crate) fn pid(&self) -> anyhow::Result<Pid> {
        let pid = self.child.id().context("the daemon has ended already")?;
        Ok(Pid::from_raw(i32::try_from(pid)?))
    }

    /// Kills the daemon as the kernel would; what it started is the guardian's now.
    pub(crate) async fn kill(mut self) -> anyhow::Result<tempfile::TempDir> {
        self.child.kill().await?;
        Ok(self.home)
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Client::connect(&self.url).await
    }

    /// Asks the daemon to stop, and checks that it left nothing in its home's run folder.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "the daemon ended with {status}");
        let run = self.home.path().join("run");
        let left: Vec<_> =
            std::fs::read_dir(&run).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }
}

/// One connection to `/v2/ws`, one request at a time.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u64,
}

/// What a request is restricted to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) browser: &'static str,
    pub(crate) backend: &'static str,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let url = format!("{}/v2/ws", url.replacen("http", "ws", 1));
        let (socket, _) = tokio_tungstenite::connect_async(&url).await.with_context(|| url.clone())?;
        Ok(Self { socket, asked: 0 })
    }

    /// The answer's whole message, a result or an error.
    pub(crate) async fn ask(&mut self, model: &str, inputs: Value, lane: Lane) -> anyhow::Result<Value> {
        self.asked += 1;
        let id = self.asked.to_string();
        let request = json!({
            "type": "infer", "id": id, "model_name": model, "inputs": inputs,
            // Long enough for a browser to start and to prove the model first.
            "parameters": {"browser": lane.browser, "backend": lane.backend, "timeout": 300_000_000u64},
        });
        self.socket.send(Message::text(request.to_string())).await?;
        loop {
            let message =
                self.socket.next().await.ok_or_else(|| anyhow!("the daemon closed the connection"))??;
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text)?;
            if answer["id"] != id.as_str() {
                bail!("the answer {answer} belongs to another request");
            }
            return Ok(answer);
        }
    }
}

/// Processes that carry this home in their environment or command line, beside ourselves.
pub(crate) fn processes_of(home: &Path) -> Vec<String> {
    let mark = home.as_os_str().as_encoded_bytes();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let carries = |path: &PathBuf| {
        ["environ", "cmdline"].iter().any(|file| {
            let bytes = std::fs::read(path.join(file)).unwrap_or_default();
            bytes.windows(mark.len()).any(|window| window == mark)
        })
    };
    let numbered =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    let ours = PathBuf::from(format!("/proc/{}", std::process::id()));
    entries
        .filter(|path| numbered(path) && *path != ours && carries(path))
        .map(|path| {
            format!("{} {}", path.display(), std::fs::read_to_string(path.join("comm")).unwrap_or_default())
        })
        .collect()
}

/// The elements of an output as numbers.
pub(crate) fn numbers(answer: &Value, output: &str) -> anyhow::Result<Vec<f32>> {
    let outputs = answer["outputs"].as_array().with_context(|| format!("no outputs in {answer}"))?;
    let found = outputs.iter().find(|candidate| candidate["name"] == output);
    let data =
        found.and_then(|found| found["data"].as_array()).with_context(|| format!("no output {output}"))?;
    data.iter().map(|element| element.as_f64().map(|number| number as f32).context("no number")).collect()
}

/// Where setup put what it brought; the same rule as weft's own.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    Ok(weft::config::Surroundings::read()?.cache)
}
