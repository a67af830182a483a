//! A running daemon, or one started just for this call.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::{
    Body, Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{
    Common, Interrupts, output,
    wire::{Socket, Wire, reason},
};
use crate::{
    config::{self, RawConfig, Surroundings},
    daemon::{Daemon, Local, Record},
};

/// A daemon on loopback answers in microseconds; one that does not within this is not there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

pub(super) struct Client {
    pub(super) url: String,
    /// Shown with every request.
    key: Option<String>,
    pub(super) wire: Wire,
    /// The daemon that this call started.
    own: Option<Daemon>,
}

impl Client {
    /// The running daemon, or one started for this call.
    pub(super) async fn connect(common: &Common) -> anyhow::Result<Self> {
        Self::connect_with(common, |_| {}).await
    }

    /// The same, where one that is started for this call is configured by `change`.
    pub(super) async fn connect_with(
        common: &Common,
        change: impl Fn(&mut RawConfig) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        if let Some(running) = Self::find(common).await? {
            return Ok(running);
        }
        output::progress(
            "no daemon is running on this home: starting one for this call (`weft serve` keeps one)",
        );
        let change = move |raw: &mut RawConfig| {
            raw.listen = Some("127.0.0.1:0".to_owned());
            change(raw);
        };
        let daemon = Daemon::start(common.config(None, change, Vec::new())?).await?;
        let Local { url, key } = daemon.local();
        let wire = Wire::new(&url, None)?;
        Ok(Self { url, key: Some(key), wire, own: Some(daemon) })
    }

    /// The running daemon, where another would have nothing to tell.
    pub(super) async fn running(common: &Common) -> anyhow::Result<Self> {
        let running = Self::find(common).await?;
        running.context("no daemon is running on this home: start one with `weft serve`")
    }

    /// The running daemon, if there is one.
    pub(super) async fn find(common: &Common) -> anyhow::Result<Option<Self>> {
        let key = common.key.clone().or_else(config::key);
        if let Some(url) = &common.url {
            let url = url.trim_end_matches('/').to_owned();
            let wire = Wire::new(&url, common.ca.as_deref())?;
            if let Err(error) = alive(&wire, &url, None).await {
                bail!("no daemon answers at {url}: {}", reason(&error));
            }
            return Ok(Some(Self { url, key, wire, own: None }));
        }
        let home = common.home(&Surroundings::read()?);
        let Some(record) = Record::read(&home) else { return Ok(None) };
        let wire = Wire::new(&record.url, None)?;
        if alive(&wire, &record.url, Some(&record.id)).await.is_ok() {
            // Whoever can read the record is the daemon's owner.
            let key = key.or(Some(record.key));
            return Ok(Some(Self { url: record.url, key, wire, own: None }));
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
        self.send(Method::GET, path, Body::default()).await
    }

    /// What is answered, as it came: some documents are large.
    pub(super) async fn text(&self, path: &str) -> anyhow::Result<String> {
        self.answer(Method::GET, path, None, Body::default()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, body.to_string().into()).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, body.to_string().into()).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::DELETE, path, Body::default()).await
    }

    pub(super) async fn upload(&self, file: tokio::fs::File) -> anyhow::Result<Value> {
        let stream = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
        self.send(Method::POST, "/api/v1/blobs", Body::wrap_stream(stream)).await
    }

    /// The header that shows the key.
    pub(super) fn authorization(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("Bearer {key}"))
    }

    /// The daemon's WebSocket.
    pub(super) async fn socket(&self) -> anyhow::Result<Socket> {
        let url = format!("{}/v2/ws", self.url.replacen("http", "ws", 1));
        let mut opening = url.as_str().into_client_request().with_context(|| url.clone())?;
        if let Some(authorization) = self.authorization() {
            let value = authorization.parse().context("the key is no header's value")?;
            opening.headers_mut().insert(AUTHORIZATION, value);
        }
        self.wire.socket(&self.url, opening).await.with_context(|| url.clone())
    }

    /// Posts what is called `kind`.
    pub(super) async fn post_as(&self, path: &str, kind: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        let kind = kind.parse().context("the content type")?;
        self.send_with(Method::POST, path, Some((CONTENT_TYPE, kind)), body.into()).await
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> anyhow::Result<Value> {
        self.send_with(method, path, None, body).await
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, HeaderValue)>,
        body: Body,
    ) -> anyhow::Result<Value> {
        parsed(&self.answer(method, path, header, body).await?)
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, HeaderValue)>,
        body: Body,
    ) -> anyhow::Result<String> {
        let url = format!("{}{path}", self.url).parse().context("the address")?;
        let mut request = Request::new(method, url);
        *request.body_mut() = Some(body);
        request.headers_mut().extend(header.map(|(name, value)| (Some(name), value)));
        if let Some(authorization) = self.authorization() {
            let value = authorization.parse().context("the key is no header's value")?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let response = self.wire.send(request).await.context("the daemon does not answer")?;
        let ok = response.status().is_success();
        let text = response.text().await.context("the daemon's answer broke off")?;
        if ok {
            return Ok(text);
        }
        let value = parsed(&text)?;
        let said = |key: &str| value[key].as_str().unwrap_or("?").to_owned();
        Err(anyhow!("{}: {}", said("code"), said("detail")))
    }
}

fn parsed(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).with_context(|| format!("the daemon answered {text:?}"))
}

/// Succeeds when a daemon answers at `url`, and is the one called `id` where that matters:
/// after a crash, another home's daemon may have got the port.
async fn alive(wire: &Wire, url: &str, id: Option<&str>) -> anyhow::Result<()> {
    let path = format!("{url}/v2/health/live");
    let look = async {
        let live: Value = wire.get(&path).await?.error_for_status()?.json().await?;
        if id.is_some_and(|id| live["id"] != id) {
            bail!("it is another daemon");
        }
        Ok(())
    };
    tokio::time::timeout(ANSWERS_WITHIN, look).await.context("it takes too long")?
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
