//! The daemon's own TLS: https and wss for clients elsewhere, loopback for the home's owner.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::{client::IntoClientRequest, http::HeaderValue};
use weft::bridge::Certificate;

use crate::{
    access::required,
    support::{TestDaemon, graphs, home, soon},
};

/// A daemon with a certificate of its own, and who trusts that.
async fn encrypted(per_address: Option<usize>) -> (TestDaemon, ClientConfig) {
    let home = home();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let files = Certificate { chain: home.path().join("chain.pem"), key: home.path().join("key.pem") };
    std::fs::write(&files.chain, made.cert.pem()).expect("room for a file");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("room for a file");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let daemon = TestDaemon::start_in(home, &[], |config| {
        required(config);
        config.certificate = Some(files);
        config.connections.most_per_address = per_address;
    });
    let daemon = daemon.await.expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    let trusting = ClientConfig::builder().with_root_certificates(Arc::new(roots)).with_no_client_auth();
    (daemon, trusting)
}

fn place(daemon: &TestDaemon) -> String {
    daemon.public_url().trim_start_matches("https://").to_owned()
}

#[tokio::test]
async fn clients_elsewhere_are_served_over_tls_by_its_name() {
    let (daemon, trusting) = encrypted(None).await;
    let (url, place) = (daemon.public_url(), place(&daemon));
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let key = daemon.key("far", json!({})).await;
    let bearer = format!("Bearer {key}");
    let connector = HttpsConnectorBuilder::new().with_tls_config(trusting.clone());
    let client: Http<_, Body> =
        Http::builder(TokioExecutor::new()).build(connector.https_only().enable_http1().build());
    let foreign = format!("http://{place}");
    let local = daemon.url.trim_start_matches("http://").to_owned();
    let cases: [(&[(&str, &str)], u16); 6] = [
        (&[], 401),
        (&[("authorization", &bearer)], 200),
        (&[("authorization", &bearer), ("origin", &url)], 200),
        (&[("authorization", &bearer), ("origin", &foreign)], 403),
        (&[("authorization", &bearer), ("host", "weft.example")], 403),
        (&[("authorization", &bearer), ("host", &local)], 200),
    ];
    for (headers, status) in cases {
        let request = Request::get(format!("{url}/v2"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = client.request(request.body(Body::empty()).expect("a good request"));
        assert_eq!(soon("an answer", answer).await.expect("an answer").status(), status, "{headers:?}");
    }
    let begin = Request::post(format!("{url}/api/v1/session")).header("authorization", &bearer);
    let begun = soon("an answer", client.request(begin.body(Body::empty()).expect("a good request"))).await;
    let begun = begun.expect("an answer");
    let cookie = begun.headers()["set-cookie"].to_str().expect("text");
    assert!(cookie.contains("; Secure"), "{cookie}");

    let mut request = format!("wss://{place}/v2/ws").into_client_request().expect("a good request");
    request.headers_mut().insert("authorization", HeaderValue::from_str(&bearer).expect("a value"));
    let plain = TcpStream::connect(&place).await.expect("a connection");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let tls = TlsConnector::from(Arc::new(trusting)).connect(name, plain).await.expect("TLS");
    let (mut socket, _) = Box::pin(tokio_tungstenite::client_async(request, tls)).await.expect("a socket");
    let ask = crate::support::infer_x("r", &json!({})).to_string();
    let said = async {
        use futures_util::{SinkExt as _, StreamExt as _};
        socket.send(tokio_tungstenite::tungstenite::Message::text(ask)).await.expect("it reads");
        socket.next().await.expect("an answer").expect("a good message")
    };
    let said = soon("an answer", said).await;
    assert!(said.to_text().expect("a text").contains("\"type\":\"result\""), "{said}");
    // Whoever speaks plain HTTP there gets nothing.
    let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert!(plain.get(format!("http://{place}/v2")).send().await.is_err());
    daemon.stop().await;
}

/// The limit is on those who come from outside, whatever address the bytes are passed on from.
#[tokio::test]
async fn connections_over_tls_are_counted_by_where_they_come_from() {
    let (daemon, _) = encrypted(Some(3)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(place(&daemon)).await.expect("a connection"));
    }
    let mut refused = TcpStream::connect(place(&daemon)).await.expect("a connection");
    let mut said = Vec::new();
    let _ = soon("the end", refused.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("3 connections from this address"), "{said}");
    for _ in 0..5 {
        let near = daemon.http.get(format!("{}/v2", daemon.url)).send().await.expect("an answer");
        assert_eq!(near.status(), 200);
    }
    daemon.stop().await;
}

/// What `weft` says, and whether it was content.
async fn weft(daemon: &TestDaemon, arguments: &[&str]) -> (bool, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).arg("--json").env("WEFT_HOME", daemon.home.path().join("another"));
    let output = soon("the command's end", command.output()).await.expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_command_line_reaches_a_daemon_whose_authority_it_is_told() {
    let (daemon, _) = encrypted(None).await;
    let (url, key) = (daemon.public_url(), daemon.key("far", json!({"scopes": "infer read admin"})).await);
    let file = |name: &str| daemon.home.path().join(name).display().to_string();
    let (chain, secret) = (file("chain.pem"), file("key.pem"));
    let there = ["--url", url.as_str(), "--ca", chain.as_str(), "--key", key.as_str()];
    let infer = ["infer", "neg", "--input", "x=[[1, 2, 3, 4]]"];
    let cases: [(&[&str], &str); 6] = [
        (&infer, "\"data\":[-1.0,-2.0,-3.0,-4.0]"),
        (&["runs"], "\"model\":\"neg\""),
        (&["models", "list"], "\"name\":\"neg\""),
        (&["models", "show", "neg"], "\"kind\":\"other\""),
        (&["keys", "list"], "\"name\":\"far\""),
        (&["top"], "\"lane\":\"native/ort-cpu\""),
    ];
    for (command, says) in cases {
        let (content, stdout, stderr) = weft(&daemon, &[command, &there].concat()).await;
        let stdout = stdout.replace([' ', '\n'], "");
        assert!(content && stdout.contains(says), "{command:?}: {stdout} {stderr}");
    }
    let place = url.trim_start_matches("https://");
    let plain = format!("http://{place}");
    let wrong = [
        (vec!["runs", "--url", &url], "UnknownIssuer"),
        (vec!["runs", "--url", &url, "--ca", &secret], "has no certificate in PEM form"),
        (vec!["runs", "--url", &url, "--ca", "/none.pem"], "/none.pem"),
        (vec!["runs", "--url", &plain], "no daemon answers"),
        (vec!["runs", "--url", &url, "--ca", &chain], "unauthorized"),
        (vec!["runs", "--ca", &chain], "--url"),
    ];
    for (arguments, says) in wrong {
        let (content, stdout, stderr) = weft(&daemon, &arguments).await;
        assert!(!content && stdout.is_empty() && stderr.contains(says), "{arguments:?}: {stdout} {stderr}");
    }
    daemon.stop().await;
}
