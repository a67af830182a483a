//! A page of our own in a Chromium that is running already.
//!
//! Not over the client library: it attaches to every tab of the browser, switches reports on in each,
//! and halts their new workers.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::driver::wire::{
    Wire, WireError,
    message::Event,
    page::{Fate, Protocol},
};

/// Where a browser with a debugging port tells the address of its socket.
const VERSION_PATH: &str = "/json/version";

/// What stands there is half a KiB.
const VERSION_BYTES: usize = 64 << 10;

/// The address of the browser's control socket; the error is for people.
pub(super) async fn address(endpoint: &str) -> Result<String, String> {
    if endpoint.starts_with("ws://") {
        return Ok(endpoint.to_owned());
    }
    let url = format!("{}{VERSION_PATH}", endpoint.trim_end_matches('/'));
    let read = async {
        let mut answer = reqwest::get(&url).await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > VERSION_BYTES {
                break;
            }
        }
        Ok::<_, reqwest::Error>(body)
    };
    let body = read.await.map_err(|error| innermost(&error))?;
    let version: Value = serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))?;
    let address = version.get("webSocketDebuggerUrl").and_then(Value::as_str);
    address.map(str::to_owned).ok_or_else(|| format!("{url} names no control socket"))
}

/// The cause that means something to people stands last.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[derive(Default)]
pub(super) struct Guest {
    opened: OnceLock<Opened>,
}

struct Opened {
    target: String,
    session: Arc<str>,
}

impl Guest {
    async fn in_page(&self, wire: &Wire, method: &'static str, params: Value) -> Result<Value, WireError> {
        let session = self.opened.get().map(|opened| Arc::clone(&opened.session));
        wire.ask_in(session, method, params).await
    }
}

/// Asks for one text of an answer.
async fn ask(
    wire: &Wire,
    method: &'static str,
    params: Value,
    wanted: &'static str,
) -> Result<String, WireError> {
    let answer = wire.ask(method, params).await?;
    let text = answer.get(wanted).and_then(Value::as_str);
    text.map(str::to_owned).ok_or(WireError::Incomplete { method, missing: wanted })
}

impl Protocol for Guest {
    const PING: &'static str = "Browser.getVersion";

    async fn open(&self, wire: &Wire) -> Result<String, WireError> {
        let product = ask(wire, "Browser.getVersion", json!({}), "product").await?;
        // Apart from the cookies of whoever uses the browser, and gone with our connection, however that ends.
        let apart = json!({"disposeOnDetach": true});
        let apart = ask(wire, "Target.createBrowserContext", apart, "browserContextId").await?;
        let page = json!({"url": super::BLANK, "browserContextId": apart, "background": true});
        let target = ask(wire, "Target.createTarget", page, "targetId").await?;
        let session = json!({"targetId": target, "flatten": true});
        let session = ask(wire, "Target.attachToTarget", session, "sessionId").await?.into();
        let known = self.opened.set(Opened { target, session });
        debug_assert!(known.is_ok(), "a page is opened once");
        self.in_page(wire, "Inspector.enable", json!({})).await?;
        self.in_page(wire, "Emulation.setFocusEmulationEnabled", json!({"enabled": true})).await?;
        // As `Chrome/156.0.1.2`, where the recipe already tells the product.
        Ok(product.split_once('/').map_or(product.as_str(), |(_, version)| version).to_owned())
    }

    async fn navigate(&self, wire: &Wire, url: &str) -> Result<(), WireError> {
        let method = "Page.navigate";
        let answer = self.in_page(wire, method, json!({"url": url})).await?;
        match answer.get("errorText").and_then(Value::as_str) {
            Some(error) => Err(WireError::Page(error.to_owned())),
            None => Ok(()),
        }
    }

    fn fate(&self, event: &Event) -> Option<Fate> {
        let ours = &self.opened.get()?;
        let is = |key: &str, value: &str| event.params.get(key).and_then(Value::as_str) == Some(value);
        match event.method.as_str() {
            "Inspector.targetCrashed" => Some(Fate::Crashed),
            "Target.detachedFromTarget" if is("sessionId", &ours.session) => Some(Fate::Closed),
            _ => None,
        }
    }

    async fn leave(&self, wire: &Wire) -> Result<(), WireError> {
        let Some(opened) = self.opened.get() else { return Ok(()) };
        wire.ask("Target.closeTarget", json!({"targetId": opened.target})).await?;
        Ok(())
    }
}
