//! Clients that mean harm: each is refused by name, costs a bounded time and place, and others are served meanwhile.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::Instant,
};
use weft::{config::Config, http::Pace};

use crate::{
    access::{ask, guarded, required},
    support::{Client, Conduct, FakeBrowser, TestDaemon, graphs, home, infer_x, soon},
};

/// Short enough for a test, long enough for a loaded machine.
const HEAD_WITHIN: Duration = Duration::from_millis(600);

fn impatient(config: &mut Config) {
    config.connections.head_within = HEAD_WITHIN;
    config.connections.pace = Pace { grace: HEAD_WITHIN, bytes_per_second: 1 << 20 };
}

async fn started(change: impl FnOnce(&mut Config)) -> TestDaemon {
    let daemon = TestDaemon::start_in(home(), &[], change).await.expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon
}

fn place(daemon: &TestDaemon) -> String {
    daemon.url.trim_start_matches("http://").to_owned()
}

async fn connect(daemon: &TestDaemon) -> TcpStream {
    soon("a connection", TcpStream::connect(place(daemon))).await.expect("a connection")
}

/// All that the daemon says until it closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset ends it as well.
    let _ = soon("the end", stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_key_revoked_in_mid_stream_ends_what_is_under_way() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = guarded(&[&browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let key = daemon.key("leaked", json!({})).await;
    let mut client = Client::with_key(&daemon.url, &key).await;
    let mut idle = Client::with_key(&daemon.url, &key).await;
    let (asking, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(asking));
    client.send(&infer_x("r", &json!({"backend": ["wasm"]}))).await;
    let _step = soon("a step", asked.recv()).await.expect("the browser lives");
    let began = Instant::now();
    let revoked = daemon.http.delete(format!("{}/api/v1/keys/leaked", daemon.url)).send().await;
    assert_eq!(revoked.expect("an answer").status(), 200);
    for client in [&mut client, &mut idle] {
        client.next().await.refused("unauthorized", "never", "revoked");
        assert_eq!(client.closed().await, (1008, "key revoked".to_owned()));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(Client::open(&daemon.url, &[("authorization", &format!("Bearer {key}"))]).await.is_err());
    let runs = daemon.runs().await;
    assert_eq!(runs.last().expect("a run")["error"]["code"], "cancelled", "{runs:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_key_in_the_address_is_refused_right_or_wrong() {
    let daemon = guarded(&[]).await;
    let key = daemon.key("careless", json!({})).await;
    let bearer = format!("Bearer {key}");
    let addresses = [
        format!("/v2/ws?key={key}"),
        format!("/api/v1/runs?last={key}"),
        "/v2?access_token=a.b.c".to_owned(),
        "/v2?TOKEN=x".to_owned(),
        "/v2/health/live?api_key=x".to_owned(),
    ];
    for address in addresses {
        for headers in [&[][..], &[("authorization", bearer.as_str())][..]] {
            let answer = ask(&daemon, "GET", &address, headers).await;
            assert_eq!(answer.status(), 422, "{address}");
            let said = answer.text().await.expect("a text");
            assert!(said.contains("addresses are written to logs") && !said.contains(&key), "{said}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_model_name_is_no_path() {
    let daemon = guarded(&[]).await;
    let key = daemon.key("any", json!({"scopes": "admin"})).await;
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str())];
    let secret = daemon.home.path().join("daemon.json");
    let secret = secret.to_str().expect("UTF-8").replace('/', "%2f");
    for name in
        ["..%2f..%2fdaemon.json", "%2e%2e%2fdaemon.json", &secret, "..%5cdaemon.json", "neg%00", ".neg"]
    {
        for (method, path) in [
            ("GET", format!("/api/v1/models/{name}")),
            ("DELETE", format!("/api/v1/models/{name}")),
            ("POST", format!("/api/v1/models/{name}/verify")),
        ] {
            let answer = ask(&daemon, method, &path, &headers).await;
            assert!([404, 422].contains(&answer.status().as_u16()), "{method} {path}: {}", answer.status());
            assert!(!answer.text().await.expect("a text").contains("weft_"), "{path}");
        }
    }
    let mut client = Client::with_key(&daemon.url, &key).await;
    for name in ["../neg", "/etc/passwd", "..", "neg/../neg", "neg\0"] {
        let mut request = infer_x("r", &json!({}));
        request["model_name"] = json!(name);
        client.ask(&request).await.refused("invalid_request", "never", "is no model name");
    }
    let order = json!({"name": "../evil", "digest": "0".repeat(64), "source": "a test"});
    assert_eq!(daemon.post("/api/v1/models", order.to_string()).await.0, 422);
    assert!(daemon.home.path().join("daemon.json").exists());
    client.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_head_that_comes_slowly_is_not_waited_for() {
    let daemon = started(impatient).await;
    let (mut silent, mut slow) = (connect(&daemon).await, connect(&daemon).await);
    let began = Instant::now();
    slow.write_all(b"GET /v2 HTTP/1.1\r\nhost: ").await.expect("it reads");
    let trickle = async {
        // A byte at a time, each well within any pause.
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(HEAD_WITHIN / 10).await;
        }
    };
    let (said, ()) = soon("both ends", futures_util::future::join(rest(&mut silent), trickle)).await;
    assert!(said.is_empty(), "{said}");
    let took = began.elapsed();
    assert!(took >= HEAD_WITHIN && took < HEAD_WITHIN * 10, "{took:?}");
    daemon.client().await.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_not_waited_for() {
    let daemon = started(impatient).await;
    for path in ["/api/v1/models", "/api/v1/blobs"] {
        let mut slow = connect(&daemon).await;
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: 100000\r\n\r\n", place(&daemon));
        let began = Instant::now();
        slow.write_all(head.as_bytes()).await.expect("it reads");
        slow.write_all(b"{").await.expect("it reads");
        let said = rest(&mut slow).await;
        assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("too slowly"), "{path}: {said}");
        assert!(began.elapsed() < HEAD_WITHIN * 10, "{:?}", began.elapsed());
    }
    // One that keeps the pace is taken, however long it lasts beyond the grace.
    let chunks = futures_util::stream::unfold(0_u32, |sent| async move {
        tokio::time::sleep(HEAD_WITHIN / 4).await;
        (sent < 8).then(|| (Ok::<_, std::io::Error>(vec![b'x'; 512 << 10]), sent + 1))
    });
    let (status, said) = daemon.post("/api/v1/blobs", reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!(status, 200, "{said}");
    daemon.stop().await;
}

#[tokio::test]
async fn heads_that_are_no_heads_are_refused() {
    let daemon = started(|_| {}).await;
    let host = place(&daemon);
    let many = "x: y\r\n".repeat(200);
    let cases = [
        (format!("GET /v2 HTTP/1.1\r\nhost: {host}\r\nx: {}\r\n\r\n", "y".repeat(256 << 10)), "431"),
        (format!("GET /v2 HTTP/1.1\r\nhost: {host}\r\n{many}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\nhost: {host}\r\n\r\n", "y".repeat(100 << 10)), "414"),
        (format!("POST /api/v1/models HTTP/1.1\r\nhost: {host}\r\ncontent-length: -1\r\n\r\n"), "400"),
        (
            format!(
                "POST /api/v1/models HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
            ),
            "400",
        ),
        (format!("GET /v2 HTTP/1.1\r\nhost: {host}\r\nx\0: y\r\n\r\n"), "400"),
        ("\x16\x03\x01\x02\x00".repeat(20), "400"),
        ("GET /v2 HTTP/1.1\r\n\r\n".to_owned(), "403"),
    ];
    for (head, status) in cases {
        let mut stream = connect(&daemon).await;
        // It may answer and close before it has read all.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.shutdown().await;
        let said = rest(&mut stream).await;
        let what: String = head.chars().take(60).collect();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{what:?}: {said:?}");
    }
    daemon.client().await.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_flood_of_connections_is_refused_by_name_and_leaves_no_mark() {
    let flooded = started(|config| config.connections.most_per_address = Some(8)).await;
    let full = started(|config| config.connections.most = 8).await;
    for (daemon, status, code) in [(&flooded, 429, "rate_limited"), (&full, 503, "overloaded")] {
        let mut socket = daemon.client().await;
        // The socket and the connection that the model came by are among the eight.
        let mut held = Vec::new();
        let refused = loop {
            assert!(held.len() < 9, "no connection was refused");
            let mut stream = connect(daemon).await;
            let mut first = [0; 12];
            let wait = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut first)).await;
            match wait {
                Ok(read) => {
                    read.expect("an answer");
                    break format!("{}{}", String::from_utf8_lossy(&first), rest(&mut stream).await);
                }
                Err(_) => held.push(stream),
            }
        };
        assert!(refused.starts_with(&format!("HTTP/1.1 {status}")), "{refused}");
        let body: Value =
            serde_json::from_str(refused.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
        assert_eq!((&body["code"], &body["status"]), (&json!(code), &json!(status)), "{body}");
        assert!(body["detail"].as_str().is_some_and(|text| text.contains("8 connections")), "{body}");
        socket.serves(&json!({})).await;
        drop(held);
        let again = async {
            loop {
                // The places of those that left come back as their ends are noticed.
                let Ok((mut client, _)) = Client::open(&daemon.url, &[]).await else { continue };
                return client.serves(&json!({})).await;
            }
        };
        Box::pin(soon("a place", again)).await;
    }
    flooded.stop().await;
    full.stop().await;
}

/// A socket holds its connection's place until it closes.
#[tokio::test]
async fn open_sockets_count_as_connections() {
    let daemon = started(|config| config.connections.most_per_address = Some(4)).await;
    let mut sockets = Vec::new();
    let refused = loop {
        assert!(sockets.len() < 5, "no socket was refused");
        match Client::open(&daemon.url, &[]).await {
            Ok((client, _)) => sockets.push(client),
            Err(refused) => break refused,
        }
    };
    assert!(sockets.len() >= 3, "{} sockets, then {refused}", sockets.len());
    sockets[0].serves(&json!({})).await;
    sockets.pop();
    let again = async { while Client::open(&daemon.url, &[]).await.is_err() {} };
    Box::pin(soon("the place of the one that left", again)).await;
    daemon.stop().await;
}

/// The system ends a connection whose other end takes nothing, however long it lives.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn listeners_have_the_system_look_after_connections() {
    let daemon = started(required).await;
    let port: u16 = place(&daemon).rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let _client = connect(&daemon).await;
    let text = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let ours = format!(":{port:04X}");
    let states: Vec<_> = text
        .lines()
        .skip(1)
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&ours)))
        .filter(|line| line.split_whitespace().nth(3) == Some("01"))
        .filter_map(|line| line.split_whitespace().nth(5))
        .collect();
    // 02 is the keep-alive timer, before which others may stand for a moment; 00 is none.
    let kept = states.iter().any(|timer| timer.starts_with("02:"));
    assert!(kept && states.iter().all(|timer| !timer.starts_with("00:")), "{states:?}");
    daemon.stop().await;
}
