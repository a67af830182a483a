//! What is asked for twice under one `Idempotency-Key` happens once.

use serde_json::{Value, json};

use crate::support::{TestDaemon, graphs, soon};

struct Answer {
    status: u16,
    replayed: bool,
    body: Value,
}

async fn post(daemon: &TestDaemon, path: &str, key: &str, body: &Value) -> Answer {
    let request = daemon.http.post(format!("{}{path}", daemon.url)).header("idempotency-key", key);
    let answer = soon("an answer", request.body(body.to_string()).send()).await.expect("the daemon answers");
    let (status, replayed) = (answer.status().as_u16(), answer.headers().contains_key("idempotent-replayed"));
    let text = answer.text().await.expect("a whole answer");
    Answer { status, replayed, body: serde_json::from_str(&text).expect("JSON") }
}

#[tokio::test]
async fn a_change_under_a_key_happens_once() {
    let daemon = TestDaemon::start(&[]).await;
    let (_, upload) = daemon.post("/api/v1/blobs", graphs::neg()).await;
    let model = |name: &str| json!({"name": name, "digest": upload["digest"], "source": "a test"});
    let first = post(&daemon, "/api/v1/models", "k-1", &model("once")).await;
    assert_eq!((first.status, first.replayed), (200, false), "{}", first.body);

    // Forgotten in between, it would come back if the change happened again.
    let forget = daemon.http.delete(format!("{}/api/v1/models/once", daemon.url)).send();
    assert!(soon("an answer", forget).await.expect("the daemon answers").status().is_success());
    let again = post(&daemon, "/api/v1/models", "\"k-1\"", &model("once")).await;
    assert_eq!((again.status, again.replayed), (200, true), "{}", again.body);
    assert_eq!(again.body, first.body);
    let models = daemon.get("/api/v1/models").await;
    assert!(models["items"].as_array().expect("a list").iter().all(|m| m["name"] != "once"), "{models}");

    let other = post(&daemon, "/api/v1/models", "k-1", &model("other")).await;
    assert_eq!((other.status, &other.body["code"]), (422, &json!("invalid_request")), "{}", other.body);
    let detail = other.body["detail"].as_str().expect("a detail");
    assert!(detail.contains("used for another request"), "{detail}");

    // A refusal that asking again cannot change is an answer as well; its form is the route's.
    for replayed in [false, true] {
        let refused = post(&daemon, "/api/v1/models/none/verify", "k-2", &json!({})).await;
        assert_eq!((refused.status, refused.replayed), (404, replayed), "{}", refused.body);
        assert_eq!(refused.body["code"], "unknown_model", "{}", refused.body);
    }
    let long = "k".repeat(256);
    let refused = post(&daemon, "/api/v1/models", &long, &model("long")).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    daemon.stop().await;
}

/// A client that goes away and asks again finds its request under way, then its answer.
#[tokio::test]
async fn a_request_with_a_key_outlives_its_client() {
    let browser = crate::support::FakeBrowser::new("fake", &["wasm"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let order = json!({"browser": "fake", "ttl": "60s", "wait": "60s"});
    let (_, held) = daemon.post("/api/v1/leases", order.to_string()).await;

    // The only instance is held, so this one waits for its turn.
    let waiting = post(&daemon, "/api/v1/leases", "mine", &order);
    let gone = tokio::time::timeout(std::time::Duration::from_millis(300), waiting).await;
    assert!(gone.is_err(), "a lease was given twice");
    let under_way = post(&daemon, "/api/v1/leases", "mine", &order).await;
    assert_eq!((under_way.status, &under_way.body["retry"]), (409, &json!("same")), "{}", under_way.body);

    let lease = held["lease"].as_str().expect("a lease");
    let release = daemon.http.delete(format!("{}/api/v1/leases/{lease}", daemon.url)).send();
    assert!(soon("an answer", release).await.expect("the daemon answers").status().is_success());
    let answer = soon("the lease of the client that left", async {
        loop {
            let answer = post(&daemon, "/api/v1/leases", "mine", &order).await;
            if answer.status != 409 {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((answer.status, answer.replayed), (200, true), "{}", answer.body);
    let leases = daemon.get("/api/v1/leases").await;
    assert_eq!(leases["items"][0]["lease"], answer.body["lease"], "{leases}");
    daemon.stop().await;
}
