//! What is asked of a page, in `WebDriver` `BiDi`'s words.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::driver::wire::{
    Wire, WireError,
    message::Event,
    page::{Fate, Protocol},
};

/// Firefox has no event for a page's crash; these two are what it does tell.
const EVENTS: [&str; 2] = ["browsingContext.contextDestroyed", "browsingContext.navigationCommitted"];

/// The page of a browser, known by its context once it is open.
pub(super) struct Bidi {
    /// The browser is ours, and so is its first tab.
    own: bool,
    context: OnceLock<String>,
    /// Our page was shown: whatever comes in its place now is its end.
    shown: AtomicBool,
}

impl Bidi {
    pub(super) fn own() -> Self {
        Self { own: true, context: OnceLock::new(), shown: AtomicBool::new(false) }
    }

    pub(super) fn guest() -> Self {
        Self { own: false, ..Self::own() }
    }

    #[cfg(test)]
    pub(super) fn showing(context: &str, shown: bool) -> Self {
        let known = OnceLock::from(context.to_owned());
        Self { context: known, shown: AtomicBool::new(shown), ..Self::own() }
    }

    async fn tab(&self, wire: &Wire) -> Result<String, WireError> {
        let (method, answer, place) = if self.own {
            let method = "browsingContext.getTree";
            (method, wire.ask(method, json!({"maxDepth": 0})).await?, "/contexts/0/context")
        } else {
            // In the background: the tab that somebody looks at stays in front.
            let method = "browsingContext.create";
            (method, wire.ask(method, json!({"type": "tab", "background": true})).await?, "/context")
        };
        text(&answer, place).ok_or(WireError::Incomplete { method, missing: "a browsing context" })
    }
}

fn text(answer: &Value, place: &str) -> Option<String> {
    answer.pointer(place)?.as_str().map(str::to_owned)
}

impl Protocol for Bidi {
    const PING: &'static str = "session.status";

    async fn open(&self, wire: &Wire) -> Result<String, WireError> {
        let method = "session.new";
        let session = wire.ask(method, json!({"capabilities": {}})).await?;
        let version = text(&session, "/capabilities/browserVersion")
            .ok_or(WireError::Incomplete { method, missing: "the browser's version" })?;
        let tab = self.tab(wire).await?;
        // Only of our own page: a browser that is not ours may have hundreds.
        let wanted = json!({"events": EVENTS, "contexts": [tab]});
        // Set first, so that the tab is closed if it cannot be watched.
        let known = self.context.set(tab);
        debug_assert!(known.is_ok(), "a page is opened once");
        wire.ask("session.subscribe", wanted).await?;
        Ok(version)
    }

    async fn navigate(&self, wire: &Wire, url: &str) -> Result<(), WireError> {
        self.shown.store(false, Ordering::Release);
        let context = self.context.get();
        wire.ask("browsingContext.navigate", json!({"context": context, "url": url, "wait": "none"})).await?;
        self.shown.store(true, Ordering::Release);
        Ok(())
    }

    fn fate(&self, event: &Event) -> Option<Fate> {
        let context = event.params.get("context")?.as_str()?;
        if Some(context) != self.context.get().map(String::as_str) {
            return None;
        }
        let url = event.params.get("url").and_then(Value::as_str).unwrap_or_default();
        match event.method.as_str() {
            "browsingContext.contextDestroyed" => Some(Fate::Closed),
            // In front, a tab whose process died shows this page; behind, it is emptied until somebody looks.
            "browsingContext.navigationCommitted" if self.shown.load(Ordering::Acquire) => {
                let crashed = url.starts_with("about:tabcrashed") || url == "about:blank";
                crashed.then_some(Fate::Crashed)
            }
            _ => None,
        }
    }

    async fn leave(&self, wire: &Wire) -> Result<(), WireError> {
        if let Some(context) = self.context.get() {
            wire.ask("browsingContext.close", json!({"context": context})).await?;
        }
        wire.ask("session.end", json!({})).await?;
        Ok(())
    }
}
