//! `weft keys`: with the running daemon, else directly on the home.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Common, client::Client, output};
use crate::{
    access::Keys as Kept,
    config::Surroundings,
    daemon::{STORE, lock_home},
    http::{KeyOrder, KeyView, MadeKey},
    store::Store,
};

#[derive(Subcommand)]
pub(super) enum Keys {
    /// Make a key and show it, once
    Add(Add),
    /// List keys, revoked and expired ones included
    List,
    /// Revoke a key by its id or name; connections that use it are closed
    Revoke {
        #[arg(value_name = "ID|NAME")]
        named: String,
    },
}

#[derive(Args)]
pub(super) struct Add {
    /// Whose it is, or what for
    #[arg(value_name = "NAME")]
    name: String,
    /// What it is good for: infer, read, admin
    #[arg(long, value_name = "SCOPE,…", default_value = "infer,read")]
    scope: String,
    /// Its share of the lanes' time beside other callers'
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Requests per second, as 50/s
    #[arg(long, value_name = "N/s", value_parser = |text: &str| per(text, "s"))]
    rate: Option<NonZeroU32>,
    /// Requests per day, as 10000/day
    #[arg(long, value_name = "N/day", value_parser = |text: &str| per(text, "day"))]
    quota: Option<NonZeroU32>,
    /// Requests at a time
    #[arg(long, value_name = "N")]
    in_flight: Option<NonZeroU32>,
    /// How long it is good for, as 30d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
}

fn per(text: &str, unit: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_suffix(unit).and_then(|rest| rest.strip_suffix('/')).unwrap_or(text);
    number.parse().map_err(|_| format!("{text:?} is not a number of at least 1 per {unit}, as 50/{unit}"))
}

impl Keys {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let answer = match Client::find(common).await? {
            Some(client) => self.ask(&client).await?,
            None => self.change(common).await?,
        };
        if common.json {
            return output::json(&answer);
        }
        self.print(&answer);
        Ok(())
    }

    async fn ask(&self, client: &Client) -> anyhow::Result<Value> {
        match self {
            Self::Add(add) => client.post("/api/v1/keys", &json!(add.order())).await,
            Self::List => client.get("/api/v1/keys").await,
            Self::Revoke { named } => client.delete(&format!("/api/v1/keys/{}", encoded(named))).await,
        }
    }

    /// Without a daemon, whoever can write to the home is its admin.
    async fn change(&self, common: &Common) -> anyhow::Result<Value> {
        let home = common.home(&Surroundings::read()?);
        let _lock = lock_home(&home)?;
        let store = Arc::new(Store::open(&home.join(STORE))?);
        let keys = Kept::open(store.clone()).await?;
        let answer = match self {
            Self::Add(add) => {
                let (key, text) = keys.add(add.order().try_into()?).await?;
                json!(MadeKey::new(key, text))
            }
            Self::List => {
                let items: Vec<_> = keys.list().into_iter().map(KeyView::from).collect();
                json!({"items": items, "cursor": null})
            }
            Self::Revoke { named } => json!(KeyView::from(keys.revoke(named).await?)),
        };
        store.close().await?;
        Ok(answer)
    }

    fn print(&self, answer: &Value) {
        match self {
            Self::Add(_) => {
                output::progress("shown once, and kept nowhere:");
                output::line(answer["key"].as_str().unwrap_or_default());
            }
            Self::Revoke { .. } => output::line(&format!("revoked {}", text(&answer["id"]))),
            Self::List => {
                let rows: Vec<_> = answer["items"].as_array().into_iter().flatten().map(row).collect();
                if rows.is_empty() {
                    output::line("no keys yet: `weft keys add NAME` makes one");
                } else {
                    let header = [
                        "id",
                        "name",
                        "scopes",
                        "weight",
                        "rate/s",
                        "quota/day",
                        "at once",
                        "expires",
                        "revoked",
                    ];
                    output::table(&header, &rows);
                }
            }
        }
    }
}

impl Add {
    fn order(&self) -> KeyOrder {
        KeyOrder {
            name: self.name.clone(),
            scopes: self.scope.clone(),
            weight: self.weight,
            rate_per_second: self.rate,
            quota_per_day: self.quota,
            in_flight: self.in_flight,
            expires_in: self.expires,
        }
    }
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn row(key: &Value) -> Vec<String> {
    let scopes: Vec<_> = key["scopes"].as_array().into_iter().flatten().map(text).collect();
    let time = |value: &Value| {
        let at = value.as_u64().map(|us| std::time::UNIX_EPOCH + Duration::from_micros(us));
        at.map_or_else(|| "-".to_owned(), |at| humantime::format_rfc3339_seconds(at).to_string())
    };
    vec![
        text(&key["id"]),
        text(&key["name"]),
        scopes.join(" "),
        text(&key["weight"]),
        text(&key["rate_per_second"]),
        text(&key["quota_per_day"]),
        text(&key["in_flight"]),
        time(&key["expires_at_us"]),
        time(&key["revoked_at_us"]),
    ]
}
