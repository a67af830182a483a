//! `weft runs`.

use clap::Args;
use serde_json::Value;

use super::{Common, client::with_daemon, output};

#[derive(Args)]
pub(super) struct Runs {
    /// How many, the newest first
    #[arg(long, default_value_t = 20, value_name = "N")]
    last: u32,
}

impl Runs {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let path = format!("/api/v1/runs?last={}", self.last);
        let page = with_daemon(common, async |client| client.get(&path).await).await?;
        if common.json {
            return output::json(&page);
        }
        let rows: Vec<_> = page["items"].as_array().into_iter().flatten().map(row).collect();
        if rows.is_empty() {
            output::line("no runs yet: `weft infer MODEL` makes one");
        } else {
            let header = ["run", "model", "lane", "attempt", "queue µs", "compute µs", "total µs", "outcome"];
            output::table(&header, &rows);
        }
        Ok(())
    }
}

fn row(run: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_u64().map_or("-".to_owned(), |number| number.to_string());
    let outcome = match &run["error"] {
        Value::Null => "ok".to_owned(),
        error => format!("{}: {}", text(&error["code"]), text(&error["message"])),
    };
    let (provenance, timing) = (&run["provenance"], &run["timing"]);
    vec![
        text(&run["run"]),
        text(&run["model"]),
        text(&provenance["lane"]),
        number(&provenance["attempt"]),
        number(&timing["queue"]),
        number(&timing["compute"]),
        number(&timing["total"]),
        outcome,
    ]
}
