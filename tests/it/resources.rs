//! Lists in pages, single resources, the forms of errors, and the pages for people.

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::support::{TestDaemon, infer_x, soon};

async fn get(daemon: &TestDaemon, path: &str) -> (u16, reqwest::header::HeaderMap, String) {
    let answer = soon("an answer", daemon.http.get(format!("{}{path}", daemon.url)).send()).await;
    let answer = answer.expect("the daemon answers");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.text().await.unwrap_or_default())
}

#[tokio::test]
async fn runs_come_in_pages_and_one_by_one() {
    let daemon = TestDaemon::start(&[]).await;
    let mut client = daemon.client().await;
    let mut asked = Vec::new();
    for at in 0..5 {
        let reply = client.ask(&infer_x(&at.to_string(), &json!({}))).await;
        asked.push(reply.header["parameters"]["run"].clone());
    }
    let (mut seen, mut path) = (Vec::new(), "/api/v1/runs?limit=2".to_owned());
    loop {
        let page = daemon.get(&path).await;
        let items = page["items"].as_array().expect("a list");
        assert!(!items.is_empty() && items.len() <= 2, "{page}");
        seen.extend(items.iter().map(|item| item["run"].clone()));
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/runs?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen, asked);
    let name = asked[2].as_str().expect("a name");
    let run = daemon.get(&format!("/api/v1/runs/{name}")).await;
    assert_eq!((&run["run"], &run["model"]), (&asked[2], &json!("neg")), "{run}");
    let cases = [
        ("/api/v1/runs/nothing", 404, "no run is called"),
        ("/api/v1/runs?limit=0", 422, "between 1 and 10000"),
        ("/api/v1/runs?limit=10001", 422, "between 1 and 10000"),
        ("/api/v1/runs?cursor=x", 422, "no cursor"),
    ];
    for (path, status, says) in cases {
        let (told, _, text) = get(&daemon, path).await;
        assert!(told == status && text.contains(says), "{path}: {told} {text}");
    }
    daemon.stop().await;
}

/// One failure, in the form of each protocol.
#[tokio::test]
async fn a_failure_is_told_in_the_form_of_its_route() {
    let daemon = TestDaemon::start(&[]).await;
    let problem = json!({
        "type": "/docs/errors#invalid_request", "title": "The request cannot be understood, or fits no signature",
        "status": 404, "detail": "there is no route /api/none", "code": "invalid_request", "retry": "never",
    });
    let openai = json!({"error": {
        "message": "there is no route /v1/none", "type": "invalid_request_error", "param": null,
        "code": "invalid_request",
    }});
    let cases = [
        ("/api/none", "application/problem+json", problem),
        ("/v1/none", "application/json", openai),
        ("/v2/none", "application/json", json!({"error": "there is no route /v2/none"})),
    ];
    for (path, kind, body) in cases {
        let (status, headers, text) = get(&daemon, path).await;
        assert_eq!((status, &headers["content-type"]), (404, &HeaderValue::from_static(kind)), "{path}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), body, "{path}");
    }
    daemon.stop().await;
}

/// The page for people is whole, allows nothing from elsewhere, and names no other host.
#[tokio::test]
async fn the_pages_load_nothing_from_elsewhere() {
    let daemon = TestDaemon::start(&[]).await;
    let (_, headers, page) = get(&daemon, "/docs").await;
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!page.contains("//"), "{page}");
    for (file, kind) in [("docs.js", "text/javascript"), ("docs.css", "text/css")] {
        assert!(page.contains(&format!("\"/docs/assets/{file}\"")), "{page}");
        let (status, headers, _) = get(&daemon, &format!("/docs/assets/{file}")).await;
        assert_eq!(status, 200, "{file}");
        assert_eq!(headers["content-encoding"], "gzip", "{file}");
        assert!(headers["content-type"].to_str().expect("text").starts_with(kind), "{file}");
    }
    let (_, _, errors) = get(&daemon, "/docs/errors").await;
    assert!(errors.contains("id=\"overloaded\"") && errors.contains("(503)"), "{errors}");
    assert_eq!(get(&daemon, "/docs/assets/..%2findex.html").await.0, 404);
    daemon.stop().await;
}
