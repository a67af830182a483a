//! A daemon that is told to end: what was accepted is answered, nothing more is taken, a second word ends it at once.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    cli::{self, Served},
    support::{Client, Conduct, Deed, FakeBrowser, TestDaemon, graphs, home, infer_x, soon},
};

/// Far above what an end at once takes, far below the time to drain.
const AT_ONCE: Duration = Duration::from_secs(20);

fn pinned() -> Value {
    json!({"backend": ["wasm"]})
}

#[tokio::test]
async fn what_was_accepted_is_answered_and_nothing_more_is_taken() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.verify("neg", &pinned()).await;
    let (ask, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(ask));
    let mut client = daemon.client().await;
    // Two in the lane, one queued behind them.
    for id in ["a", "b", "c"] {
        client.send(&infer_x(id, &pinned())).await;
    }
    client.caught_up().await;
    let work = async {
        let first = soon("a step", asked.recv()).await.expect("the browser lives");
        while daemon.get("/v2/health/ready").await["stopping"] != true {}
        client.ask(&infer_x("late", &pinned())).await.refused("overloaded", "same", "the daemon is stopping");
        let (status, said) = daemon.post("/api/v1/models/neg/verify", "{}").await;
        assert_eq!((status, &said["code"]), (503, &json!("overloaded")), "{said}");
        assert_eq!(daemon.get("/v2/health/ready").await["ready"], false);
        first.answer(Deed::Compute);
        for _ in 0..2 {
            soon("a step", asked.recv()).await.expect("the browser lives").answer(Deed::Compute);
        }
        for id in ["a", "b", "c"] {
            client.reply(id).await.negated();
        }
    };
    tokio::join!(daemon.drain(), work);
    daemon.stop().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_told_so() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon =
        TestDaemon::start_in(home(), &[&browser], |config| config.drain = Duration::from_millis(50)).await;
    let daemon = daemon.expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon.verify("neg", &pinned()).await;
    browser.behaves(Conduct::Always(Deed::Never));
    let mut client = daemon.client().await;
    for id in ["a", "b", "queued"] {
        client.send(&infer_x(id, &pinned())).await;
    }
    client.caught_up().await;
    daemon.drain().await;
    let (_, said) = tokio::join!(daemon.stop(), client.reply("queued"));
    said.refused("overloaded", "same", "the daemon is stopping");
}

/// An upload that lacks its last bytes: a request that is under way for as long as the test likes.
struct Upload {
    socket: TcpStream,
}

impl Upload {
    fn begin(served: &Served) -> Self {
        let host = served.line.trim().trim_start_matches("listening on http://");
        let mut socket = TcpStream::connect(host).expect("the daemon listens");
        socket.set_read_timeout(Some(AT_ONCE)).expect("a timeout");
        let head = format!("POST /api/v1/blobs HTTP/1.1\r\nHost: {host}\r\nContent-Length: 8\r\n");
        // Only once the daemon reads the body does it answer that it does.
        socket
            .write_all(format!("{head}Expect: 100-continue\r\nConnection: close\r\n\r\n").as_bytes())
            .expect("it reads");
        let mut word = [0; 25];
        socket.read_exact(&mut word).expect("it answers");
        assert!(word.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&word));
        socket.write_all(b"1234").expect("it reads");
        Self { socket }
    }

    fn finish(mut self) -> String {
        self.socket.write_all(b"5678").expect("it reads");
        let mut answer = String::new();
        self.socket.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

/// Waits until the daemon says that it is stopping.
async fn stopping(url: &str) {
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let said = async || -> Value {
        let answer = http.get(format!("{url}/v2/health/ready")).send().await.expect("it answers");
        answer.json().await.expect("JSON")
    };
    soon("stopping", async { while said().await["stopping"] != true {} }).await;
}

#[tokio::test]
async fn the_first_signal_drains() {
    let home = cli::home();
    let mut served = cli::serve(home.path());
    let url = served.line.trim().trim_start_matches("listening on ").to_owned();
    let upload = Upload::begin(&served);
    served.signal(Signal::SIGTERM);
    stopping(&url).await;
    assert_eq!(served.child.try_wait().expect("it can be asked"), None, "a request is under way");
    let mut late = Client::connect(&url).await;
    late.send(&json!({"type": "cancel", "id": "x"})).await;
    late.next().await.refused("invalid_request", "never", "x");
    let answer = upload.finish();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(r#""bytes":8"#), "{answer}");
    assert_eq!(served.wait(), (Some(0), String::new()));
    cli::nothing_left(home.path());
}

#[tokio::test]
async fn the_second_signal_ends_at_once() {
    for (second, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let home = cli::home();
        std::fs::write(home.path().join("weft.toml"), "browsers = { }\nlimits = { drain = \"1h\" }\n")
            .expect("room for a file");
        let mut served = cli::serve(home.path());
        let url = served.line.trim().trim_start_matches("listening on ").to_owned();
        let _upload = Upload::begin(&served);
        served.signal(Signal::SIGINT);
        stopping(&url).await;
        let told = Instant::now();
        served.signal(second);
        assert_eq!(served.wait(), (Some(code), String::new()), "{second}");
        assert!(told.elapsed() < AT_ONCE, "{second}: {:?}", told.elapsed());
        cli::nothing_left(home.path());
    }
}
