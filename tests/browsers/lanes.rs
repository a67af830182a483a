//! What becomes of a lane in a real browser: without memory, without its GPU, without its Worker.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use weft::{
    domain::BackendKind,
    driver::{procs, recipe::Recipe},
};

use crate::{
    daemon::served,
    harness::Harness,
    serve::{Client, Lane, Served, numbers},
    stage::{Stage, places},
};

const WASM: Lane = Lane { browser: "chromium", backend: "wasm" };
const WEBGPU: Lane = Lane { browser: "chromium", backend: "webgpu" };
const OURS: Lane = Lane { browser: "chromium", backend: "weft-wgsl" };

/// A launch takes half a second here, a loaded machine gets this long.
const LIMIT: Duration = Duration::from_secs(60);

/// What is noticed at once is noticed in this, on a loaded machine too; what only a timer tells takes longer.
const AT_ONCE: Duration = Duration::from_secs(8);

/// `y[i][j] = x[i] * x[j]`: a few bytes in make as many out as one likes.
fn outer() -> Vec<u8> {
    let dim = |size: Option<u8>| match size {
        Some(size) => field(1, &[0x08, size]),
        None => field(1, &field(2, b"n")),
    };
    let port = |name: &[u8], dims: [Option<u8>; 2]| {
        let tensor = [&[0x08, 1], field(2, &dims.map(dim).concat()).as_slice()].concat();
        [field(1, name), field(2, &field(1, &tensor))].concat()
    };
    let node = |operator: &[u8], inputs: &[&[u8]], output: &[u8]| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
        field(1, &[inputs, field(2, output), field(4, operator)].concat())
    };
    let nodes = [node(b"Transpose", &[b"x"], b"t"), node(b"MatMul", &[b"x", b"t"], b"y")].concat();
    let ports = [field(11, &port(b"x", [None, Some(1)])), field(12, &port(b"y", [None, None]))].concat();
    let graph = [nodes, field(2, b"outer"), ports].concat();
    [vec![0x08, 8], field(7, &graph), field(8, &[0x10, 13])].concat()
}

/// A length-delimited protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut field).unwrap();
    field.extend_from_slice(content);
    field
}

/// A daemon with Chromium and the model `outer`.
async fn with_outer() -> Option<Served> {
    Some(have_outer(served("chromium=1").await?).await)
}

async fn have_outer(served: Served) -> Served {
    let file = served.home().join("outer.onnx");
    fs::write(&file, outer()).unwrap();
    served.weft(&["models", "add", file.to_str().unwrap()]).await.unwrap();
    served
}

async fn square(client: &mut Client, values: &[f32], lane: Lane) -> Value {
    let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [values.len(), 1], "data": values}]);
    client.ask("outer", inputs, lane).await.unwrap()
}

/// One lane as the API shows it.
async fn shown(served: &Served, lane: &str) -> Value {
    let lanes: Value =
        reqwest::get(format!("{}/api/v1/lanes", served.url)).await.unwrap().json().await.unwrap();
    let items = lanes["items"].as_array().unwrap();
    items.iter().find(|item| item["lane"] == lane).unwrap().clone()
}

#[tokio::test]
async fn a_lane_without_room_for_an_answer_says_so_and_serves_on() {
    let Some(served) = with_outer().await else { return };
    let mut client = served.connect().await.unwrap();
    let answered = square(&mut client, &[1.0, 2.0], WASM).await;
    assert_eq!(numbers(&answered, "y").unwrap(), [1.0, 2.0, 2.0, 4.0]);
    let before = shown(&served, "chromium-1/wasm").await;
    let heap = |lane: &Value| lane["memory"]["wasm_bytes"].as_u64().unwrap();
    assert!(heap(&before) > 1 << 20, "the engine's own heap is seen: {before}");
    // Over what an answer holds, over what the heap can still grow by, over what it can ever hold.
    for side in [20_000, 28_000, 60_000] {
        let refused = square(&mut client, &vec![1.0; side], WASM).await;
        assert_eq!(refused["error"]["code"], "out_of_memory", "{side}: {refused}");
        let answered = square(&mut client, &[3.0], WASM).await;
        assert_eq!(numbers(&answered, "y").unwrap(), [9.0], "{side}");
    }
    let after = shown(&served, "chromium-1/wasm").await;
    // A fresh Worker's heap would be small again.
    assert!((1 << 30..4 << 30).contains(&heap(&after)), "the lane has lived on: {after}");
    let browser = leader_of(served.home());
    let held = tokio::task::spawn_blocking(move || procs::memory(browser.as_raw())).await.unwrap().unwrap();
    assert!(held > heap(&after), "{held} bytes in all, of which the heap is {}", heap(&after));
    served.stop().await.unwrap();
}

#[tokio::test]
async fn a_lane_without_its_gpu_is_noticed_at_once_and_comes_back() {
    let Some(served) = with_outer().await else { return };
    lose_gpu(served, WEBGPU).await;
}

#[tokio::test]
async fn a_lane_on_our_kernels_without_its_gpu_comes_back_with_its_programs() {
    let Some(served) = crate::ours::served("chromium=1").await else { return };
    lose_gpu(have_outer(served).await, OURS).await;
}

async fn lose_gpu(served: Served, lane: Lane) {
    let mut client = served.connect().await.unwrap();
    square(&mut client, &[2.0], lane).await;
    let name = format!("chromium-1/{}", lane.backend);
    let before = shown(&served, &name).await;
    assert!(before["memory"]["gpu_bytes"].as_u64().unwrap() > 0, "the engine's buffers are seen: {before}");
    let mut events = pool_events(&served).await;
    let gpu = process(served.home(), "--type=gpu-process");
    kill(gpu, Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    // Nobody asks for anything meanwhile.
    let reason = timeout(LIMIT, async {
        loop {
            let event = next_event(&mut events).await;
            if let Some(reason) = event["lanes"][&name]["reason"].as_str() {
                return reason.to_owned();
            }
        }
    });
    let reason = reason.await.expect("the loss is noticed");
    assert!(killed.elapsed() < AT_ONCE, "{reason} after {:?}", killed.elapsed());
    assert!(reason.contains("the WebGPU device was lost"), "{reason}");
    for value in [2.0, 3.0] {
        let answered = square(&mut client, &[value], lane).await;
        assert_eq!(numbers(&answered, "y").unwrap(), [value * value], "{answered}");
    }
    // Another attempt's provenance would say so: it was the lane that was waited for, not luck.
    assert_eq!(shown(&served, &name).await["state"], "ready");
    served.stop().await.unwrap();
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// What the pool tells of its instances from now on.
async fn pool_events(served: &Served) -> Socket {
    let url = format!("{}/v2/ws", served.url.replacen("http", "ws", 1));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let subscribe = json!({"type": "subscribe", "topics": ["pool"]});
    // Messages are read in order, so that the answer to a second one tells that the first was read.
    for message in [subscribe, json!({"type": "cancel", "id": "nobody's"})] {
        socket.send(Message::text(message.to_string())).await.unwrap();
    }
    loop {
        let message = socket.next().await.unwrap().unwrap();
        if message.to_text().unwrap().contains("nobody's") {
            return socket;
        }
    }
}

async fn next_event(socket: &mut Socket) -> Value {
    loop {
        let message = socket.next().await.unwrap().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if message["type"] == "event" {
            return message["event"].clone();
        }
    }
}

/// The browser's first process.
fn leader_of(home: &Path) -> Pid {
    let profile = format!("--user-data-dir={}", home.display());
    find(|line| line.contains(&profile) && !line.contains("--type="))
}

/// A helper of the browser whose home this is.
fn process(home: &Path, kind: &str) -> Pid {
    let home = home.display().to_string();
    find(|line| line.contains(kind) && line.contains(&home))
}

fn find(is: impl Fn(&str) -> bool) -> Pid {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let found = pids.into_iter().find(|pid| {
        let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = [read("cmdline"), read("environ")].concat();
        is(&String::from_utf8_lossy(&line))
    });
    Pid::from_raw(found.expect("the process runs"))
}

/// Asks over CDP and answers with the result; events before it are given to `seen`.
async fn ask(
    cdp: &mut Socket,
    session: Option<&str>,
    method: &str,
    params: Value,
    seen: &mut Vec<Value>,
) -> Value {
    let mut request = json!({"id": 1, "method": method, "params": params});
    if let Some(session) = session {
        request["sessionId"] = json!(session);
    }
    cdp.send(Message::text(request.to_string())).await.unwrap();
    loop {
        let message = timeout(LIMIT, cdp.next()).await.expect("an answer").unwrap().unwrap();
        let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if message["id"] == 1 {
            return message["result"].clone();
        }
        seen.push(message);
    }
}

/// Has the only Worker of the only page close itself, as a script can, over a CDP connection of the test's own.
async fn close_worker(run: &Path) {
    let address = find_file(run, "DevToolsActivePort").expect("the browser says where it listens");
    let address = fs::read_to_string(address).unwrap();
    let (port, path) = address.split_once('\n').unwrap();
    let url = format!("ws://127.0.0.1:{port}{}", path.trim());
    let (mut cdp, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut seen = Vec::new();
    let targets = ask(&mut cdp, None, "Target.getTargets", json!({}), &mut seen).await;
    let page = targets["targetInfos"].as_array().unwrap().iter().find(|info| info["type"] == "page").unwrap();
    let attach = json!({"targetId": page["targetId"], "flatten": true});
    let page = ask(&mut cdp, None, "Target.attachToTarget", attach, &mut seen).await;
    let page = page["sessionId"].as_str().unwrap().to_owned();
    let auto = json!({"autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true});
    ask(&mut cdp, Some(&page), "Target.setAutoAttach", auto, &mut seen).await;
    let worker = |message: &Value| {
        let info = &message["params"]["targetInfo"];
        (info["type"] == "worker").then(|| message["params"]["sessionId"].as_str().unwrap().to_owned())
    };
    let worker = seen.iter().find_map(worker).expect("the page's Worker is attached to");
    let close = json!({"expression": "self.close()"});
    ask(&mut cdp, Some(&worker), "Runtime.evaluate", close, &mut seen).await;
}

fn find_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let here = entries.iter().find(|path| path.file_name().is_some_and(|found| found == name)).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find_file(path, name)))
}

/// The test is the daemon here: the real one hears of it from the closed link as well, once there is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_itself_before_its_handshake_is_missed_at_once() {
    let recipe = Recipe::embedded().into_iter().find(|recipe| recipe.name == "chromium").unwrap();
    if let Err(missing) = recipe.locate(&places()) {
        return crate::skip("chromium", Path::new(&missing.to_string()));
    }
    let stage = Stage::set();
    let driver = stage.driver(recipe, places());
    let mut browser = Harness::launch(driver, stage.home.path().to_owned(), &stage.tasks).await;
    // It says hello and is never welcomed.
    let link = browser.link(&BackendKind::Wasm).await;
    close_worker(stage.run.path()).await;
    let closed = Instant::now();
    let (lane, message) = browser.exited().await;
    assert_eq!((lane.as_str(), message.as_str()), ("wasm#1", "the Worker ended by itself"));
    assert!(closed.elapsed() < AT_ONCE, "{:?}", closed.elapsed());
    // Links are written for as long as somebody holds them.
    drop(link);
    browser.close().await;
    stage.assert_clear().await;
}
