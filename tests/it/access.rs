//! Who may do what on a daemon that wants to know who asks.

use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft::config::Config;

use crate::support::{Client, Conduct, Deed, FakeBrowser, TestDaemon, graphs, home, infer_x, soon};

pub(crate) fn required(config: &mut Config) {
    config.access.required = true;
}

pub(crate) async fn guarded(browsers: &[&FakeBrowser]) -> TestDaemon {
    let daemon = TestDaemon::start_in(home(), browsers, required).await.expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon
}

/// What a client without the owner's key gets.
pub(crate) async fn ask(
    daemon: &TestDaemon,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.request(method.parse().expect("a method"), format!("{}{path}", daemon.url));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    soon("an answer", request.send()).await.expect("the daemon answers")
}

async fn status(daemon: &TestDaemon, method: &str, path: &str, key: &str) -> u16 {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str())];
    ask(daemon, method, path, if key.is_empty() { &[] } else { &headers }).await.status().as_u16()
}

#[tokio::test]
async fn a_key_opens_what_its_scopes_say() {
    let daemon = guarded(&[]).await;
    let infer = daemon.key("asks", json!({"scopes": "infer"})).await;
    let read = daemon.key("looks", json!({"scopes": "read"})).await;
    let admin = daemon.key("rules", json!({"scopes": "admin"})).await;
    let unknown = format!("weft_{}_{}", "0".repeat(12), "0".repeat(64));
    // For nobody, a key that is none, and those of infer, read and admin.
    let cases = [
        ("GET", "/v2/health/live", [200, 200, 200, 200, 200]),
        ("GET", "/v2/health/ready", [401, 401, 200, 200, 200]),
        ("GET", "/v2", [401, 401, 200, 200, 200]),
        ("HEAD", "/v2", [401, 401, 200, 200, 200]),
        ("GET", "/v2/ws", [401, 401, 426, 426, 426]),
        ("GET", "/metrics", [401, 401, 403, 200, 200]),
        ("GET", "/v2/models/neg", [401, 401, 200, 200, 200]),
        ("POST", "/v2/models/neg/infer", [401, 401, 400, 403, 400]),
        ("GET", "/v2/models/stats", [401, 401, 403, 200, 200]),
        ("POST", "/v2/repository/models/none/unload", [401, 401, 403, 403, 404]),
        ("POST", "/api/v1/reload", [401, 401, 403, 403, 422]),
        ("GET", "/api/v1/models", [401, 401, 200, 200, 200]),
        ("GET", "/api/v1/models/neg", [401, 401, 200, 200, 200]),
        ("GET", "/api/v1/runs", [401, 401, 200, 200, 200]),
        ("GET", "/api/v1/instances", [401, 401, 403, 200, 200]),
        ("GET", "/api/v1/lanes", [401, 401, 403, 200, 200]),
        ("GET", "/api/v1/leases", [401, 401, 403, 403, 200]),
        ("GET", "/api/v1/keys", [401, 401, 403, 403, 200]),
        ("POST", "/api/v1/keys", [401, 401, 403, 403, 422]),
        ("DELETE", "/api/v1/keys/none", [401, 401, 403, 403, 404]),
        ("POST", "/api/v1/blobs", [401, 401, 403, 403, 200]),
        ("GET", "/api/v1/blobs/none", [401, 401, 403, 404, 404]),
        ("POST", "/api/v1/downloads", [401, 401, 403, 403, 422]),
        ("GET", "/api/v1/downloads", [401, 401, 403, 200, 200]),
        ("GET", "/api/v1/downloads/none", [401, 401, 403, 404, 404]),
        ("DELETE", "/api/v1/downloads/none", [401, 401, 403, 403, 404]),
        ("POST", "/api/v1/models", [401, 401, 403, 403, 422]),
        ("POST", "/api/v1/models/neg/verify", [401, 401, 403, 403, 200]),
        ("POST", "/api/v1/instances/none/restart", [401, 401, 403, 403, 404]),
        ("DELETE", "/api/v1/models/none", [401, 401, 403, 403, 404]),
        ("GET", "/no/such/route", [401, 401, 404, 404, 404]),
    ];
    for (method, path, expected) in cases {
        let keys = ["", unknown.as_str(), &infer, &read, &admin];
        for (key, expected) in keys.into_iter().zip(expected) {
            assert_eq!(status(&daemon, method, path, key).await, expected, "{method} {path} {key}");
        }
    }
    let refused = ask(&daemon, "GET", "/api/v1/lanes", &[]).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer realm=\"weft\"");
    let said: Value = serde_json::from_str(&refused.text().await.expect("a text")).expect("JSON");
    assert_eq!((&said["code"], &said["retry"]), (&json!("unauthorized"), &json!("never")));
    for wrong in ["Basic d2VmdDp3ZWZ0", "Bearer", "Bearer ", "weft"] {
        assert_eq!(ask(&daemon, "GET", "/v2", &[("authorization", wrong)]).await.status(), 401, "{wrong}");
    }
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    assert_eq!(ask(&daemon, "GET", "/v2", &twice).await.status(), 401);
    // On the WebSocket each message is checked.
    let mut looks = Client::with_key(&daemon.url, &read).await;
    looks.ask(&infer_x("r", &json!({}))).await.refused("unauthorized", "never", "the scope infer");
    let mut asks = Client::with_key(&daemon.url, &infer).await;
    asks.ask(&json!({"type": "subscribe", "id": "s", "topics": ["pool"]})).await.refused(
        "unauthorized",
        "never",
        "the scope read",
    );
    asks.serves(&json!({})).await;
    daemon.stop().await;
}

/// Where nobody has to say who they are, a key still says whose request it is; a wrong one is not overlooked.
#[tokio::test]
async fn an_open_daemon_knows_its_keys() {
    let daemon = TestDaemon::start(&[]).await;
    let key = daemon.key("ci", json!({})).await;
    assert_eq!(status(&daemon, "GET", "/api/v1/keys", "").await, 200);
    assert_eq!(status(&daemon, "GET", "/api/v1/keys", &key).await, 403);
    assert_eq!(status(&daemon, "GET", "/api/v1/models", &key.replace("weft_", "weft_0")).await, 401);
    // Others' clients send credentials of others.
    assert_eq!(status(&daemon, "GET", "/api/v1/models", "sk-anything").await, 200);
    let basic = [("authorization", "Basic d2VmdDp3ZWZ0")];
    assert_eq!(ask(&daemon, "GET", "/api/v1/models", &basic).await.status(), 200);
    Client::with_key(&daemon.url, &key).await.serves(&json!({})).await;
    let runs = daemon.runs().await;
    assert!(runs[0]["caller"].as_str().is_some_and(|caller| caller.starts_with("key/")), "{runs:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn runs_are_seen_by_their_caller_and_by_admin() {
    let daemon = guarded(&[]).await;
    let (one, two) = (daemon.key("one", json!({})).await, daemon.key("two", json!({})).await);
    let mut watching = Client::with_key(&daemon.url, &one).await;
    watching.send(&json!({"type": "subscribe", "id": "s", "topics": ["runs"]})).await;
    watching.caught_up().await;
    Client::with_key(&daemon.url, &two).await.serves(&json!({})).await;
    watching.serves(&json!({})).await;
    // The first event that comes is of the second run: the other's was not told.
    let event = watching.event().await;
    let caller = event.header["event"]["caller"].clone();
    let runs = async |key: &str| {
        let bearer = format!("Bearer {key}");
        let page = ask(&daemon, "GET", "/api/v1/runs", &[("authorization", &bearer)]).await;
        let page: Value = serde_json::from_str(&page.text().await.expect("a text")).expect("JSON");
        page["items"].as_array().expect("a list").iter().map(|run| run["caller"].clone()).collect::<Vec<_>>()
    };
    let (ones, twos) = (runs(&one).await, runs(&two).await);
    assert_eq!((ones.len(), twos.len()), (1, 1), "{ones:?} {twos:?}");
    assert!(ones[0] == caller && ones[0] != twos[0], "{ones:?} {twos:?} {caller}");
    let all = daemon.runs().await;
    assert_eq!(all.len(), 2);
    for run in all {
        let path = format!("/api/v1/runs/{}", run["run"].as_str().expect("a name"));
        let owned = if run["caller"] == caller { (200, 404) } else { (404, 200) };
        assert_eq!(
            (status(&daemon, "GET", &path, &one).await, status(&daemon, "GET", &path, &two).await),
            owned
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_browser_has_a_cookie_in_place_of_the_key() {
    let daemon = guarded(&[]).await;
    let key = daemon.key("dashboard", json!({"scopes": "read"})).await;
    let bearer = format!("Bearer {key}");
    let begun = ask(&daemon, "POST", "/api/v1/session", &[("authorization", &bearer)]).await;
    assert_eq!(begun.status(), 200);
    let set = begun.headers()["set-cookie"].to_str().expect("text").to_owned();
    for attribute in ["Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=43"] {
        assert!(set.contains(attribute), "{set}");
    }
    assert!(!set.contains("Secure") && !set.contains(&key), "{set}");
    let cookie = set.split(';').next().expect("a cookie").to_owned();
    let origin = daemon.url.clone();
    let page: [(&str, &str); 2] = [("cookie", &cookie), ("origin", &origin)];
    assert_eq!(ask(&daemon, "GET", "/api/v1/lanes", &page).await.status(), 200);
    assert_eq!(ask(&daemon, "GET", "/api/v1/keys", &page).await.status(), 403);
    let foreign = [("cookie", cookie.as_str()), ("origin", "http://localhost:1")];
    assert_eq!(ask(&daemon, "GET", "/api/v1/lanes", &foreign).await.status(), 403);
    assert!(
        Client::open(&daemon.url, &[("cookie", &cookie), ("origin", "http://localhost:1")]).await.is_err()
    );
    let (mut client, _) =
        Client::open(&daemon.url, &[("cookie", &cookie), ("origin", &origin)]).await.expect("a connection");
    client.caught_up().await;
    let ended = ask(&daemon, "DELETE", "/api/v1/session", &page).await;
    assert!(ended.headers()["set-cookie"].to_str().expect("text").contains("Max-Age=0"));
    assert_eq!(ask(&daemon, "GET", "/api/v1/lanes", &page).await.status(), 401);
    daemon.stop().await;
}

#[tokio::test]
async fn a_page_shows_its_key_as_a_subprotocol_that_is_not_sent_back() {
    let daemon = guarded(&[]).await;
    let key = daemon.key("page", json!({})).await;
    let offer = format!("weft.v2, weft.key.{key}");
    let offered = [("sec-websocket-protocol", offer.as_str())];
    let (mut client, headers) = Client::open(&daemon.url, &offered).await.expect("a connection");
    assert_eq!(headers["sec-websocket-protocol"], "weft.v2");
    client.serves(&json!({})).await;
    let wrong = [("sec-websocket-protocol", "weft.v2, weft.key.weft_1_2")];
    assert!(Client::open(&daemon.url, &wrong).await.is_err());
    assert!(Client::open(&daemon.url, &[("sec-websocket-protocol", "weft.v2")]).await.is_err());
    daemon.stop().await;
}

#[tokio::test]
async fn a_key_may_as_much_as_was_said() {
    let browser = FakeBrowser::new("fake", &["wasm"]);
    let daemon = guarded(&[&browser]).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let rated = daemon.key("rated", json!({"rate_per_second": 2})).await;
    let bearer = format!("Bearer {rated}");
    let headers = [("authorization", bearer.as_str())];
    let first = ask(&daemon, "GET", "/v2", &headers).await;
    assert_eq!(first.headers()["ratelimit-policy"], "\"second\";q=2;w=1");
    assert!(first.headers()["ratelimit"].to_str().expect("text").starts_with("\"second\";r="));
    let mut refused = None;
    for _ in 0..20 {
        let answer = ask(&daemon, "GET", "/api/v1/models", &headers).await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("20 requests do not take 9 s");
    assert_eq!(
        (&refused.headers()["retry-after"], &refused.headers()["ratelimit"]),
        (&"1".parse().expect("a value"), &"\"second\";r=0;t=1".parse().expect("a value"),)
    );
    let said: Value = serde_json::from_str(&refused.text().await.expect("a text")).expect("JSON");
    assert_eq!((&said["code"], &said["retry"]), (&json!("rate_limited"), &json!("same")));

    let daily = daemon.key("daily", json!({"quota_per_day": 3})).await;
    let mut client = Client::with_key(&daemon.url, &daily).await;
    client.serves(&json!({})).await;
    // What is malformed counts like what is not.
    client.send(&json!({"type": "infer", "id": "m"})).await;
    client.reply("m").await.refused("invalid_request", "never", "");
    client.ask(&infer_x("over", &json!({}))).await.refused("rate_limited", "same", "3 requests came today");
    assert_eq!(status(&daemon, "GET", "/v2", &daily).await, 429);

    let single = daemon.key("single", json!({"in_flight": 1})).await;
    let (asking, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(asking));
    let mut client = Client::with_key(&daemon.url, &single).await;
    client.send(&infer_x("first", &json!({"backend": ["wasm"]}))).await;
    let step = soon("a step", asked.recv()).await.expect("the browser lives");
    let mut other = Client::open(&daemon.url, &[("authorization", &format!("Bearer {single}"))]).await;
    assert!(other.is_err(), "the upgrade is a request too");
    client.ask(&infer_x("second", &json!({}))).await.refused(
        "rate_limited",
        "same",
        "1 requests are in flight",
    );
    step.answer(Deed::Compute);
    client.reply("first").await.negated();
    browser.behaves(Conduct::Compute);
    other = Client::open(&daemon.url, &[("authorization", &format!("Bearer {single}"))]).await;
    other.expect("a connection").0.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_restart_gives_no_quota_back() {
    let place = home();
    let start = async || {
        let daemon = TestDaemon::start_in(place.clone(), &[], required).await.expect("a good start");
        daemon.settled().await;
        daemon
    };
    let mut daemon = start().await;
    daemon.add("neg", graphs::neg()).await;
    let daily = daemon.key("daily", json!({"quota_per_day": 6})).await;
    let free = daemon.key("free", json!({})).await;
    // Each time a connection and a request.
    for _ in 0..3 {
        Client::with_key(&daemon.url, &daily).await.serves(&json!({})).await;
        daemon.stop().await;
        daemon = start().await;
    }
    assert_eq!(status(&daemon, "GET", "/v2", &daily).await, 429);
    Client::with_key(&daemon.url, &free).await.serves(&json!({})).await;
    daemon.stop().await;
}
