//! A FAKE browser: no process, but a task that fetches the harness's page and speaks the harness link for real.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::watch};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};
use tokio_util::sync::CancellationToken;
use weft::{
    domain::BackendKind,
    driver::{Driver, DriverError, Instance, LaunchOrder},
};

use super::{
    fake_lane::{self, Conduct},
    soon,
};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A FAKE product; clones share its state. One launch lives at a time.
#[derive(Clone)]
pub(crate) struct FakeBrowser {
    pub(crate) name: String,
    pub(crate) state: Arc<State>,
}

pub(crate) struct State {
    pub(crate) settings: Mutex<Settings>,
    pub(crate) conduct: Mutex<Conduct>,
    /// Steps that reached a lane, proofs included.
    pub(crate) steps: AtomicUsize,
    /// `load` messages that reached a lane.
    pub(crate) loads: watch::Sender<usize>,
    /// Programs that reached a lane, each with those that went for it.
    pub(crate) programs: Mutex<Vec<(u64, Vec<u64>)>>,
    /// `unload` messages that reached a lane, by session.
    pub(crate) unloads: Mutex<Vec<String>>,
    /// Workers that were started.
    pub(crate) starts: AtomicUsize,
    /// `cancel` messages that reached a lane.
    pub(crate) cancels: watch::Sender<usize>,
    lanes: Mutex<HashMap<String, CancellationToken>>,
    /// Of the launch that lives.
    crashed: Mutex<CancellationToken>,
    /// Of the page that lives.
    closed: Mutex<CancellationToken>,
    /// Whether pages keep their heartbeats to themselves.
    pub(crate) mute: AtomicBool,
    pub(crate) launches: AtomicUsize,
    /// Pages that were opened, the first of each launch included.
    pub(crate) pages: AtomicUsize,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) version: String,
    backends: Vec<&'static str>,
    /// What a lane reports instead of being ready, by backend.
    pub(crate) unavailable: HashMap<&'static str, &'static str>,
    /// What a lane says of where a model's nodes went, instead of that all are on its backend.
    pub(crate) placement: Option<Value>,
    pub(crate) software_adapter: bool,
    pub(crate) memory: FakeMemory,
    /// What a step takes longer than computing it does.
    pub(crate) slower_by: Duration,
    /// For how long each eighth step stands still, and its lane's clock with it.
    pub(crate) stands_for: Duration,
}

/// What a lane's heap comes to; each Worker starts with none of it used.
#[derive(Clone, Copy, Default)]
pub(crate) struct FakeMemory {
    /// What each load takes and no unload gives back, as of a WASM heap.
    pub(crate) heap_per_load: u64,
    /// What each load takes until its session is unloaded, as of GPU buffers.
    pub(crate) gpu_per_load: u64,
    /// Loads beyond so many sessions run out of memory.
    pub(crate) sessions_max: Option<usize>,
}

struct FakeInstance {
    version: String,
    /// Where its page was sent after the launch.
    reloads: watch::Sender<Option<String>>,
    crashed: CancellationToken,
}

impl FakeBrowser {
    pub(crate) fn new(name: &str, backends: &[&'static str]) -> Self {
        let settings = Settings {
            version: "1.0".to_owned(),
            backends: backends.to_vec(),
            unavailable: HashMap::new(),
            placement: None,
            software_adapter: false,
            memory: FakeMemory::default(),
            slower_by: Duration::ZERO,
            stands_for: Duration::ZERO,
        };
        let state = State {
            settings: Mutex::new(settings),
            conduct: Mutex::new(Conduct::Compute),
            steps: AtomicUsize::new(0),
            loads: watch::Sender::new(0),
            programs: Mutex::default(),
            unloads: Mutex::default(),
            starts: AtomicUsize::new(0),
            cancels: watch::Sender::new(0),
            lanes: Mutex::default(),
            crashed: Mutex::default(),
            closed: Mutex::default(),
            mute: AtomicBool::new(false),
            launches: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
        };
        Self { name: name.to_owned(), state: Arc::new(state) }
    }

    pub(crate) fn backends(&self) -> Vec<BackendKind> {
        self.settings().backends.iter().map(|backend| backend.parse().expect("a backend")).collect()
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.state.settings.lock().expect("no test panics while it changes settings")
    }

    pub(crate) fn behaves(&self, conduct: Conduct) {
        *self.state.conduct.lock().expect("no test panics while it changes conduct") = conduct;
    }

    pub(crate) fn steps(&self) -> usize {
        self.state.steps.load(Ordering::SeqCst)
    }

    pub(crate) fn loads(&self) -> usize {
        *self.state.loads.borrow()
    }

    /// Returns once so many `load` messages have reached a lane.
    pub(crate) async fn loaded(&self, wanted: usize) {
        let mut loads = self.state.loads.subscribe();
        loads.wait_for(|loads| *loads >= wanted).await.expect("the state outlives this call");
    }

    /// Programs that reached a lane, each with those that went for it.
    pub(crate) fn programs(&self) -> Vec<(u64, Vec<u64>)> {
        self.state.programs.lock().expect("no panic here").clone()
    }

    /// Sessions that lanes were told to unload, in that order.
    pub(crate) fn unloads(&self) -> Vec<String> {
        self.state.unloads.lock().expect("no panic here").clone()
    }

    pub(crate) fn starts(&self) -> usize {
        self.state.starts.load(Ordering::SeqCst)
    }

    pub(crate) async fn cancels(&self, wanted: usize) {
        let mut cancels = self.state.cancels.subscribe();
        soon("a cancel", cancels.wait_for(|seen| *seen >= wanted)).await.expect("the browser lives");
    }

    /// Drops a lane's link without a word.
    pub(crate) fn kill_lane(&self, backend: &str) {
        // The daemon names every start anew, as alpha-1/wasm#2.
        let starts = format!("{}-1/{backend}#", self.name);
        let lanes = self.state.lanes.lock().expect("no panic here");
        for (_, lane) in lanes.iter().filter(|(name, _)| name.starts_with(&starts)) {
            lane.cancel();
        }
    }

    /// The page loses its link, and the browser knows nothing of it.
    pub(crate) fn close_page(&self) {
        self.state.closed.lock().expect("no panic here").cancel();
    }

    /// The process is gone, and with it every link.
    pub(crate) fn crash(&self) {
        self.state.crashed.lock().expect("no panic here").cancel();
    }
}

impl Driver for FakeBrowser {
    fn launch(&self, order: LaunchOrder) -> BoxFuture<'static, Result<Box<dyn Instance>, DriverError>> {
        let (state, crashed) = (self.state.clone(), CancellationToken::new());
        let version = self.settings().version.clone();
        state.launches.fetch_add(1, Ordering::SeqCst);
        *state.crashed.lock().expect("no panic here") = crashed.clone();
        Box::pin(async move {
            let reloads = watch::Sender::new(None);
            let mut reloaded = reloads.subscribe();
            let instance = FakeInstance { version, reloads, crashed: crashed.clone() };
            tokio::spawn(async move {
                let mut url = order.url;
                loop {
                    let elsewhere = tokio::select! {
                        () = page(state.clone(), url, crashed.clone()) => reloaded.changed().await,
                        elsewhere = reloaded.changed() => elsewhere,
                        () = crashed.cancelled() => return,
                    };
                    if elsewhere.is_err() {
                        return;
                    }
                    url = reloaded.borrow_and_update().clone().expect("it is only ever set");
                }
            });
            Ok(Box::new(instance) as Box<dyn Instance>)
        })
    }
}

impl Instance for FakeInstance {
    fn version(&self) -> &str {
        &self.version
    }

    fn sandbox(&self) -> Option<bool> {
        Some(true)
    }

    fn flags(&self) -> &[String] {
        &[]
    }

    fn process(&self) -> Option<i32> {
        None
    }

    fn navigate(&self, url: String, _within: Duration) -> BoxFuture<'static, Result<(), DriverError>> {
        self.reloads.send_replace(Some(url));
        Box::pin(std::future::ready(Ok(())))
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        let crashed = self.crashed.clone();
        Box::pin(async move {
            crashed.cancelled().await;
            "the fake browser crashed".to_owned()
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.crashed.cancel();
        Box::pin(std::future::ready(()))
    }
}

/// Opens a link as a page of `origin` would.
pub(crate) async fn connect(origin: &str) -> Socket {
    let mut request = format!("{}/harness/link", origin.replacen("http", "ws", 1))
        .into_client_request()
        .expect("a good address");
    request.headers_mut().insert("origin", HeaderValue::from_str(origin).expect("a good origin"));
    tokio_tungstenite::connect_async(request).await.expect("the bridge accepts").0
}

pub(crate) async fn send(socket: &mut Socket, message: &Value) {
    // A daemon that stops is gone first.
    let _ = socket.send(Message::text(message.to_string())).await;
}

/// The page's main thread.
async fn page(state: Arc<State>, url: String, crashed: CancellationToken) {
    state.pages.fetch_add(1, Ordering::SeqCst);
    let closed = CancellationToken::new();
    *state.closed.lock().expect("no panic here") = closed.clone();
    let answer = reqwest::get(&url).await.expect("the bridge serves its page");
    assert_eq!(answer.headers()["cross-origin-embedder-policy"], "require-corp");
    let html = answer.text().await.expect("a page");
    let (_, rest) =
        html.split_once(r#"<script id="weft-boot" type="application/json">"#).expect("a boot block");
    let boot: Value = serde_json::from_str(rest.split_once("</script>").expect("its end").0).expect("JSON");
    let origin = url.split("/harness").next().expect("an origin").to_owned();
    let mut socket = connect(&origin).await;
    let hello = json!({"type": "hello", "protocol": 5, "role": "page", "ticket": boot["ticket"], "epoch": boot["epoch"]});
    send(&mut socket, &hello).await;
    assert_eq!(receive(&mut socket).await.expect("a welcome")["type"], "welcome");
    send(&mut socket, &json!({"type": "page_ready", "environment": {
        "user_agent": "fake", "cross_origin_isolated": true, "shared_array_buffer": true, "hardware_concurrency": 2,
        "simd": true, "relaxed_simd": true, "threads": true, "jspi": false, "visibility": "visible"}}))
    .await;
    let beat = Duration::from_millis(boot["heartbeat_ms"].as_u64().expect("a number"));
    let mut beats = tokio::time::interval(beat);
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            _ = beats.tick() => {
                if state.mute.load(Ordering::SeqCst) {
                    continue;
                }
                let heartbeat = json!({"type": "heartbeat", "seq": 1, "visibility": "visible", "js_heap_bytes": null});
                send(&mut socket, &heartbeat).await;
            }
            message = receive(&mut socket) => {
                let Some(message) = message else { return };
                obey(&state, &message, &origin, &boot, &crashed);
                if message["type"] == "stop_lane" {
                    let exited = json!({"type": "lane_exited", "lane": message["lane"], "message": "stopped"});
                    send(&mut socket, &exited).await;
                }
            }
        }
    }
}

async fn receive(socket: &mut Socket) -> Option<Value> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Some(serde_json::from_str(&text).expect("JSON")),
        _ => None,
    }
}

fn obey(state: &Arc<State>, message: &Value, origin: &str, boot: &Value, crashed: &CancellationToken) {
    let lane = message["lane"].as_str().expect("a lane").to_owned();
    let mut lanes = state.lanes.lock().expect("no panic here");
    match message["type"].as_str() {
        Some("start_lane") => {
            let stopped = crashed.child_token();
            lanes.insert(lane, stopped.clone());
            state.starts.fetch_add(1, Ordering::SeqCst);
            let worker =
                fake_lane::run(state.clone(), message.clone(), origin.to_owned(), boot["epoch"].clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = worker => {}
                    () = stopped.cancelled() => {}
                }
            });
        }
        Some("stop_lane") => lanes.remove(&lane).into_iter().for_each(|stopped| stopped.cancel()),
        _ => panic!("{message} is not for a page"),
    }
}
