//! What the bench serves to browsers: its own pages and Workers, the engine's built files, and models.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

use crate::wire::MESSAGE_MAX;

pub(crate) const PAGE: &str = include_str!("relay/page.html");
const LOOP: &str = include_str!("relay/loop.js");
const INPUTS: &str = include_str!("relay/inputs.js");
const TRANSFORMERS: &str = include_str!("relay/transformers.js");

/// What a user would compute with in a page without weft.
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/transformers/node_modules");

/// The harness's build, whose engine files all sides load.
const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web-harness/dist/assets");

/// Workers that have linked and wait to be used; there are never more than a few.
const LINKS: usize = 8;

/// From the order to open a page until its Worker links itself; a cold browser takes a second.
pub(crate) const LINKED_WITHIN: Duration = Duration::from_secs(30);

/// A running site; it ends when dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) engine: EngineFiles,
    links: mpsc::Receiver<WebSocket>,
    serving: JoinHandle<()>,
}

/// Where the engine's files are served.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct EngineFiles {
    pub(crate) module: String,
    pub(crate) wasm: String,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "ort-wasm-js")]
    module: String,
    #[serde(rename = "ort-wasm")]
    wasm: String,
}

/// transformers.js as its package has it.
pub(crate) struct Peer {
    pub(crate) version: String,
    /// The engine that it brings, with its version.
    pub(crate) engine: String,
    /// By the names that it calls them.
    files: Vec<(String, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Package {
    version: String,
}

impl Peer {
    /// Or why it is not there.
    pub(crate) fn read() -> anyhow::Result<Result<Self, String>> {
        let folder = format!("{PEER}/@huggingface/transformers");
        if !Path::new(&folder).exists() {
            return Ok(Err(format!("{folder} is missing; `make bench` brings it")));
        }
        let version = |package: &str| -> anyhow::Result<String> {
            let text = std::fs::read_to_string(format!("{PEER}/{package}/package.json"))?;
            Ok(serde_json::from_str::<Package>(&text)?.version)
        };
        let mut files = Vec::new();
        for folder in [format!("{folder}/dist"), format!("{PEER}/onnxruntime-web/dist")] {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name == PEER_MODULE || name.starts_with("ort-wasm") {
                    files.push((name, std::fs::read(path)?));
                }
            }
        }
        let engine = format!("onnxruntime-web {}", version("onnxruntime-web")?);
        Ok(Ok(Self { version: version("@huggingface/transformers")?, engine, files }))
    }
}

const PEER_MODULE: &str = "transformers.min.js";

struct Shared {
    /// By path: the type, the bytes, and whether they are compressed.
    files: HashMap<String, File>,
    linked: mpsc::Sender<WebSocket>,
}

struct File {
    content_type: &'static str,
    gzip: bool,
    bytes: bytes::Bytes,
}

impl Site {
    /// Serves the engine's files, and each `(name, file)` of `models` as `/models/{name}`.
    pub(crate) async fn start(models: &[(String, &Path)]) -> anyhow::Result<Self> {
        Self::serve(models, None).await
    }

    /// The same with what transformers.js reads.
    pub(crate) async fn start_beside(models: &[(String, &Path)], peer: &Peer) -> anyhow::Result<Self> {
        Self::serve(models, Some(peer)).await
    }

    async fn serve(models: &[(String, &Path)], peer: Option<&Peer>) -> anyhow::Result<Self> {
        let manifest = std::fs::read(format!("{DIST}/manifest.json")).context("the harness's build")?;
        let manifest: Manifest = serde_json::from_slice(&manifest).context("the harness's manifest")?;
        let mut files = HashMap::new();
        let mut serve = |path: String, content_type, gzip, bytes: Vec<u8>| {
            files.insert(path, File { content_type, gzip, bytes: bytes.into() });
        };
        serve(
            "/blank".to_owned(),
            "text/html; charset=utf-8",
            false,
            b"<!doctype html><title>blank</title>".to_vec(),
        );
        for (name, script) in [("loop", LOOP), ("transformers", TRANSFORMERS)] {
            let whole = format!("{INPUTS}\n{script}");
            serve(format!("/worker/{name}.js"), "text/javascript", false, whole.into());
        }
        for (name, content_type) in
            [(&manifest.module, "text/javascript"), (&manifest.wasm, "application/wasm")]
        {
            serve(format!("/engine/{name}"), content_type, true, std::fs::read(format!("{DIST}/{name}.gz"))?);
        }
        for (name, file) in models {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            serve(format!("/hf/{name}/onnx/model.onnx"), "application/octet-stream", false, bytes.clone());
            serve(format!("/models/{name}"), "application/octet-stream", false, bytes);
        }
        for (name, bytes) in peer.iter().flat_map(|peer| &peer.files) {
            let kind =
                if name.rsplit('.').next() == Some("wasm") { "application/wasm" } else { "text/javascript" };
            serve(format!("/transformers/{name}"), kind, false, bytes.clone());
        }
        let (linked, links) = mpsc::channel(LINKS);
        let shared = Arc::new(Shared { files, linked });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serve = axum::serve(listener.tap_io(without_delay), router(shared));
        let serving = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the bench's site ended");
            }
        });
        let (module, wasm) = (format!("/engine/{}", manifest.module), format!("/engine/{}", manifest.wasm));
        Ok(Self { address, engine: EngineFiles { module, wasm }, links, serving })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The page whose Worker runs `model` in a loop.
    pub(crate) fn loop_page(&self, model: &str, threads: u64) -> String {
        let EngineFiles { module, wasm } = &self.engine;
        self.url(&format!("/page/loop?module={module}&wasm={wasm}&model=/models/{model}&threads={threads}"))
    }

    /// The page whose Worker has transformers.js run `model` in a loop.
    pub(crate) fn transformers_page(&self, model: &str, threads: u64) -> String {
        let module = format!("/transformers/{PEER_MODULE}");
        self.url(&format!(
            "/page/transformers?module={module}&wasm=/transformers/&model={model}&threads={threads}"
        ))
    }

    /// Waits for the next Worker to link itself.
    pub(crate) async fn linked(&mut self) -> anyhow::Result<WebSocket> {
        let linked = tokio::time::timeout(LINKED_WITHIN, self.links.recv()).await;
        linked.context("no Worker linked itself")?.context("the site has ended")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn without_delay(socket: &mut tokio::net::TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::warn!(%error, "TCP_NODELAY was refused");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/page/loop", get(async || isolated("text/html; charset=utf-8", PAGE)))
        .route("/page/transformers", get(async || isolated("text/html; charset=utf-8", PAGE)))
        .route("/link/loop", get(link))
        .fallback(file)
        .with_state(shared)
}

/// The headers of the daemon's own pages, so that browsers treat both alike.
pub(crate) fn isolated(content_type: &'static str, body: impl IntoResponse) -> Response {
    let headers = [
        ("content-type", content_type),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    (headers, body).into_response()
}

async fn file(State(shared): State<Arc<Shared>>, uri: axum::http::Uri) -> Response {
    let Some(file) = shared.files.get(uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = isolated(file.content_type, file.bytes.clone());
    if file.gzip {
        let gzip = header::HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    }
    response
}

async fn link(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX).on_upgrade(async move |socket| {
        // A site that is being dropped takes no more links.
        let _ = shared.linked.send(socket).await;
    })
}

/// A Worker with the engine in it.
pub(crate) struct LoopWorker {
    socket: WebSocket,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LoopAnswer {
    Runs(Runs),
    Failed { error: String },
}

#[derive(Deserialize)]
pub(crate) struct Runs {
    pub(crate) count: usize,
    pub(crate) took_us: u64,
    /// The last run's first output.
    pub(crate) output: Vec<f64>,
}

impl LoopWorker {
    /// Gives a linked Worker the inputs that it goes round.
    pub(crate) async fn start(mut socket: WebSocket, frames: &[bytes::Bytes]) -> anyhow::Result<Self> {
        for frame in frames {
            socket.send(Message::Binary(frame.clone())).await?;
        }
        Ok(Self { socket })
    }

    pub(crate) async fn run(&mut self, runs: usize) -> anyhow::Result<Runs> {
        ensure!(runs > 0, "a loop runs at least once");
        self.order(json!({"runs": runs})).await
    }

    /// Runs until the time is over, and once at least.
    pub(crate) async fn run_for(&mut self, time: Duration) -> anyhow::Result<Runs> {
        self.order(json!({"for_ms": time.as_millis() as u64})).await
    }

    async fn order(&mut self, order: Value) -> anyhow::Result<Runs> {
        self.socket.send(Message::text(order.to_string())).await?;
        let answer = self.socket.recv().await.context("the loop's Worker is gone")??;
        match serde_json::from_str(answer.to_text()?)? {
            LoopAnswer::Runs(runs) => Ok(runs),
            LoopAnswer::Failed { error } => Err(anyhow::anyhow!("the loop's Worker failed: {error}")),
        }
    }
}
