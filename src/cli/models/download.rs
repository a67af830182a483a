//! Has the daemon download a file, and shows how far it is.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_json::{Value, json};

use crate::cli::{client::Client, output};

/// How often a terminal's line is written anew.
const REFRESH: &str = "250ms";

/// How often a line is added where nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Back to the line's begin, and all of it away.
const REWRITE: &str = "\r\x1b[K";

/// A download that is done.
pub(super) async fn bring(client: &Client, source: &str, offline: bool) -> anyhow::Result<Value> {
    let order = json!({"source": source, "offline": offline});
    let mut download = client.post("/api/v1/downloads", &order).await?;
    let id = download["id"].as_str().unwrap_or_default();
    let path = format!("/api/v1/downloads/{id}?wait={REFRESH}");
    let mut told = Told::new();
    while matches!(download["state"].as_str(), Some("running" | "waiting")) {
        told.tell(&download);
        download = client.get(&path).await?;
    }
    told.end();
    if download["state"] == "done" {
        return Ok(download);
    }
    let said = |key: &str| download["error"][key].as_str().unwrap_or("?").to_owned();
    bail!("{}: {}", said("code"), said("message"))
}

/// What has been shown.
struct Told {
    terminal: bool,
    last: Option<(Instant, String)>,
}

impl Told {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), last: None }
    }

    fn tell(&mut self, download: &Value) {
        let line = line(download);
        if self.terminal {
            output::rewrite(&format!("{REWRITE}{line}"));
            self.last = Some((Instant::now(), line));
            return;
        }
        let waits = download["state"] == "waiting";
        let due = self
            .last
            .as_ref()
            .is_none_or(|(at, shown)| at.elapsed() >= LINE_EVERY || (waits && *shown != line));
        if due {
            output::progress(&line);
            self.last = Some((Instant::now(), line));
        }
    }

    fn end(&self) {
        if self.terminal && self.last.is_some() {
            output::rewrite(REWRITE);
        }
    }
}

fn line(download: &Value) -> String {
    let source = download["source"].as_str().unwrap_or("?");
    if let Some(wait) = download["retry_in_ms"].as_u64() {
        let reason = download["reason"].as_str().unwrap_or("?");
        return format!("{source}: {reason}; next try in {:.1} s", wait as f64 / 1e3);
    }
    let bytes = download["bytes"].as_u64().unwrap_or(0);
    match download["total"].as_u64().filter(|total| *total > 0) {
        Some(total) => format!(
            "{source}: {} of {} MB ({} %)",
            megabytes(bytes),
            megabytes(total),
            bytes.saturating_mul(100) / total
        ),
        None => format!("{source}: {} MB", megabytes(bytes)),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::line;

    #[test]
    fn a_line_says_how_far_it_is_or_what_it_waits_for() {
        let cases = [
            (json!({"source": "hf:o/n", "bytes": 0, "total": null}), "hf:o/n: 0.0 MB"),
            (json!({"source": "x", "bytes": 1_500_000, "total": 3_000_000}), "x: 1.5 of 3.0 MB (50 %)"),
            (json!({"source": "x", "bytes": 0, "total": 0}), "x: 0.0 MB"),
            (
                json!({"source": "x", "retry_in_ms": 1500, "reason": "x answered 503"}),
                "x: x answered 503; next try in 1.5 s",
            ),
        ];
        for (download, wanted) in cases {
            assert_eq!(line(&download), wanted);
        }
    }
}
