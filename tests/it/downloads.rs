//! Downloads from a server that misbehaves on purpose.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use weft::{
    config::Config,
    domain::Digest,
    models::source::{Backoff, Settings, Token},
};

use crate::support::{Client, Heard, Origin, Said, TestDaemon, blobs, graphs, home, soon};

const RETRIES: u32 = 3;

/// A daemon that loses no time between tries.
pub(crate) async fn daemon(change: impl FnOnce(&mut Settings)) -> TestDaemon {
    daemon_in(home(), change).await
}

pub(crate) async fn daemon_in(home: Arc<TempDir>, change: impl FnOnce(&mut Settings)) -> TestDaemon {
    let change = |config: &mut Config| {
        config.sources.backoff = Backoff { retries: RETRIES, first: std::time::Duration::from_millis(1) };
        config.sources.tokens.clear();
        change(&mut config.sources);
    };
    TestDaemon::start_in(home, &[], change).await.expect("a good start")
}

/// Orders a download, and says how it ended.
pub(crate) async fn download(daemon: &TestDaemon, source: &str) -> Value {
    ended(daemon, &json!({"source": source})).await
}

pub(crate) async fn ended(daemon: &TestDaemon, order: &Value) -> Value {
    let (status, ordered) = daemon.post("/api/v1/downloads", order.to_string()).await;
    assert_eq!(status, 202, "{ordered}");
    let id = ordered["id"].as_str().expect("an id");
    daemon.get(&format!("/api/v1/downloads/{id}?wait=40s")).await
}

#[track_caller]
pub(crate) fn is_done(download: &Value, file: &[u8]) {
    assert_eq!((&download["state"], &download["error"]), (&json!("done"), &Value::Null), "{download}");
    assert_eq!(download["digest"], digest(file), "{download}");
}

#[track_caller]
pub(crate) fn failed(download: &Value, code: &str, retry: &str, says: &str) {
    let error = &download["error"];
    assert_eq!((&download["state"], &error["code"]), (&json!("failed"), &json!(code)), "{download}");
    assert_eq!(error["retry"], retry, "{download}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains(says), "{says:?} is not in {message:?}");
}

pub(crate) fn digest(file: &[u8]) -> String {
    Digest::new(Sha256::digest(file).into()).to_string()
}

/// The same in three parts; the end of the second is where the tests cut.
fn file() -> Vec<u8> {
    (0..30_000u32).flat_map(u32::to_le_bytes).collect()
}

const CUT: usize = 50_000;

#[tokio::test]
async fn what_may_pass_is_tried_again_and_goes_on_where_it_broke_off() {
    let whole = || Said::file(&file(), Some("\"v\""));
    let cases: [(&str, Said, bool); 9] = [
        ("a short read", whole().short(CUT), true),
        ("a reset in the body", whole().short(CUT).reset(), true),
        ("a chunked body that ends nowhere", chunked().short(CUT), true),
        ("a reset before the head", Said::default().reset(), false),
        ("nothing at all", Said::default(), false),
        ("503", Said::status("503 Service Unavailable"), false),
        ("500", Said::status("500 Internal Server Error"), false),
        ("429 with a time", Said::status("429 Too Many Requests\nRetry-After: 0"), false),
        ("408", Said::status("408 Request Timeout"), false),
    ];
    for (case, first, part) in cases {
        let reset = case.contains("reset");
        let origin = Origin::start(move |heard, before| match before {
            0 => first.clone(),
            _ => Said::good(heard, &file(), "\"v\""),
        });
        let origin = origin.await;
        let daemon = daemon(|_| {}).await;
        let done = download(&daemon, &format!("{}/m.onnx", origin.url)).await;
        is_done(&done, &file());
        assert_eq!((&done["revision"], &done["bytes"]), (&json!("\"v\""), &json!(file().len())), "{case}");
        let heard = origin.heard();
        assert_eq!(heard.len(), 2, "{case}: {heard:?}");
        // A reset takes away what the system had not handed over yet.
        if part && !reset {
            let from = heard[1].from().unwrap_or_else(|| panic!("{case}: {heard:?}"));
            assert!(from > 0 && from < file().len(), "{case}: {from}");
            assert_eq!(heard[1].header("if-range"), Some("\"v\""), "{case}");
        }
        daemon.stop().await;
    }
}

fn chunked() -> Said {
    let body = file();
    let mut framed = format!("{:x}\r\n", body.len()).into_bytes();
    framed.extend_from_slice(&body);
    framed.extend_from_slice(b"\r\n0\r\n\r\n");
    Said::raw("200 OK\nTransfer-Encoding: chunked\nETag: \"v\"", &framed)
}

#[tokio::test]
async fn what_may_pass_is_given_up_after_so_many_tries_and_goes_on_when_asked_again() {
    let better = Arc::new(Mutex::new(false));
    let is_better = better.clone();
    let origin = Origin::start(move |heard, before| match (before, *is_better.lock().unwrap()) {
        (0, _) => Said::file(&file(), Some("\"v\"")).short(CUT),
        (_, false) => Said::status("502 Bad Gateway"),
        (_, true) => Said::good(heard, &file(), "\"v\""),
    });
    let origin = origin.await;
    let source = format!("{}/m.onnx", origin.url);
    let first = daemon(|_| {}).await;
    failed(&download(&first, &source).await, "source_unavailable", "same", "answered 502");
    assert_eq!(origin.count(), 1 + RETRIES as usize);
    // Also another daemon's life later.
    let home = first.stop().await;
    *better.lock().unwrap() = true;
    let second = daemon_in(home, |_| {}).await;
    is_done(&download(&second, &source).await, &file());
    let last = origin.heard().pop().expect("requests");
    assert_eq!((last.from(), last.header("if-range")), (Some(file().len() - CUT), Some("\"v\"")));
}

#[tokio::test]
async fn a_file_that_changes_on_the_way_is_never_spliced() {
    type Later = fn(&Heard, &[u8]) -> Said;
    let cases: [(&str, Option<&str>, Later); 7] = [
        ("a good server", Some("\"a\""), |heard, new| Said::good(heard, new, "\"b\"")),
        ("one that ignores ranges", Some("\"a\""), |_, new| Said::file(new, Some("\"b\""))),
        ("one that ignores If-Range", Some("\"a\""), |heard, new| match heard.from() {
            Some(from) => Said::rest(new, from, "\"b\""),
            None => Said::file(new, Some("\"b\"")),
        }),
        ("one that gives another part", Some("\"a\""), |heard, new| match heard.from() {
            Some(_) => Said::rest(new, 7, "\"a\""),
            None => Said::file(new, Some("\"b\"")),
        }),
        ("one that has no such part", Some("\"a\""), |heard, new| match heard.from() {
            Some(_) => Said::status("416 Range Not Satisfiable"),
            None => Said::file(new, Some("\"b\"")),
        }),
        ("one with a weak tag", Some("W/\"a\""), |heard, new| match heard.from() {
            Some(from) => Said::rest(new, from, "W/\"a\""),
            None => Said::file(new, Some("W/\"a\"")),
        }),
        ("one without tags", None, |heard, new| match heard.from() {
            Some(from) => Said::rest(new, from, "\"a\""),
            None => Said::file(new, None),
        }),
    ];
    for (case, etag, later) in cases {
        let new: Vec<u8> = file().into_iter().rev().collect();
        let changed = new.clone();
        let origin = Origin::start(move |heard, before| match before {
            0 => Said::file(&file(), etag).short(CUT),
            _ => later(heard, &changed),
        });
        let origin = origin.await;
        let daemon = daemon(|_| {}).await;
        let done = download(&daemon, &format!("{}/m.onnx", origin.url)).await;
        assert_eq!(done["digest"], digest(&new), "{case}: {done} {:?}", origin.heard());
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_will_not_pass_is_asked_for_once() {
    let limit = 100_000;
    let long = vec![b'x'; 200_000];
    let endless = Said::raw("200 OK", &file());
    let mut framed = format!("{:x}\r\n", long.len()).into_bytes();
    framed.extend_from_slice(&long);
    let cases: [(&str, Said, &str, &str); 13] = [
        ("404", Said::status("404 Not Found"), "invalid_request", "is not there (404)"),
        ("410", Said::status("410 Gone"), "invalid_request", "is not there"),
        ("401", Said::status("401 Unauthorized"), "invalid_request", "refuses us (401): a token"),
        ("403", Said::status("403 Forbidden"), "invalid_request", "refuses us (403)"),
        ("400", Said::status("400 Bad Request"), "source_unavailable", "answered 400"),
        ("206", Said::rest(&file(), 9, "\"v\""), "source_unavailable", "answered 206"),
        (
            "a promise of too much",
            Said::raw("200 OK\nContent-Length: 100001", b""),
            "too_large",
            "has 100001 bytes, over the limit of 100000",
        ),
        (
            "too much",
            Said::raw("200 OK\nTransfer-Encoding: chunked", &framed),
            "too_large",
            "more bytes than it said, over the limit of 100000",
        ),
        ("no length", endless, "source_unavailable", "neither how long it is nor what it must be"),
        (
            "an encoding",
            Said::raw("200 OK\nContent-Encoding: gzip\nContent-Length: 1", b"x"),
            "source_unavailable",
            "encoded as \"gzip\"",
        ),
        (
            "a long wait",
            Said::status("429 Too Many Requests\nRetry-After: 3600"),
            "source_unavailable",
            "wants to be left alone for 3600 s",
        ),
        ("another scheme", Said::leads("file:///etc/passwd"), "source_unavailable", "it leads to file:"),
        ("nowhere", Said::leads("http://["), "source_unavailable", "it leads nowhere"),
    ];
    for (case, said, code, says) in cases {
        let origin = Origin::start(move |_, _| said.clone()).await;
        let daemon = daemon(|settings| settings.download_max = limit).await;
        let download = download(&daemon, &format!("{}/m.onnx", origin.url)).await;
        let retry = if case == "a long wait" { "same" } else { "never" };
        failed(&download, code, retry, says);
        assert_eq!(origin.count(), 1, "{case}");
        assert_eq!(blobs(&daemon.home.path().join("models")).len(), 0, "{case}");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it_and_a_download_is_cancelled_meanwhile() {
    let origin = Origin::start(|_, _| Said::status("429 Too Many Requests\nRetry-After: 100")).await;
    let daemon = daemon(|_| {}).await;
    let mut client = daemon.client().await;
    client.send(&json!({"type": "subscribe", "topics": ["models"]})).await;
    client.caught_up().await;
    let order = json!({"source": format!("{}/m.onnx?secret=1", origin.url)});
    let (_, ordered) = daemon.post("/api/v1/downloads", order.to_string()).await;
    let path = format!("/api/v1/downloads/{}", ordered["id"].as_str().expect("an id"));
    let event = waiting(&mut client).await;
    assert!(event["retry_in_ms"].as_u64().is_some_and(|wait| wait >= 100_000), "{event}");
    assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("answered 429")), "{event}");
    // A second order of it joins the first.
    let (_, joined) = daemon.post("/api/v1/downloads", order.to_string()).await;
    assert_eq!(joined["id"], ordered["id"]);
    let cancelled = soon("an answer", daemon.http.delete(format!("{}{path}", daemon.url)).send()).await;
    let cancelled: Value = cancelled.expect("an answer").json().await.expect("JSON");
    assert_eq!(
        (&cancelled["state"], &cancelled["error"]["code"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    let listed = daemon.get("/api/v1/downloads").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    assert!(!listed.to_string().contains("secret"), "{listed}");
    assert_eq!(origin.count(), 1);
    let (status, refused) =
        daemon.post("/api/v1/models", json!({"name": "m", "download": ordered["id"]}).to_string()).await;
    assert_eq!(status, 422, "{refused}");
}

async fn waiting(client: &mut Client) -> Value {
    loop {
        let event = client.event().await.header;
        if event["event"]["download"]["state"] == "waiting" {
            return event["event"]["download"].clone();
        }
    }
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_tokens_stay_where_they_belong() {
    let back = Arc::new(Mutex::new(String::new()));
    let home_url = back.clone();
    let elsewhere = Origin::start(move |heard, _| match heard.path.as_str() {
        "/file" => Said::file(&file(), None),
        _ => Said::leads(&format!("{}/end", home_url.lock().unwrap())),
    });
    let elsewhere = elsewhere.await;
    let (far, away) = (format!("{}/file", elsewhere.url), format!("{}/back", elsewhere.url));
    let origin = Origin::start(move |heard, _| match heard.path.as_str() {
        "/far" => Said::leads(&far),
        "/away" => Said::leads(&away),
        "/near" => Said::leads("end"),
        "/end" => Said::file(&file(), None),
        loops => Said::leads(loops),
    });
    let origin = origin.await;
    back.lock().unwrap().clone_from(&origin.url);
    let daemon = daemon(|settings| {
        let token = Token::Text("hf_secret".to_owned());
        settings.tokens.insert(origin.url.clone(), token);
    });
    let daemon = daemon.await;
    for path in ["near", "far", "away"] {
        is_done(&download(&daemon, &format!("{}/{path}", origin.url)).await, &file());
    }
    let shown = |origin: &Origin| -> Vec<_> {
        let heard = origin.heard();
        heard.into_iter().map(|heard| (heard.path.clone(), heard.header("authorization").is_some())).collect()
    };
    let at = |path: &str, shown| (path.to_owned(), shown);
    let own = [at("/near", true), at("/end", true), at("/far", true), at("/away", true), at("/end", false)];
    assert_eq!(shown(&origin), own, "also not when the way leads back");
    assert_eq!(shown(&elsewhere), [at("/file", false), at("/back", false)]);
    let bearer = origin.heard()[0].header("authorization").map(str::to_owned);
    assert_eq!(bearer.as_deref(), Some("Bearer hf_secret"));
    let looped = download(&daemon, &format!("{}/loop", origin.url)).await;
    failed(&looped, "source_unavailable", "never", "redirected more than 10 times");
    assert_eq!(origin.count(), 5 + 11);
}

#[tokio::test]
async fn what_is_encrypted_never_leads_to_what_is_not() {
    let plain = Origin::start(|_, _| Said::file(&file(), None)).await;
    let to = format!("{}/file", plain.url);
    let origin = Origin::start_tls(move |heard, _| match heard.path.as_str() {
        "/plain" => Said::leads(&to),
        "/encrypted" => Said::leads("/file"),
        _ => Said::file(&file(), None),
    });
    let origin = origin.await;
    let home = home();
    let file_of = home.path().join("authority.pem");
    std::fs::write(&file_of, origin.certificate.as_deref().expect("a certificate")).expect("room for a file");
    let trusting = daemon_in(home, |settings| settings.certificates = Some(file_of)).await;
    is_done(&download(&trusting, &format!("{}/encrypted", origin.url)).await, &file());
    let refused = download(&trusting, &format!("{}/plain", origin.url)).await;
    failed(&refused, "source_unavailable", "never", "which is not encrypted");
    assert_eq!(plain.count(), 0);
    // Whoever does not know the authority does not even ask.
    let before = origin.count();
    let strict = daemon(|_| {}).await;
    let refused = download(&strict, &format!("{}/file", origin.url)).await;
    failed(&refused, "source_unavailable", "never", "is not trusted: invalid peer certificate");
    assert_eq!(origin.count(), before);
}

#[tokio::test]
async fn sources_that_are_none_are_refused_before_anything_is_asked() {
    let daemon = daemon(|_| {}).await;
    let cases = [
        ("/etc/passwd", "a path is read by `weft models add`"),
        ("https://user:pass@example.org/m.onnx", "passwords do not belong in an address"),
        ("hf:owner", "hf:OWNER/NAME"),
        ("hf:owner/name@main/../x.onnx", "is not plain"),
        ("pypi:magika", "pypi:NAME==VERSION"),
        ("npm:magika", "npm:NAME@VERSION"),
        ("weft:http://127.0.0.1:1/neg@1", "its digest, 64 hex digits"),
        ("", "1 to 2048 printable characters"),
    ];
    for (source, says) in cases {
        let (status, said) = daemon.post("/api/v1/downloads", json!({"source": source}).to_string()).await;
        assert_eq!((status, &said["code"]), (422, &json!("invalid_request")), "{source}: {said}");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{source}: {said}");
        assert!(!said.to_string().contains("user:pass"), "{said}");
    }
}

#[tokio::test]
async fn offline_takes_only_what_is_here() {
    let origin = Origin::start(|heard, _| Said::good(heard, &graphs::neg(), "\"v\"")).await;
    let source = format!("{}/neg.onnx", origin.url);
    let online = daemon(|_| {}).await;
    let done = download(&online, &source).await;
    let add = json!({"name": "neg", "download": done["id"]}).to_string();
    let (status, model) = online.post("/api/v1/models", add).await;
    assert_eq!(status, 200, "{model}");
    assert_eq!((&model["source"], &model["revision"]), (&json!(source), &json!("\"v\"")));
    // By the order, and by the configuration of a later daemon.
    let order = json!({"source": source, "offline": true});
    is_done(&ended(&online, &order).await, &graphs::neg());
    let offline = daemon_in(online.stop().await, |settings| settings.offline = true).await;
    is_done(&download(&offline, &source).await, &graphs::neg());
    let order = json!({"source": format!("{}/other.onnx", origin.url)});
    let (status, said) = offline.post("/api/v1/downloads", order.to_string()).await;
    assert_eq!((status, &said["code"]), (502, &json!("source_unavailable")), "{said}");
    assert!(said["detail"].as_str().is_some_and(|detail| detail.starts_with("offline:")), "{said}");
    let shown = offline.get("/api/v1/models/neg").await;
    assert_eq!((&shown["source"], &shown["revision"]), (&json!(source), &json!("\"v\"")), "{shown}");
    assert_eq!(origin.count(), 1);
}
