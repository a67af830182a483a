//! A FAKE lane: the link of a Worker as `docs/protocol.md` has it, with native ONNX Runtime in the engine's place.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use weft::{
    backend::{
        Backend, LoadOrder, SessionName, Step,
        ort::{OrtLane, OrtLibrary},
    },
    domain::{Datatype, Digest, Tensor},
};

use super::{
    LIBRARY,
    fake_browser::{State, connect, send},
    fake_programs::{self, Programs},
    wire,
};

/// Bodies over this travel in messages of their own.
const PAYLOAD_MESSAGE: usize = 1 << 20;

/// How the steps that come from now on are dealt with.
#[derive(Clone)]
pub(crate) enum Conduct {
    Compute,
    Always(Deed),
    /// Each is handed to the test, which decides.
    Ask(mpsc::UnboundedSender<Asked>),
}

/// What becomes of one step.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Compute,
    /// As `Compute`, but every float a tenth too large.
    Wrong,
    Fail(&'static str, &'static str),
    /// And nothing after it either.
    Never,
    /// The outputs' last byte is missing.
    Short,
    /// The link goes.
    Close,
    /// Says this instead.
    Say(Message),
}

/// A step that waits for the test's word.
pub(crate) struct Asked {
    pub(crate) lane: String,
    pub(crate) inputs: Vec<Tensor>,
    deed: oneshot::Sender<Deed>,
}

impl Asked {
    pub(crate) fn answer(self, deed: Deed) {
        // The lane may be gone meanwhile.
        let _ = self.deed.send(deed);
    }
}

struct Lane {
    native: OrtLane,
    sessions: HashMap<String, SessionName>,
    programs: Programs,
    files: TempDir,
    origin: String,
    state: Arc<State>,
    backend: String,
    cancelled: Arc<Mutex<HashSet<u64>>>,
    /// Its heap, which never shrinks.
    heap: u64,
}

enum Job {
    Load(Value, Bytes),
    Unload(Value),
    Program(Value, Bytes),
    Step { header: Value, inputs: Vec<Tensor>, deed: oneshot::Receiver<Deed> },
}

pub(crate) async fn run(state: Arc<State>, order: Value, origin: String, epoch: Value) {
    let text = |key: &str| order[key].as_str().expect("a text").to_owned();
    // The daemon names every start anew, as alpha-1/wasm#2.
    let lane = text("lane").split('#').next().expect("a split has a first part").to_owned();
    let backend = text("backend");
    let mut socket = connect(&origin).await;
    let hello =
        json!({"type": "hello", "protocol": 5, "role": "lane", "ticket": order["ticket"], "epoch": epoch});
    send(&mut socket, &hello).await;
    let welcome = socket.next().await.expect("a welcome").expect("a good message");
    assert_eq!(welcome, Message::text(r#"{"type":"welcome"}"#));
    let settings = state.settings.lock().expect("no panic here").clone();
    if let Some(reason) = settings.unavailable.get(backend.as_str()) {
        return send(&mut socket, &json!({"type": "lane_unavailable", "reason": reason})).await;
    }
    let gpu = ["webgpu", "weft-wgsl"].contains(&backend.as_str());
    // What WebGPU promises everywhere.
    let limits = gpu.then(|| {
        json!({"maxBindGroups": 4, "maxBufferSize": 268_435_456, "maxComputeInvocationsPerWorkgroup": 256,
            "maxComputeWorkgroupSizeX": 256, "maxComputeWorkgroupSizeY": 256, "maxComputeWorkgroupSizeZ": 64,
            "maxComputeWorkgroupStorageSize": 16384, "maxComputeWorkgroupsPerDimension": 65535,
            "maxStorageBufferBindingSize": 134_217_728, "maxStorageBuffersPerShaderStage": 8,
            "maxUniformBufferBindingSize": 65536})
    });
    let features: Option<Vec<&str>> = gpu.then(Vec::new);
    let adapter = gpu.then(|| {
        json!({"vendor": "fake", "architecture": "", "device": "", "description": "Fake", "software": settings.software_adapter})
    });
    let webnn = (backend == "webnn").then(|| json!({"cpu": "ok"}));
    let device = (backend == "webnn").then_some("cpu");
    send(&mut socket, &json!({"type": "lane_ready", "capability": {
        "backend": backend, "engine": "fake@1/native", "threads": order["threads"], "adapter": adapter,
        "features": features, "limits": limits, "webnn": webnn, "webnn_device": device, "memory_max": order["memory_max"],
        "timing_us": {"import": 1, "init": 1}}}))
    .await;
    let library = OrtLibrary::load(Path::new(LIBRARY)).expect("`make setup` has brought the library");
    let cancelled = Arc::new(Mutex::new(HashSet::new()));
    let worker = Lane {
        native: OrtLane::start(&library, "cpu", 1).expect("the CPU is always there"),
        sessions: HashMap::new(),
        programs: Programs::default(),
        files: tempfile::tempdir().expect("a temporary folder"),
        origin,
        state: state.clone(),
        backend,
        cancelled: cancelled.clone(),
        heap: 0,
    };
    let (mut sink, mut stream) = socket.split();
    let (jobs, todo) = mpsc::unbounded_channel();
    let (outgoing, mut outbox) = mpsc::unbounded_channel();
    let read = async {
        let mut reader = Reader { lane, state, jobs, cancelled, body: None };
        while let Some(Ok(message)) = stream.next().await {
            reader.message(message);
        }
    };
    let write = async {
        while let Some(message) = outbox.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = worker.work(todo, outgoing) => {}
        () = write => {}
    }
}

/// Takes messages in while the lane computes, as a Worker's socket does.
struct Reader {
    lane: String,
    state: Arc<State>,
    jobs: mpsc::UnboundedSender<Job>,
    cancelled: Arc<Mutex<HashSet<u64>>>,
    /// A message whose payload messages are still to come.
    body: Option<(Value, usize, BytesMut)>,
}

impl Reader {
    fn message(&mut self, message: Message) {
        match message {
            Message::Text(text) => self.header(serde_json::from_str(&text).expect("JSON"), &Bytes::new()),
            Message::Binary(bytes) => match self.body.take() {
                Some((header, messages, mut body)) => {
                    assert!(bytes.len() <= PAYLOAD_MESSAGE, "a payload message of {} bytes", bytes.len());
                    body.extend_from_slice(&bytes);
                    if messages > 1 {
                        self.body = Some((header, messages - 1, body));
                    } else {
                        assert_eq!(header["payload"]["bytes"], body.len());
                        self.job(header, body.freeze());
                    }
                }
                None => {
                    let (header, body) = wire::split(&bytes);
                    self.header(header, &body);
                }
            },
            _ => {}
        }
    }

    fn header(&mut self, header: Value, body: &Bytes) {
        // A lane that has ended takes no more jobs.
        match header["type"].as_str() {
            Some("unload") => drop(self.jobs.send(Job::Unload(header))),
            Some("cancel") => {
                let id = header["id"].as_u64().expect("an id");
                self.cancelled.lock().expect("no panic here").insert(id);
                self.state.cancels.send_modify(|cancels| *cancels += 1);
            }
            Some("load" | "program" | "step") => match header["payload"]["messages"].as_u64() {
                Some(messages) => self.body = Some((header, messages as usize, BytesMut::new())),
                None => self.job(header, body.clone()),
            },
            _ => panic!("{header} is not for a lane"),
        }
    }

    fn job(&mut self, header: Value, body: Bytes) {
        match header["type"].as_str() {
            Some("load") => drop(self.jobs.send(Job::Load(header, body))),
            Some("program") => {
                let number = |value: &Value| value.as_u64().expect("a number");
                let drops = header["drops"].as_array().expect("a list").iter().map(number).collect();
                let mut programs = self.state.programs.lock().expect("no panic here");
                programs.push((number(&header["program"]), drops));
                drop(self.jobs.send(Job::Program(header, body)));
            }
            _ => self.step(header, &body),
        }
    }

    fn step(&mut self, header: Value, body: &Bytes) {
        self.state.steps.fetch_add(1, Ordering::SeqCst);
        let inputs = tensors(&header["inputs"], body);
        let (decide, deed) = oneshot::channel();
        match self.state.conduct.lock().expect("no panic here").clone() {
            Conduct::Compute => drop(decide.send(Deed::Compute)),
            Conduct::Always(always) => drop(decide.send(always)),
            Conduct::Ask(test) => {
                drop(test.send(Asked { lane: self.lane.clone(), inputs: inputs.clone(), deed: decide }));
            }
        }
        drop(self.jobs.send(Job::Step { header, inputs, deed }));
    }
}

fn tensors(headers: &Value, body: &Bytes) -> Vec<Tensor> {
    let mut from = 0;
    let mut tensor = |header: &Value| {
        let size = header["parameters"]["binary_data_size"].as_u64().expect("a size") as usize;
        from += size;
        Tensor {
            name: header["name"].as_str().expect("a name").to_owned(),
            datatype: serde_json::from_value(header["datatype"].clone()).expect("a datatype"),
            shape: serde_json::from_value(header["shape"].clone()).expect("a shape"),
            body: body.slice(from - size..from).into(),
        }
    };
    let tensors = headers.as_array().expect("a list").iter().map(&mut tensor).collect();
    assert_eq!(from, body.len(), "the inputs take the whole body");
    tensors
}

impl Lane {
    /// One job after the other, as a Worker does.
    async fn work(mut self, mut jobs: mpsc::UnboundedReceiver<Job>, out: mpsc::UnboundedSender<Message>) {
        while let Some(job) = jobs.recv().await {
            let answers = match job {
                Job::Load(order, body) => {
                    let answer = self.load(&order, body).await;
                    vec![self.memory(), Message::text(answer.to_string())]
                }
                Job::Unload(order) => {
                    let name = order["session"].as_str().expect("a name");
                    self.programs.unload(name);
                    self.state.unloads.lock().expect("no panic here").push(name.to_owned());
                    let session = self.sessions.remove(name);
                    self.native
                        .unload(session.expect("only what is loaded is unloaded"))
                        .await
                        .expect("it is there");
                    let unloaded = json!({"type": "unloaded", "id": order["id"]});
                    vec![self.memory(), Message::text(unloaded.to_string())]
                }
                Job::Program(order, body) => {
                    assert!(self.sessions.contains_key(order["session"].as_str().expect("a name")));
                    self.programs.take(&order, &body, self.files.path());
                    let programmed = json!({"type": "programmed", "id": order["id"]});
                    vec![self.memory(), Message::text(programmed.to_string())]
                }
                Job::Step { header, inputs, deed } => match self.step(&header, inputs, deed).await {
                    Some(answers) => answers,
                    None => return,
                },
            };
            for answer in answers {
                drop(out.send(answer));
            }
        }
    }

    fn memory(&self) -> Message {
        let per_load = self.state.settings.lock().expect("no panic here").memory.gpu_per_load;
        let gpu = per_load * self.sessions.len() as u64;
        Message::text(json!({"type": "memory", "wasm_bytes": self.heap, "gpu_bytes": gpu}).to_string())
    }

    async fn load(&mut self, order: &Value, mut body: Bytes) -> Value {
        self.state.loads.send_modify(|loads| *loads += 1);
        let memory = self.state.settings.lock().expect("no panic here").memory;
        if memory.sessions_max.is_some_and(|most| self.sessions.len() >= most) {
            return failed(&order["id"], "out_of_memory", "elsewhere", "the fake lane is full");
        }
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (session, digest) = (text(&order["session"]), text(&order["model"]["digest"]));
        let mut bytes = 0;
        for file in order["model"]["files"].as_array().expect("a list") {
            bytes += self.fetch(file, &mut body).await;
        }
        let mut path = self.files.path().join(&digest);
        assert_eq!(order["model"]["graph_bytes"], body.len(), "the rest of the body is the graph");
        if !body.is_empty() {
            path.set_extension("graph");
            std::fs::write(&path, &body).expect("room for a small file");
        }
        let digest = digest.parse().expect("a digest");
        let shapes = serde_json::from_value(order["free_dimensions"].clone()).expect("sizes by name");
        let name = SessionName { model: digest, shapes };
        let loaded = self.native.load(LoadOrder { session: name.clone(), path, delivery: None }).await;
        self.sessions.insert(session, name);
        match loaded {
            Ok(loaded) => {
                let nodes: u64 = loaded.placement.values().sum();
                let settled = self.state.settings.lock().expect("no panic here").placement.clone();
                let placement = settled.unwrap_or_else(|| json!({self.backend.clone(): nodes}));
                self.heap += memory.heap_per_load;
                let grown = json!({"wasm_bytes": memory.heap_per_load, "gpu_bytes": memory.gpu_per_load});
                json!({"type": "loaded", "id": order["id"], "placement": placement, "inputs": [], "outputs": [],
                    "timing_us": {"fetch": 1, "create": 1}, "fetched_bytes": {"network": bytes, "cache": 0},
                    "grown": grown})
            }
            Err(error) => failed(&order["id"], "internal", "never", &error.to_string()),
        }
    }

    /// Brings a file, half by half, and checks it by its leaves, which the body begins with.
    async fn fetch(&self, file: &Value, leaves: &mut Bytes) -> u64 {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (url, bytes) =
            (format!("{}{}", self.origin, text(&file["url"])), file["bytes"].as_u64().expect("a size"));
        let client = reqwest::Client::new();
        let mut whole = BytesMut::new();
        for (from, to) in [(0, bytes / 2), (bytes / 2, bytes)] {
            if from < to {
                let asked = client.get(&url).header("range", format!("bytes={from}-{}", to - 1));
                let answer = asked.send().await.expect("the bridge serves the model");
                assert_eq!(answer.status(), 206, "{url}");
                whole.extend_from_slice(&answer.bytes().await.expect("a whole answer"));
            }
        }
        assert_eq!(whole.len() as u64, bytes);
        for leaf in whole.chunks(1 << 20) {
            assert_eq!(leaves.split_to(32), Sha256::digest(leaf)[..], "a leaf is what its digest says");
        }
        let name = text(&file["digest"]);
        assert_eq!(
            Digest::new(Sha256::digest(&whole).into()).to_string(),
            name,
            "the file is what its digest says"
        );
        std::fs::write(self.files.path().join(name), &whole).expect("room for a small file");
        bytes
    }

    /// The messages that answer a step; none when the link goes.
    async fn step(
        &self,
        header: &Value,
        inputs: Vec<Tensor>,
        deed: oneshot::Receiver<Deed>,
    ) -> Option<Vec<Message>> {
        // A test that forgets a step lets it hang.
        let deed = deed.await.unwrap_or(Deed::Never);
        let id = &header["id"];
        let text = |message: Value| Some(vec![Message::text(message.to_string())]);
        let cancelled =
            || self.cancelled.lock().expect("no panic here").contains(&id.as_u64().expect("an id"));
        match deed {
            Deed::Never => std::future::pending().await,
            Deed::Close => None,
            Deed::Say(message) => Some(vec![message]),
            _ if cancelled() => text(failed(id, "cancelled", "never", "cancelled")),
            Deed::Fail(code, retry) => text(failed(id, code, retry, "the fake lane was told to fail")),
            Deed::Compute | Deed::Wrong | Deed::Short => {
                let (slower_by, stands_for) = {
                    let settings = self.state.settings.lock().expect("no panic here");
                    (settings.slower_by, settings.stands_for)
                };
                if self.state.steps.load(Ordering::SeqCst).is_multiple_of(8) {
                    tokio::time::sleep(stands_for).await;
                }
                tokio::time::sleep(slower_by).await;
                let session = self.sessions.get(header["session"].as_str().expect("a name")).cloned();
                let outputs = serde_json::from_value(header["outputs"].clone()).expect("names");
                let session = session.expect("only what is loaded is asked for");
                let ours = self.backend.starts_with("weft-");
                let ports = ours.then(|| self.programs.of(header, &inputs).outputs.clone());
                let step =
                    Step { session, inputs, outputs, keeping: None, cancelled: CancellationToken::new() };
                match self.native.execute(step).await {
                    Ok(output) => {
                        let said =
                            |tensor| ports.iter().flatten().any(|port| fake_programs::is(port, tensor));
                        assert!(
                            !ours || output.outputs.iter().all(said),
                            "the program says other sizes: {ports:?}"
                        );
                        Some(result(id, output.outputs, &deed, slower_by))
                    }
                    Err(error) => text(failed(id, error.code().as_str(), "never", &error.to_string())),
                }
            }
        }
    }
}

fn failed(id: &Value, code: &str, retry: &str, message: &str) -> Value {
    json!({"type": "failed", "id": id, "code": code, "message": message, "retry": retry})
}

fn result(id: &Value, outputs: Vec<Tensor>, deed: &Deed, slower_by: Duration) -> Vec<Message> {
    let mut body = Vec::new();
    let headers: Vec<Value> = outputs
        .into_iter()
        .map(|tensor| {
            let mut bytes = tensor.body.contiguous().to_vec();
            if matches!(deed, Deed::Wrong) && tensor.datatype == Datatype::Fp32 {
                bytes = wire::floats(&bytes).iter().flat_map(|value| (value * 1.1).to_le_bytes()).collect();
            }
            body.extend_from_slice(&bytes);
            json!({"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape,
                "parameters": {"binary_data_size": bytes.len()}})
        })
        .collect();
    if matches!(deed, Deed::Short) {
        body.pop();
    }
    let compute = 5 + slower_by.as_micros() as u64;
    let mut header = json!({"type": "result", "id": id, "outputs": headers,
        "timing_us": {"decode": 1, "wait": 0, "compute": compute, "encode": 1, "total": compute + 2}});
    if body.len() <= PAYLOAD_MESSAGE {
        return vec![Message::binary(wire::frame(&header, &body))];
    }
    let parts: VecDeque<_> =
        body.chunks(PAYLOAD_MESSAGE).map(|part| Message::binary(part.to_vec())).collect();
    header["payload"] = json!({"messages": parts.len(), "bytes": body.len()});
    let mut messages = VecDeque::from([Message::binary(wire::frame(&header, &[]))]);
    messages.extend(parts);
    messages.into()
}
