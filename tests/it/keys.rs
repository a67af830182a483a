//! `weft keys` as a process: with a daemon and without, and what a home's files tell others.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cli::{home, serve};

fn weft(home: &Path, arguments: &[&str], key: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).arg("--home").arg(home).env_remove("WEFT_HOME").env_remove("WEFT_LOG");
    command.env_remove("WEFT_KEY").envs(key.map(|key| ("WEFT_KEY", key)));
    command.output().expect("the program starts")
}

#[track_caller]
fn json(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?} is no JSON"))
}

fn requiring() -> tempfile::TempDir {
    let home = home();
    let file = home.path().join("weft.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, format!("{text}\n[access]\nrequired = true\n")).expect("room for a file");
    home
}

#[test]
fn keys_are_made_listed_and_revoked_with_a_daemon_and_without() {
    let home = requiring();
    let home = home.path();
    let first =
        weft(home, &["keys", "add", "first", "--scope", "read", "--rate", "50/s", "--expires", "30d"], None);
    assert!(first.status.success(), "{first:?}");
    let first = String::from_utf8(first.stdout).expect("UTF-8").trim().to_owned();
    assert!(first.starts_with("weft_") && first.len() == 82, "{first}");
    let database = std::fs::read(home.join("weft.duckdb")).expect("a file");
    let secret = &first.as_bytes()[18..];
    assert!(!database.windows(secret.len()).any(|bytes| bytes == secret), "the secret is kept nowhere");

    let served = serve(home);
    let mode = std::fs::metadata(home.join("daemon.json")).expect("a record").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Whoever owns the home needs no key, but one that is shown counts.
    let listed = json(&weft(home, &["keys", "list", "--json"], None));
    assert_eq!(listed["items"][0]["name"], "first", "{listed}");
    assert_eq!(listed["items"][0]["rate_per_second"], 50);
    assert!(listed["items"][0].get("digest").is_none());
    let refused = weft(home, &["keys", "list"], Some(&first));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the scope admin"), "{refused:?}");
    assert!(weft(home, &["top", "--once"], Some(&first)).status.success());
    let url = served.line.trim().trim_start_matches("listening on ").to_owned();
    let stranger = weft(home, &["runs", "--url", &url], None);
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("unauthorized"), "{stranger:?}");
    assert!(weft(home, &["runs", "--url", &url, "--key", &first], None).status.success());
    let second = json(&weft(home, &["keys", "add", "second", "--json"], None));
    assert_eq!(second["scopes"], serde_json::json!(["infer", "read"]));
    let revoked = json(&weft(home, &["keys", "revoke", "first", "--json"], None));
    assert!(revoked["revoked_at_us"].is_i64(), "{revoked}");
    assert_eq!(weft(home, &["runs"], Some(&first)).status.code(), Some(1));
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));

    let id = second["id"].as_str().expect("an id");
    let revoked = weft(home, &["keys", "revoke", id], None);
    assert!(revoked.status.success(), "{revoked:?}");
    let listed = json(&weft(home, &["keys", "list", "--json"], None));
    let items = listed["items"].as_array().expect("a list");
    assert!(items.len() == 2 && items.iter().all(|key| key["revoked_at_us"].is_i64()), "{listed}");
    let unknown = weft(home, &["keys", "revoke", "third"], None);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no key is called"), "{unknown:?}");
}

#[test]
fn a_daemon_that_others_could_reach_does_not_start_without_authentication() {
    let home = home();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = weft(home.path(), &["serve", "--listen", listen], None);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("required = true") && said.contains("weft keys add"), "{said}");
    }
    assert!(!home.path().join("daemon.json").exists());
}
