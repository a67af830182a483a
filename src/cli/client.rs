//! A running daemon, or one started just for this call.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use super::{Common, Interrupts, output};
use crate::{
    config::{self, Surroundings},
    daemon::{Daemon, Local, Record},
};

/// A daemon on loopback answers in microseconds; one that does not within this is not there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Client {
    pub(super) url: String,
    /// Shown with every request.
    key: Option<String>,
    http: reqwest::Client,
    /// The daemon that this call started.
    own: Option<Daemon>,
}

impl Client {
    /// The running daemon, or one started for this call.
    pub(super) async fn connect(common: &Common) -> anyhow::Result<Self> {
        if let Some(running) = Self::find(common).await? {
            return Ok(running);
        }
        output::progress(
            "no daemon is running on this home: starting one for this call (`weft serve` keeps one)",
        );
        let config = common.config(None, |raw| raw.listen = Some("127.0.0.1:0".to_owned()), Vec::new())?;
        let daemon = Daemon::start(config).await?;
        let Local { url, key } = daemon.local();
        Ok(Self { url, key: Some(key), http: http()?, own: Some(daemon) })
    }

    /// The running daemon, where another would have nothing to tell.
    pub(super) async fn running(common: &Common) -> anyhow::Result<Self> {
        let running = Self::find(common).await?;
        running.context("no daemon is running on this home: start one with `weft serve`")
    }

    /// The running daemon, if there is one.
    pub(super) async fn find(common: &Common) -> anyhow::Result<Option<Self>> {
        let http = http()?;
        let key = common.key.clone().or_else(config::key);
        if let Some(url) = &common.url {
            let url = url.trim_end_matches('/').to_owned();
            if !alive(&http, &url, None).await {
                bail!("no daemon answers at {url}");
            }
            return Ok(Some(Self { url, key, http, own: None }));
        }
        let home = common.home(&Surroundings::read()?);
        if let Some(record) = Record::read(&home)
            && alive(&http, &record.url, Some(&record.id)).await
        {
            // Whoever can read the record is the daemon's owner.
            let key = key.or(Some(record.key));
            return Ok(Some(Self { url: record.url, key, http, own: None }));
        }
        Ok(None)
    }

    /// Stops the daemon if this call started it.
    pub(super) async fn finish(self) {
        if let Some(daemon) = self.own {
            daemon.stop().await;
        }
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(self.http.post(format!("{}{path}", self.url)).body(body.to_string())).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.http.delete(format!("{}{path}", self.url))).await
    }

    pub(super) async fn upload(&self, file: tokio::fs::File) -> anyhow::Result<Value> {
        let stream = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
        let body = reqwest::Body::wrap_stream(stream);
        self.send(self.http.post(format!("{}/api/v1/blobs", self.url)).body(body)).await
    }

    /// The header that shows the key.
    pub(super) fn authorization(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("Bearer {key}"))
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        if let Some(authorization) = self.authorization() {
            request = request.header(reqwest::header::AUTHORIZATION, authorization);
        }
        let response = request.send().await.context("the daemon does not answer")?;
        let ok = response.status().is_success();
        let text = response.text().await.context("the daemon's answer broke off")?;
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("the daemon answered {text:?}"))?;
        if ok {
            return Ok(value);
        }
        let said = |key: &str| value[key].as_str().unwrap_or("?").to_owned();
        Err(anyhow!("{}: {}", said("code"), said("detail")))
    }
}

fn http() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().build().context("the HTTP client")
}

/// Whether a daemon answers at `url`, and is the one called `id` where that matters:
/// after a crash, another home's daemon may have got the port.
async fn alive(http: &reqwest::Client, url: &str, id: Option<&str>) -> bool {
    let answer = http.get(format!("{url}/v2/health/live")).timeout(ANSWERS_WITHIN).send().await;
    let Ok(answer) = answer.and_then(reqwest::Response::error_for_status) else { return false };
    match id {
        Some(id) => answer.json::<Value>().await.is_ok_and(|live| live["id"] == id),
        None => true,
    }
}

/// Runs `ask` against a daemon and stops it afterwards if it was started for this, interrupted or not.
pub(super) async fn with_daemon<T>(
    common: &Common,
    ask: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut interrupts = Interrupts::catch()?;
    let client = Client::connect(common).await?;
    let result = tokio::select! {
        biased;
        interrupted = interrupts.next() => Err(interrupted.into()),
        result = ask(&client) => result,
    };
    client.finish().await;
    result
}
