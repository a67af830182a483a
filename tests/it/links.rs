//! Who may talk to the daemon at all: hosts, origins, and the harness link's first message.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, http::HeaderValue};
use weft::{
    bridge::{Bridge, guard::Origin},
    tasks::Tasks,
};

use crate::support::{FakeBrowser, TestDaemon, connect_link, graphs, home, soon};

async fn bridge(tasks: &Tasks, models: &std::path::Path) -> Bridge {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    Bridge::bind(any, 1000, models.to_owned(), tasks).await.expect("a free port")
}

fn hello(change: impl FnOnce(&mut Value), ticket: &str) -> Message {
    let mut hello = json!({"type": "hello", "protocol": 5, "role": "lane", "ticket": ticket, "epoch": 3});
    change(&mut hello);
    Message::text(hello.to_string())
}

/// How the bridge ends a link that starts with this.
async fn refusal(origin: &str, first: Message) -> (u16, String) {
    let mut socket = connect_link(origin).await;
    socket.send(first).await.expect("the bridge reads");
    match soon("a refusal", socket.next()).await.expect("a last word").expect("a good message") {
        Message::Close(Some(close)) => (close.code.into(), close.reason.to_string()),
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn a_link_needs_the_right_first_message() {
    let (tasks, models) = (Tasks::new(), tempfile::tempdir().expect("a temporary folder"));
    let bridge = bridge(&tasks, models.path()).await;
    let origin = format!("http://{}", bridge.address());
    let none: fn(&mut Value) = |_| {};
    let revoked = bridge.expect_lane(3).ticket.clone();
    let cases: [(&str, Message, u16); 9] = [
        ("an unknown ticket", hello(none, "guessed"), 4401),
        ("a ticket that was taken back", hello(none, &revoked), 4401),
        ("another version", hello(|hello| hello["protocol"] = json!(1), "t"), 4426),
        ("no ticket", hello(|hello| hello["ticket"] = Value::Null, "t"), 4400),
        ("no hello", Message::text(r#"{"type":"lane_ready"}"#), 4400),
        ("no JSON", Message::text("hello"), 4400),
        ("a binary frame", Message::binary(vec![0; 8]), 4400),
        ("an unknown role", hello(|hello| hello["role"] = json!("root"), "t"), 4400),
        ("an epoch below zero", hello(|hello| hello["epoch"] = json!(-1), "t"), 4400),
    ];
    for (case, first, code) in cases {
        assert_eq!(refusal(&origin, first).await.0, code, "{case}");
    }
    for (case, change, code) in [
        ("another epoch", (|hello| hello["epoch"] = json!(2)) as fn(&mut Value), 4409),
        ("another role", |hello| hello["role"] = json!("page"), 4401),
    ] {
        let mut expected = bridge.expect_lane(3);
        assert_eq!(refusal(&origin, hello(change, &expected.ticket)).await.0, code, "{case}");
        // A ticket that was shown once is spent, whoever showed it.
        assert_eq!(refusal(&origin, hello(none, &expected.ticket)).await.0, 4401, "{case}");
        assert!(expected.session().await.is_none(), "{case}");
    }
    let mut expected = bridge.expect_lane(3);
    let mut socket = connect_link(&origin).await;
    socket.send(hello(none, &expected.ticket)).await.expect("the bridge reads");
    let session = soon("a session", expected.session()).await.expect("a good hello opens one");
    assert_eq!(refusal(&origin, hello(none, &expected.ticket)).await.0, 4401, "a ticket is used once");
    drop(session);
    soon("stopping", tasks.stop()).await;
}

#[tokio::test]
async fn the_bridge_serves_its_own_pages_alone() {
    let (tasks, models) = (Tasks::new(), tempfile::tempdir().expect("a temporary folder"));
    let bridge = bridge(&tasks, models.path()).await;
    let page = bridge.open_page(1);
    let http = reqwest::Client::new();
    let link = format!("http://{}/harness/link", bridge.address());
    let model = format!(
        "http://{}{}",
        bridge.address(),
        Bridge::model_url("ab".repeat(32).parse().expect("a digest"))
    );
    let foreign = [("host", "weft.example:80"), ("origin", "http://weft.example"), ("origin", "null")];
    for url in [&page.url, &link, &model] {
        for (header, value) in foreign {
            let answer = http.get(url).header(header, value).send().await.expect("an answer");
            assert_eq!(answer.status(), 403, "{url} with {header}: {value}");
        }
    }
    for origin in [None, Some("http://weft.example"), Some("http://127.0.0.1:1")] {
        let mut request = link.replacen("http", "ws", 1).into_client_request().expect("a good address");
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", HeaderValue::from_static(origin));
        }
        match tokio_tungstenite::connect_async(request).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                assert_eq!(answer.status(), 403, "{origin:?}");
            }
            other => panic!("{origin:?}: {other:?}"),
        }
    }
    assert_eq!(http.get(&model).send().await.expect("an answer").status(), 404);
    let first = http.get(&page.url).send().await.expect("an answer");
    assert_eq!(
        (first.status().as_u16(), &first.headers()["cache-control"]),
        (200, &HeaderValue::from_static("no-store"))
    );
    assert_eq!(http.get(&page.url).send().await.expect("an answer").status(), 404, "a page is served once");
    soon("stopping", tasks.stop()).await;
}

#[tokio::test]
async fn every_route_refuses_foreign_hosts_and_pages() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let routes = [
        ("GET", "/v2"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/ws"),
        ("GET", "/api/v1/instances"),
        ("GET", "/api/v1/lanes"),
        ("GET", "/api/v1/runs"),
        ("GET", "/api/v1/models"),
        ("POST", "/api/v1/models"),
        ("GET", "/api/v1/models/neg"),
        ("DELETE", "/api/v1/models/neg"),
        ("POST", "/api/v1/models/neg/verify"),
        ("POST", "/api/v1/blobs"),
        ("GET", "/no/such/route"),
    ];
    let port = daemon.url.rsplit(':').next().expect("a port");
    let own = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let foreign = [
        ("host", "weft.example".to_owned()),
        ("host", format!("weft.example:{port}")),
        ("host", "127.0.0.1:1".to_owned()),
        ("origin", "http://weft.example".to_owned()),
        ("origin", format!("https://127.0.0.1:{port}")),
        ("origin", "http://localhost:1".to_owned()),
        ("origin", "null".to_owned()),
    ];
    for (method, path) in routes {
        for (header, value) in &foreign {
            let request =
                daemon.http.request(method.parse().expect("a method"), format!("{}{path}", daemon.url));
            let upgrade = [
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ];
            let request =
                upgrade.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let answer = request.header(*header, value).send().await.expect("an answer");
            assert_eq!(answer.status(), 403, "{method} {path} with {header}: {value}");
            let said: Value = serde_json::from_str(&answer.text().await.expect("a text")).expect("a problem");
            if path.starts_with("/v2") {
                assert!(said["error"].is_string(), "{method} {path}: {said}");
            } else {
                assert_eq!(said["code"], "unauthorized", "{method} {path}: {said}");
            }
        }
    }
    for host in &own {
        let request = daemon.http.get(format!("{}/v2", daemon.url)).header("host", host);
        let answer = request.header("origin", format!("http://{host}")).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{host}");
    }
    daemon.client().await.serves(&json!({"backend": ["wasm"]})).await;
    daemon.stop().await;
}

/// Passes bytes between a browser and the bridge, as a proxy between them would; counts the connections.
async fn proxy(listener: TcpListener, bridge: SocketAddr, passed: Arc<AtomicUsize>) {
    while let Ok((mut near, _)) = listener.accept().await {
        passed.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let mut far = TcpStream::connect(bridge).await.expect("the bridge listens");
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

#[tokio::test]
async fn browsers_behind_a_proxy_use_the_public_origin() {
    let between = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let public = format!("http://{}", between.local_addr().expect("an address"));
    // Let go of before the daemon takes it; nobody else here asks for this very port.
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let passed = Arc::new(AtomicUsize::new(0));
    tokio::spawn(proxy(between, free, passed.clone()));
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start_in(home(), &[&browser], |config| {
        config.bridge.local = free;
        config.bridge.public = Some(Origin::parse(&public).expect("an origin"));
    })
    .await
    .expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon.client().await.serves(&json!({"backend": ["wasm"]})).await;
    // The page, its link and the lane's link.
    assert!(passed.load(Ordering::SeqCst) >= 3, "some did not pass the proxy");
    for (host, status) in [(public.as_str(), 404), ("http://weft.example", 403), ("http://localhost:1", 403)]
    {
        let request = daemon.http.get(format!("http://{free}/harness/none"));
        let place = host.strip_prefix("http://").expect("plain");
        let answer = request.header("host", place).header("origin", host).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{host}");
    }
    daemon.stop().await;
}
