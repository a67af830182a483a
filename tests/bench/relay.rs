//! The bound of latency and transfer: the least that lies between a client and a Worker, in a process of its own as
//! the daemon is. Messages are forwarded as they come, uncompressed and unread.
//! Where the daemon computes by itself, the bound is the least server: it sends back what it gets.

use std::{
    io::{Read, Write},
    process::Stdio,
    sync::{Arc, Mutex},
};

use anyhow::{Context, ensure};
use axum::{
    Router,
    body::Bytes,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    daemon::Launched,
    site::{LINKED_WITHIN, PAGE, isolated, without_delay},
    wire::{MESSAGE_MAX, Wire},
};

/// What this program is started with to be the relay.
pub(crate) const ARGUMENT: &str = "relay";

const LISTENING: &str = "listening on ";
const LINKED: &str = "a Worker is linked";

/// Where HTTP's bodies come back.
pub(crate) const ECHO_PATH: &str = "/echo";

const ECHO: &str = include_str!("relay/echo.js");

/// The running process; it ends with its standard input.
pub(crate) struct Relay {
    address: String,
    told: Lines<BufReader<ChildStdout>>,
    _held: ChildStdin,
    _child: Child,
}

impl Relay {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the relay")?;
        let held = child.stdin.take().context("stdin was piped")?;
        let mut told = BufReader::new(child.stdout.take().context("stdout was piped")?).lines();
        let line = told.next_line().await?.context("the relay ended before it listened")?;
        let address = line.strip_prefix(LISTENING).context("the relay's first line")?.to_owned();
        Ok(Self { address, told, _held: held, _child: child })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where a WebSocket's messages come back without a Worker.
    pub(crate) fn echo(&self) -> String {
        format!("ws://{}/echo/ws", self.address)
    }

    /// A client's connection through a new Worker in this browser.
    pub(crate) async fn connect(&mut self, browser: &Launched) -> anyhow::Result<Wire> {
        browser.open(&format!("http://{}/page/echo", self.address)).await?;
        let line = tokio::time::timeout(LINKED_WITHIN, self.told.next_line()).await;
        let line = line.context("no Worker linked itself to the relay")??;
        ensure!(line.as_deref() == Some(LINKED), "the relay said {line:?}");
        Wire::connect(&format!("ws://{}/relay", self.address)).await
    }
}

/// The Worker that the next client is connected to.
type Waiting = Arc<Mutex<Option<WebSocket>>>;

/// The relay's process.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let router = Router::new()
        .route("/page/echo", get(async || isolated("text/html; charset=utf-8", PAGE)))
        .route("/worker/echo.js", get(async || isolated("text/javascript", ECHO)))
        .route("/link/echo", get(link))
        .route("/relay", get(relay))
        .route(ECHO_PATH, post(async |body: Bytes| body))
        .route("/echo/ws", get(echo))
        .with_state(Waiting::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell(&format!("{LISTENING}{}", listener.local_addr()?))?;
    let orphaned = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    tokio::select! {
        ended = axum::serve(listener.tap_io(without_delay), router) => Ok(ended?),
        _ = orphaned => Ok(()),
    }
}

fn tell(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

async fn link(State(waiting): State<Waiting>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX).on_upgrade(async move |worker| {
        *waiting.lock().expect("no holder of the waiting Worker panics") = Some(worker);
        // Whoever listened has ended the benchmark.
        let _ = tell(LINKED);
    })
}

async fn relay(State(waiting): State<Waiting>, upgrade: WebSocketUpgrade) -> Response {
    let worker = waiting.lock().expect("no holder of the waiting Worker panics").take();
    let Some(worker) = worker else { return StatusCode::CONFLICT.into_response() };
    upgrade.max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX).on_upgrade(async move |client| {
        let (to_client, from_client) = client.split();
        let (to_worker, from_worker) = worker.split();
        tokio::select! {
            () = forward(from_client, to_worker) => {}
            () = forward(from_worker, to_client) => {}
        }
    })
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX).on_upgrade(async move |mut client| {
        while let Some(Ok(message)) = client.recv().await {
            if client.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn forward(
    mut from: impl Stream<Item = Result<Message, axum::Error>> + Unpin,
    mut to: impl Sink<Message, Error = axum::Error> + Unpin,
) {
    while let Some(Ok(message)) = from.next().await {
        if to.send(message).await.is_err() {
            return;
        }
    }
}
