//! The bridge's listener for browsers on other hosts: TLS, its one name, and nothing but the harness.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue},
};
use weft::{
    bridge::{self, Bridge, BridgeError, Certificate, Door, Outside, guard::Origin},
    domain::Body as Tensors,
    tasks::Tasks,
};

use crate::support::soon;

const ANY: &str = "127.0.0.1:0";

fn door(certificate: Option<Certificate>, public: Option<&str>) -> Door {
    let any: SocketAddr = ANY.parse().expect("an address");
    let public = public.map(|public| Origin::parse(public).expect("an origin"));
    Door { local: any, outside: Some(Outside { listen: any, certificate, made: None }), public }
}

/// Makes a certificate for this host and writes it where a configuration may name it.
fn certificate(folder: &Path) -> (Certificate, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let files = Certificate { chain: folder.join("chain.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.chain, made.cert.pem()).expect("room for a file");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("room for a file");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    (files, roots)
}

fn settings(roots: &RootCertStore) -> ClientConfig {
    ClientConfig::builder().with_root_certificates(Arc::new(roots.clone())).with_no_client_auth()
}

async fn encrypted(place: &str, roots: &RootCertStore) -> TlsStream<TcpStream> {
    let plain = TcpStream::connect(place).await.expect("a listener");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(settings(roots))).connect(name, plain).await.expect("TLS")
}

/// Opens a link at `place` as a page of `origin` would.
async fn link(
    place: &str,
    origin: &str,
    roots: &RootCertStore,
) -> Result<WebSocketStream<TlsStream<TcpStream>>, tungstenite::Error> {
    let mut request = format!("wss://{place}/harness/link").into_client_request().expect("a good request");
    request.headers_mut().insert("origin", HeaderValue::from_str(origin).expect("a header"));
    let opened = Box::pin(tokio_tungstenite::client_async(request, encrypted(place, roots).await));
    soon("an answer", opened).await.map(|(socket, _)| socket)
}

/// What a page says, whatever it is.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Said(Value);

impl bridge::Message for Said {}

/// What the server at `url` answers to somebody who trusts `roots`.
async fn get(url: &str, headers: &[(&str, &str)], roots: &RootCertStore) -> Result<StatusCode, String> {
    let connector = HttpsConnectorBuilder::new().with_tls_config(settings(roots));
    let connector = connector.https_or_http().enable_http1().build();
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let request =
        headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
    let answer = client.request(request.body(Body::empty()).expect("a good request"));
    soon("an answer", answer).await.map(|answer| answer.status()).map_err(|error| format!("{error:?}"))
}

/// A bridge that other hosts reach, and where.
struct Far {
    tasks: Tasks,
    roots: RootCertStore,
    bridge: Bridge,
    origin: String,
    place: String,
    _folder: tempfile::TempDir,
}

impl Far {
    async fn open() -> Self {
        let (tasks, folder) = (Tasks::new(), tempfile::tempdir().expect("a temporary folder"));
        let (files, roots) = certificate(folder.path());
        let bridge = Bridge::bind(door(Some(files), None), 1000, folder.path().to_owned(), &tasks);
        let bridge = bridge.await.expect("a good start");
        let origin = bridge.open_far_page(1).url.split("/harness/").next().expect("an origin").to_owned();
        let place = origin.strip_prefix("https://").expect("TLS").to_owned();
        Self { tasks, roots, bridge, origin, place, _folder: folder }
    }
}

#[tokio::test]
async fn other_hosts_get_the_harness_over_tls_by_its_one_name() {
    let (tasks, folder) = (Tasks::new(), tempfile::tempdir().expect("a temporary folder"));
    let (files, roots) = certificate(folder.path());
    let bridge = Bridge::bind(door(Some(files), None), 1000, folder.path().to_owned(), &tasks);
    let bridge = bridge.await.expect("a good start");
    let (near, far) = (bridge.open_page(1), bridge.open_far_page(2));
    assert!(near.url.starts_with(&format!("http://{}/", bridge.address())), "{}", near.url);
    let origin = far.url.split("/harness/").next().expect("an origin").to_owned();
    let place = origin.strip_prefix("https://").expect("TLS").to_owned();
    let none = format!("{origin}/harness/none");
    let cases: [(&str, &[(&str, &str)], u16); 8] = [
        (&far.url, &[], 200),
        (&far.url, &[], 404),
        (&none, &[("host", &place), ("origin", &origin)], 404),
        (&none, &[("host", &bridge.address().to_string())], 403),
        (&none, &[("host", "weft.example")], 403),
        (&none, &[("origin", &format!("http://{place}"))], 403),
        (&none, &[("origin", "https://weft.example")], 403),
        (&format!("{origin}/v2"), &[], 404),
    ];
    for (at, (url, headers, status)) in cases.iter().enumerate() {
        let answer = get(url, headers, &roots).await;
        assert_eq!(answer.map(|answer| answer.as_u16()), Ok(*status), "case {at}: {url} {headers:?}");
    }
    // The loopback listener does not answer to the other's name, and plain HTTP is not answered where TLS is.
    let answer = get(&format!("http://{}/harness/none", bridge.address()), &[("host", &place)], &roots).await;
    assert_eq!(answer.map(|answer| answer.as_u16()), Ok(403));
    assert!(get(&format!("http://{place}/harness/none"), &[], &roots).await.is_err());
    soon("stopping", tasks.stop()).await;
}

#[tokio::test]
async fn a_certificate_is_made_when_none_is_named_and_nobody_trusts_it() {
    let (tasks, folder) = (Tasks::new(), tempfile::tempdir().expect("a temporary folder"));
    let (files, roots) = certificate(folder.path());
    let public = Some("https://weft.example:8443");
    let bridge = Bridge::bind(door(None, public), 1000, folder.path().to_owned(), &tasks);
    let bridge = bridge.await.expect("a good start");
    assert!(bridge.open_far_page(1).url.starts_with("https://weft.example:8443/harness/"));
    let untrusted = Bridge::bind(door(None, None), 1000, folder.path().to_owned(), &tasks);
    let url = untrusted.await.expect("a good start").open_far_page(1).url.clone();
    let refused = get(&url, &[], &roots).await.expect_err("a stranger's certificate");
    assert!(refused.contains("InvalidCertificate"), "{refused}");

    std::fs::write(&files.key, "no key").expect("room for a file");
    let broken = Bridge::bind(door(Some(files), None), 1000, folder.path().to_owned(), &tasks).await;
    match broken.err() {
        Some(error @ BridgeError::Certificate { .. }) => {
            assert!(error.to_string().contains("key.pem"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    soon("stopping", tasks.stop()).await;
}

#[tokio::test]
async fn a_link_over_tls_carries_bodies_and_ends_with_the_daemon() {
    let Far { tasks, roots, bridge, origin, place, _folder } = Far::open().await;
    for foreign in [format!("http://{place}"), format!("http://{}", bridge.address())] {
        match link(&place, &foreign, &roots).await {
            Err(tungstenite::Error::Http(refused)) => assert_eq!(refused.status(), 403, "{foreign}"),
            other => panic!("{foreign}: {:?}", other.map(|_| "a link")),
        }
    }

    let mut expected = bridge.expect_lane(7);
    let mut browser = link(&place, &origin, &roots).await.expect("a link");
    let hello =
        json!({"type": "hello", "protocol": 5, "role": "lane", "ticket": expected.ticket, "epoch": 7});
    browser.send(Message::text(hello.to_string())).await.expect("an open link");
    let mut session = soon("a session", expected.session()).await.expect("a good hello");
    let body: Vec<u8> = (0..5 << 20).map(|at| (at % 251) as u8).collect();
    let announce = |payload| json!({"type": "any", "payload": payload});
    session.sender.frame(announce, Tensors::from(body.clone())).expect("an open link");
    let head = soon("a head", browser.next()).await.expect("a message").expect("a good message");
    assert!(head.is_binary() && head.len() < 200);
    let mut found = Vec::new();
    while found.len() < body.len() {
        found.extend(soon("a part", browser.next()).await.expect("a part").expect("a good part").into_data());
    }
    assert!(found == body, "{} bytes", found.len());
    browser.send(Message::text(r#"{"type":"done"}"#)).await.expect("an open link");
    let said = soon("a word", session.receiver.receive::<Said>()).await.expect("an open link");
    assert_eq!(said.message.0["type"], "done");

    // Nobody is waited for who says nothing: neither before TLS nor within, neither before the hello nor after.
    let _silent = TcpStream::connect(&place).await.expect("a listener");
    let _encrypted = encrypted(&place, &roots).await;
    let _unknown = link(&place, &origin, &roots).await.expect("a link");
    let before = Instant::now();
    let stopping = async {
        tasks.stop().await;
        before.elapsed()
    };
    let closed = async {
        let last = soon("the end", browser.next()).await;
        assert!(matches!(last, None | Some(Ok(Message::Close(_)) | Err(_))), "{last:?}");
    };
    drop(session);
    let (took, ()) = tokio::join!(stopping, closed);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Resolves with what the listener said and how long it took when it closes the connection.
async fn closed(mut stream: impl AsyncReadExt + Unpin) -> (Vec<u8>, Duration) {
    let (before, mut said) = (Instant::now(), Vec::new());
    // A connection that is cut says nothing more than that.
    let _ = stream.read_to_end(&mut said).await;
    (said, before.elapsed())
}

#[tokio::test]
async fn who_asks_for_nothing_keeps_no_place() {
    let Far { tasks, roots, bridge: _bridge, place, _folder, .. } = Far::open().await;
    let saying = async |words: &str| {
        let mut stream = encrypted(&place, &roots).await;
        stream.write_all(words.as_bytes()).await.expect("an open connection");
        stream
    };
    let request = format!("GET /harness/none HTTP/1.1\r\nhost: {place}\r\n\r\n");
    let half = &request[..request.len() - 2];
    let (plain, silent) = (TcpStream::connect(&place).await.expect("a listener"), saying("").await);
    let (half, asking) = (saying(half).await, saying(&request).await);
    let limits = Duration::from_secs(9)..Duration::from_secs(20);
    let (plain, silent, half, asking) = tokio::join!(
        closed(plain),
        closed(silent),
        closed(half),
        // Between two requests a browser may be silent for longer.
        timeout(Duration::from_secs(15), closed(asking)),
    );
    for (what, (said, took)) in [("nothing", plain), ("TLS alone", silent), ("half a request", half)] {
        assert!(said.is_empty() && limits.contains(&took), "{what}: {} bytes after {took:?}", said.len());
    }
    assert!(asking.is_err(), "a connection that has asked was closed: {asking:?}");
    soon("stopping", tasks.stop()).await;
}
