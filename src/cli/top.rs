//! `weft top`: instances and lanes as they are now, again and again on a terminal, once elsewhere.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{Common, Interrupts, client::Client, output};

/// Often enough to see a browser come back, and next to nothing for the daemon to answer.
const REFRESH: Duration = Duration::from_secs(1);

/// The alternate screen, so that what stood there before is there again afterwards.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// To the corner, and everything below it away.
const REPAINT: &str = "\x1b[H\x1b[J";

#[derive(Args)]
pub(super) struct Top {
    /// Print once and end, also on a terminal
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let mut interrupts = Interrupts::catch()?;
        let client = Client::running(common).await?;
        if self.once || common.json || !io::stdout().is_terminal() {
            let (instances, lanes) = look(&client).await?;
            if common.json {
                return output::json(&json!({"instances": instances["items"], "lanes": lanes["items"]}));
            }
            show(&instances, &lanes);
            return Ok(());
        }
        output::raw(ENTER);
        let shown = tokio::select! {
            shown = repeat(&client) => shown,
            // Ctrl-C is how one leaves.
            _ = interrupts.next() => Ok(()),
        };
        output::raw(LEAVE);
        shown
    }
}

async fn repeat(client: &Client) -> anyhow::Result<()> {
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (instances, lanes) = look(client).await?;
        output::raw(REPAINT);
        output::line(&format!("{}: Ctrl-C ends\n", client.url));
        show(&instances, &lanes);
    }
}

async fn look(client: &Client) -> anyhow::Result<(Value, Value)> {
    tokio::try_join!(client.get("/api/v1/instances"), client.get("/api/v1/lanes"))
}

fn show(instances: &Value, lanes: &Value) {
    let list = |page: &Value| page["items"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> = list(instances).iter().map(instance).collect();
    output::table(
        &["instance", "version", "state", "gpu", "pid", "memory", "steps", "launches", "why"],
        &rows,
    );
    output::line("");
    let rows: Vec<_> = list(lanes).iter().map(lane).collect();
    output::table(&["lane", "state", "running", "threads", "sessions", "why"], &rows);
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn instance(item: &Value) -> Vec<String> {
    let memory = item["memory_bytes"].as_u64().map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let why = match (&item["lease"], &item["reason"]) {
        (Value::String(lease), _) => format!("leased as {lease}"),
        (_, Value::String(reason)) => reason.clone(),
        _ => String::new(),
    };
    vec![
        text(&item["instance"]),
        text(&item["browser_version"]),
        text(&item["state"]),
        text(&item["gpu"]),
        text(&item["process"]),
        memory,
        text(&item["executed"]),
        text(&item["launches"]),
        why,
    ]
}

fn lane(item: &Value) -> Vec<String> {
    let sessions = item["load"]["sessions"].as_array().map_or(0, Vec::len);
    vec![
        text(&item["lane"]),
        text(&item["state"]),
        text(&item["load"]["running"]),
        text(&item["capability"]["threads"]),
        sessions.to_string(),
        item["reason"].as_str().unwrap_or_default().to_owned(),
    ]
}
