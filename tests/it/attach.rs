//! Endpoints that are no browser, or not for long: each ends in a named error, in time.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};
use weft::{
    driver::{
        DriverError, Drivers, LaunchOrder,
        ledger::RunDir,
        recipe::{GpuMode, Places, Recipe},
    },
    tasks::Tasks,
};

/// A loaded machine does a local round trip in this time.
const LIMIT: Duration = Duration::from_secs(10);

/// What an endpoint that never answers is given.
const SHORT: Duration = Duration::from_millis(300);

fn recipe(driver: &str, endpoint: &str) -> Recipe {
    let text = format!(
        "name = 'theirs'\nproduct = 'Theirs'\ndriver = '{driver}'\nendpoint = '{endpoint}'\ninstall = 'none'\n\
        backends = ['wasm']\ngpu.hardware = {{}}\ngpu.software = {{}}\nlimits = {{ instances = 1 }}"
    );
    Recipe::parse("theirs.toml", &text).expect("a good recipe")
}

async fn attach(driver: &str, endpoint: &str, deadline: Duration) -> DriverError {
    let home = tempfile::tempdir().expect("a temporary folder");
    let run = RunDir::create(home.path()).expect("room for a folder");
    let tasks = Tasks::new();
    let places = Places { cache: home.path().to_owned(), path: "".into() };
    let (run_dir, on) = (run.clone(), tasks.clone());
    let drivers = Drivers { places, run: run_dir, tasks: on, display: None, certificate_pin: None };
    let order = LaunchOrder {
        name: "theirs-1".to_owned(),
        url: "http://127.0.0.1:9/".to_owned(),
        gpu: GpuMode::Hardware,
        deadline,
    };
    let error = drivers.of(recipe(driver, endpoint)).launch(order).await.err().expect("it is no browser");
    tokio::time::timeout(LIMIT, tasks.stop()).await.expect("no task is left");
    run.clear().expect("nothing is left");
    error
}

/// Listens, and does this with each connection.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn silent(stream: TcpStream) {
    let _open = stream;
    std::future::pending::<()>().await;
}

async fn rude(stream: TcpStream) {
    drop(stream);
}

async fn answers(mut stream: TcpStream, body: &'static str) {
    let mut head = [0; 1024];
    let _ = stream.read(&mut head).await;
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// Takes a session, answers so many commands, and hangs up at the next.
async fn dies_after(stream: TcpStream, commands: usize) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    for _ in 0..commands {
        let Some(Ok(Message::Text(text))) = socket.next().await else { return };
        let command: Value = serde_json::from_str(&text).expect("a command is JSON");
        let result = json!({
            "product": "Fake/1.0", "browserContextId": "b", "targetId": "t", "sessionId": "s",
            "capabilities": {"browserVersion": "1.0"}, "context": "c",
        });
        let answer = json!({"type": "success", "id": command["id"], "result": result});
        let _ = socket.send(Message::text(answer.to_string())).await;
    }
    let _ = socket.next().await;
}

/// Takes a session and refuses every command.
async fn refuses(stream: TcpStream) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let command: Value = serde_json::from_str(&text).expect("a command is JSON");
        let words = "Maximum number of active sessions";
        let answer =
            json!({"type": "error", "id": command["id"], "error": "session not created", "message": words});
        let _ = socket.send(Message::text(answer.to_string())).await;
    }
}

fn kind(error: &DriverError) -> &'static str {
    match error {
        DriverError::Unserved { .. } => "unserved",
        DriverError::Unanswered { .. } => "unanswered",
        DriverError::Attach { .. } => "attach",
        DriverError::Navigate { .. } => "navigate",
        _ => "another",
    }
}

#[tokio::test]
async fn an_endpoint_that_is_no_browser_is_named_with_its_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("one");
    let closed = closed.to_string();
    let silent = server(silent).await;
    let rude = server(rude).await;
    let no_json = server(|stream| answers(stream, "hello")).await;
    let no_socket = server(|stream| answers(stream, "{}")).await;
    let at_once = server(|stream| dies_after(stream, 0)).await;
    let open = server(|stream| dies_after(stream, 2)).await;
    let full = server(refuses).await;
    let cases = [
        ("cdp", "http", &closed, LIMIT, "unserved", "refused"),
        ("cdp", "ws", &closed, LIMIT, "unserved", "refused"),
        ("bidi", "ws", &closed, LIMIT, "unserved", "refused"),
        ("cdp", "http", &silent, SHORT, "unanswered", "no answer within"),
        ("cdp", "ws", &silent, SHORT, "unanswered", "no answer within"),
        ("bidi", "ws", &silent, SHORT, "unanswered", "no answer within"),
        ("cdp", "http", &rude, LIMIT, "unserved", "nobody serves"),
        ("bidi", "ws", &rude, LIMIT, "unserved", "nobody serves"),
        ("cdp", "http", &no_json, LIMIT, "unserved", "/json/version: expected"),
        ("cdp", "http", &no_socket, LIMIT, "unserved", "names no control socket"),
        ("bidi", "ws", &no_json, LIMIT, "unserved", "nobody serves"),
        ("cdp", "ws", &at_once, LIMIT, "attach", "the control socket"),
        ("bidi", "ws", &at_once, LIMIT, "attach", "the control socket"),
        ("cdp", "ws", &open, LIMIT, "attach", "the control socket"),
        ("bidi", "ws", &open, LIMIT, "attach", "the control socket"),
        ("bidi", "ws", &full, LIMIT, "attach", "session not created: Maximum number of active sessions"),
    ];
    for (driver, scheme, address, deadline, expected, words) in cases {
        let endpoint = format!("{scheme}://{address}");
        let started = Instant::now();
        let error = attach(driver, &endpoint, deadline).await;
        let case = format!("{driver} at {endpoint}: {error:?}");
        assert_eq!(kind(&error), expected, "{case}");
        let message = error.to_string();
        assert!(message.contains(words) && message.contains(&endpoint), "{case}: {message}");
        assert!(started.elapsed() < LIMIT, "{case}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_browser_that_dies_while_it_navigates_says_so() {
    // Version, context, target, session and two settings; then the navigation.
    let cdp = server(|stream| dies_after(stream, 6)).await;
    // Session, tab, subscription.
    let bidi = server(|stream| dies_after(stream, 3)).await;
    for (driver, address) in [("cdp", cdp), ("bidi", bidi)] {
        let error = attach(driver, &format!("ws://{address}"), LIMIT).await;
        assert_eq!(kind(&error), "navigate", "{driver}: {error:?}");
        assert!(error.to_string().contains("the control socket"), "{driver}: {error}");
    }
}
