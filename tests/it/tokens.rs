//! JSON Web Tokens against a running daemon: what is refused, and what ends open connections.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};
use weft::{
    access::{Allowance, Rules, TokenSettings},
    tasks,
};

use crate::{
    access::{ask, required},
    support::{Client, TestDaemon, graphs, home},
};

const SECRET: &[u8] = b"a secret that has 32 bytes of it";
const OTHER: &[u8] = b"and one that is as long as that!";

fn now_s() -> i64 {
    tasks::now_us() / 1_000_000
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token(kid: &str, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(&json!({"alg": "HS256", "kid": kid})), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A daemon that trusts the keys in a folder of its home.
async fn trusting(keys: &[(&str, &[u8])]) -> TestDaemon {
    let home = home();
    let folder = home.path().join("trusted");
    std::fs::create_dir(&folder).expect("room for a folder");
    for (name, secret) in keys {
        put(&folder, name, secret);
    }
    let settings = TokenSettings { keys: folder, rules: Rules::default(), allowance: Allowance::default() };
    let daemon = TestDaemon::start_in(home, &[], |config| {
        required(config);
        config.access.tokens = Some(settings);
    });
    let daemon = daemon.await.expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon
}

fn put(folder: &Path, name: &str, secret: &[u8]) {
    std::fs::write(folder.join(format!("{name}.secret")), secret).expect("room for a file");
}

#[tokio::test]
async fn a_token_is_refused_when_anything_about_it_is_wrong() {
    let daemon = trusting(&[("k", SECRET)]).await;
    let claims = |exp: i64, scope: &str| json!({"sub": "ci", "exp": now_s() + exp, "scope": scope});
    let good = token("k", &claims(60, "read"), SECRET);
    let parts: Vec<_> = good.split('.').collect();
    let none = part(&json!({"alg": "none", "kid": "k"}));
    let other = part(&json!({"alg": "EdDSA", "kid": "k"}));
    let cases = [
        (good.clone(), 200, ""),
        (token("k", &claims(60, "infer"), SECRET), 403, "the scope read"),
        (token("k", &claims(60, "email"), SECRET), 403, "the scope read"),
        (token("k", &claims(-11, "read"), SECRET), 401, "has expired"),
        (token("k", &claims(90_000, "read"), SECRET), 401, "24 hours"),
        (token("k", &json!({"sub": "ci", "scope": "read"}), SECRET), 401, "lacks exp"),
        (token("other", &claims(60, "read"), SECRET), 401, "not trusted"),
        (token("k", &claims(60, "read"), OTHER), 401, "signature is wrong"),
        (format!("{none}.{}.", parts[1]), 401, "can be read"),
        (format!("{other}.{}.{}", parts[1], parts[2]), 401, "another algorithm"),
        (format!("{}.{}.{}", parts[0], part(&claims(60, "admin")), parts[2]), 401, "signature is wrong"),
        ("a.b.c".to_owned(), 401, "can be read"),
        ("x".repeat(5000), 401, "longer than"),
    ];
    for (token, status, says) in cases {
        let bearer = format!("Bearer {token}");
        let answer = ask(&daemon, "GET", "/api/v1/lanes", &[("authorization", &bearer)]).await;
        assert_eq!(answer.status(), status, "{says}");
        let said = answer.text().await.expect("a text");
        assert!(said.contains(says), "{says}: {said}");
    }
    daemon.stop().await;
}

/// Shown again it is refused, and the connection that it opened is closed with its time.
#[tokio::test]
async fn a_token_ends_with_its_time_also_on_an_open_connection() {
    let daemon = trusting(&[("k", SECRET)]).await;
    // Good for the ten seconds' leeway alone, and of that for two more.
    let claims = json!({"sub": "ci", "exp": now_s() - 8, "scope": "infer"});
    let token = token("k", &claims, SECRET);
    let mut client = Client::with_key(&daemon.url, &token).await;
    client.serves(&json!({})).await;
    client.next().await.refused("unauthorized", "never", "has expired");
    assert_eq!(client.closed().await, (1008, "credential expired".to_owned()));
    assert!(now_s() <= claims["exp"].as_i64().expect("a number") + 12, "within two seconds");
    let bearer = format!("Bearer {token}");
    assert_eq!(ask(&daemon, "GET", "/v2", &[("authorization", &bearer)]).await.status(), 401);
    daemon.stop().await;
}

#[tokio::test]
async fn keys_of_tokens_rotate_while_the_daemon_runs() {
    let daemon = trusting(&[("old", SECRET)]).await;
    let folder = daemon.home.path().join("trusted");
    let claims = json!({"sub": "ci", "exp": now_s() + 600, "scope": "infer"});
    let (old, new) = (token("old", &claims, SECRET), token("new", &claims, OTHER));
    let mut client = Client::with_key(&daemon.url, &old).await;
    client.serves(&json!({})).await;
    let bearer = format!("Bearer {new}");
    let status = async || ask(&daemon, "GET", "/v2", &[("authorization", &bearer)]).await.status();
    assert_eq!(status().await, 401);
    put(&folder, "new", OTHER);
    std::fs::remove_file(folder.join("old.secret")).expect("it is there");
    client.next().await.refused("unauthorized", "never", "trusted no more");
    assert_eq!(client.closed().await, (1008, "key revoked".to_owned()));
    assert_eq!(status().await, 200);
    let bearer = format!("Bearer {old}");
    assert_eq!(ask(&daemon, "GET", "/v2", &[("authorization", &bearer)]).await.status(), 401);
    daemon.stop().await;
}
