//! A FAKE WebDriver server: no browser, but answers, silence or nonsense over real HTTP, per command.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::soon;

/// How a command is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Answer,
    /// Nothing is ever answered, until [`FakeWebdriver::release`].
    Hang,
    /// The connection ends without an answer.
    Drop,
    /// A page of HTML, as a proxy would send.
    Page,
    /// Said to be JSON, and not even text.
    NotText,
    /// JSON of no WebDriver's.
    NotW3c,
    /// An error of the protocol.
    Refuse,
    /// More than any answer has.
    Flood,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) command: &'static str,
    pub(crate) body: Value,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct State {
    manners: Mutex<HashMap<&'static str, Manner>>,
    sessions: Mutex<BTreeSet<String>>,
    shown: Mutex<String>,
    released: watch::Sender<bool>,
    asked: watch::Sender<Vec<Request>>,
}

#[derive(Clone)]
pub(crate) struct FakeWebdriver {
    pub(crate) address: std::net::SocketAddr,
    state: Arc<State>,
}

impl FakeWebdriver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let fake = Self { address: listener.local_addr().expect("an address"), state: Arc::default() };
        let state = fake.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone()));
            }
        });
        fake
    }

    pub(crate) fn meets(&self, command: &'static str, manner: Manner) {
        held(&self.state.manners).insert(command, manner);
    }

    /// Answers what hangs, and hangs no more.
    pub(crate) fn release(&self) {
        self.state.released.send_replace(true);
    }

    /// Ends every session from this side, as a crash of the browser would.
    pub(crate) fn crash(&self) {
        held(&self.state.sessions).clear();
    }

    pub(crate) fn sessions(&self) -> usize {
        held(&self.state.sessions).len()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.asked.borrow().clone()
    }

    /// Waits until a command of this kind has come.
    pub(crate) async fn asked(&self, command: &str) {
        let mut asked = self.state.asked.subscribe();
        let seen = asked.wait_for(|requests| requests.iter().any(|request| request.command == command));
        soon(command, seen).await.expect("the state is held here");
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().expect("no test panics while it holds this")
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let mut stream = BufReader::new(stream);
    while let Some((method, path, authorization, body)) = read(&mut stream).await {
        let command = command(&method, &path);
        let request = Request { command, body: body.clone(), authorization };
        state.asked.send_modify(|asked| asked.push(request));
        let manner = held(&state.manners).get(command).copied().unwrap_or(Manner::Answer);
        if manner == Manner::Hang {
            let mut released = state.released.subscribe();
            released.wait_for(|released| *released).await.expect("the state is held here");
        }
        let (status, kind, text): (u16, &str, Vec<u8>) = match manner {
            Manner::Answer | Manner::Hang => {
                let (status, value) = answer(&state, command, &path, &body);
                (status, "application/json", json!({"value": value}).to_string().into_bytes())
            }
            Manner::Drop => return,
            Manner::Page => (200, "text/html", b"<title>proxy</title>".to_vec()),
            Manner::NotText => (200, "application/json", vec![0xff; 64]),
            Manner::NotW3c => (200, "application/json", b"[1, 2, 3]".to_vec()),
            Manner::Refuse => {
                let error = json!({"error": "unknown error", "message": "a fake refusal", "stacktrace": ""});
                (500, "application/json", json!({"value": error}).to_string().into_bytes())
            }
            Manner::Flood => (200, "application/json", vec![b' '; 8 << 20]),
        };
        let head =
            format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", text.len());
        // Whoever hung up is not answered.
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&text).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, String, Option<String>, Value)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a length"),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    Some((method, path, authorization, body))
}

fn command(method: &str, path: &str) -> &'static str {
    let last = path.rsplit('/').next().unwrap_or_default();
    match (method, last) {
        ("POST", "session") => "new",
        ("POST", "url") => "navigate",
        ("GET", "url") => "url",
        ("GET", "title") => "title",
        ("DELETE", _) => "delete",
        other => panic!("{other:?} is nothing that a driver may send"),
    }
}

fn answer(state: &State, command: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut sessions = held(&state.sessions);
    if command == "new" {
        let id = format!("fake-{:08x}", rand::random::<u32>());
        sessions.insert(id.clone());
        let capabilities = json!({"browserName": "fake", "browserVersion": "1.2.3", "platformName": "linux"});
        return (200, json!({"sessionId": id, "capabilities": capabilities}));
    }
    let id =
        path.split("/session/").nth(1).and_then(|rest| rest.split('/').next()).expect("a session's path");
    if !sessions.contains(id) {
        return (404, json!({"error": "invalid session id", "message": "it has none", "stacktrace": ""}));
    }
    match command {
        "navigate" => body["url"].as_str().expect("an address").clone_into(&mut held(&state.shown)),
        "url" => return (200, json!(*held(&state.shown))),
        "title" => return (200, json!("fake")),
        _ => drop(sessions.remove(id)),
    }
    (200, Value::Null)
}
