//! Firefox and `WebKitGTK` launched bare: the daemon's own command lines without the daemon, and the fewest commands
//! of their protocols that lead to the bench's page.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    daemon::Launched,
    requests::Model,
    site::{LoopWorker, Site},
};

/// Twenty times what it takes on two cores.
const LAUNCH_WITHIN: Duration = Duration::from_secs(60);

/// No driver tells when it listens; as often as the daemon looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const ANNOUNCEMENT: &str = "WebDriver BiDi listening on ";

/// The daemon's own display has it too.
const SCREEN: &str = "1280x800x24";

/// From the start of the first process to the end of the first run.
pub(crate) async fn launch(
    browser: &str,
    launched: &Launched,
    site: &mut Site,
    model: &Model,
) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let own = folder.path();
    launched.prepare(own)?;
    let launch = async {
        match browser {
            "firefox" => firefox(launched, own, site, model).await,
            "webkitgtk" => webkitgtk(launched, own, site, model).await,
            other => bail!("{other} is not launched bare"),
        }
    };
    tokio::time::timeout(LAUNCH_WITHIN, launch).await.context("the bare browser did not answer")?
}

/// A process with a group of its own, which ends with it.
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.stdin(Stdio::null()).process_group(0).kill_on_drop(true).spawn()?))
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let leader = self.0.id().context("it ended by itself")?;
        killpg(Pid::from_raw(i32::try_from(leader)?), Signal::SIGKILL)?;
        self.0.wait().await?;
        Ok(())
    }
}

/// What stands behind `start` in the first line that begins so.
async fn told(lines: impl AsyncBufRead + Unpin + Send + 'static, start: &str) -> anyhow::Result<String> {
    let mut lines = lines.lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(rest) = line.strip_prefix(start) {
            // Nobody else empties the pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(rest.to_owned());
        }
    }
    bail!("it ended before it said {start:?}")
}

/// The end of the first run in the page that is on its way.
async fn first_run(site: &mut Site, model: &Model) -> anyhow::Result<()> {
    let mut worker = LoopWorker::start(site.linked().await?, &[model.frame(0)]).await?;
    worker.run(1).await?;
    Ok(())
}

async fn firefox(
    launched: &Launched,
    own: &Path,
    site: &mut Site,
    model: &Model,
) -> anyhow::Result<Duration> {
    let url = site.loop_page(&model.name, 1);
    let started = Instant::now();
    let mut group = Group::start(launched.command(own).stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let stderr = BufReader::new(group.0.stderr.take().context("stderr was piped")?);
    let address = told(stderr, ANNOUNCEMENT).await?;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("{address}/session")).await?;
    let mut ask = async |method: &str, params: Value| {
        socket.send(Message::text(json!({"id": 1, "method": method, "params": params}).to_string())).await?;
        loop {
            let message = socket.next().await.context("Firefox closed its socket")??;
            let Message::Text(text) = message else { continue };
            let said: Value = serde_json::from_str(&text)?;
            if said["id"] == 1 {
                ensure!(said["type"] == "success", "{method}: {said}");
                return Ok(said["result"].clone());
            }
        }
    };
    ask("session.new", json!({"capabilities": {}})).await?;
    let tree = ask("browsingContext.getTree", json!({"maxDepth": 0})).await?;
    let to = json!({"context": tree["contexts"][0]["context"], "url": url, "wait": "none"});
    ask("browsingContext.navigate", to).await?;
    first_run(site, model).await?;
    let took = started.elapsed();
    group.end().await?;
    Ok(took)
}

async fn webkitgtk(
    launched: &Launched,
    own: &Path,
    site: &mut Site,
    model: &Model,
) -> anyhow::Result<Duration> {
    let url = site.loop_page(&model.name, 1);
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let http = reqwest::Client::builder().no_proxy().build()?;
    let started = Instant::now();
    let mut xvfb = Command::new("Xvfb");
    xvfb.args(["-displayfd", "1", "-screen", "0", SCREEN, "-nolisten", "tcp", "-noreset"]);
    let mut display = Group::start(xvfb.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let number = told(BufReader::new(display.0.stdout.take().context("stdout was piped")?), "").await?;
    let mut driver = Command::new(&launched.program);
    driver.arg(format!("--port={port}")).env_clear().envs(launched.environment(own));
    driver.env("DISPLAY", format!(":{number}")).env_remove("XAUTHORITY");
    let group = Group::start(driver.stdout(Stdio::null()).stderr(Stdio::null()))?;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let post = async |path: &str, body: Value| -> anyhow::Result<Value> {
        let request = http.post(format!("http://127.0.0.1:{port}/session{path}")).body(body.to_string());
        let answer: Value = request.send().await?.json().await?;
        ensure!(answer["value"]["error"].is_null(), "{path}: {answer}");
        Ok(answer["value"].clone())
    };
    let mut args = vec!["--automation"];
    if launched.wrapped {
        args.push("--enable-sandbox");
    }
    let wanted = json!({"webkitgtk:browserOptions": {"args": args}});
    let session = post("", json!({"capabilities": {"alwaysMatch": wanted}})).await?;
    let id = session["sessionId"].as_str().context("a session has an id")?;
    post(&format!("/{id}/url"), json!({"url": url})).await?;
    first_run(site, model).await?;
    let took = started.elapsed();
    group.end().await?;
    display.end().await?;
    Ok(took)
}
