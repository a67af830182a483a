//! What chromiumoxide's side of a browser says about its end, and about its page's.

use std::sync::Arc;

use chromiumoxide::{
    Browser, Handler,
    cdp::browser_protocol::{browser::GetVersionParams, inspector, target},
    listeners::EventStream,
};
use futures_util::StreamExt as _;

use crate::driver::loss;

/// Drives the socket until it fails or the browser is silent; answers with the reason.
pub(super) async fn speak(handler: Handler, browser: Arc<Browser>) -> String {
    tokio::select! {
        reason = drive(handler) => reason,
        reason = loss::ping(|| browser.execute(GetVersionParams::default())) => reason,
    }
}

/// Moves messages. After a clean close the library says nothing more, which the ping is there to notice.
async fn drive(mut handler: Handler) -> String {
    loop {
        match handler.next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => return format!("the control socket failed: {error}"),
            None => return "the control socket was closed".to_owned(),
        }
    }
}

/// What the browser and the page's own session say about the page's end.
pub(super) struct PageEnds {
    pub(super) id: target::TargetId,
    pub(super) crashed: EventStream<target::EventTargetCrashed>,
    pub(super) destroyed: EventStream<target::EventTargetDestroyed>,
    pub(super) inspected: EventStream<inspector::EventTargetCrashed>,
}

impl PageEnds {
    /// Resolves when the page is no more; never when its streams end, which means that the socket did.
    pub(super) async fn any(mut self) -> String {
        loop {
            tokio::select! {
                Some(crash) = self.crashed.next() => {
                    if crash.target_id == self.id {
                        return format!("the page crashed ({}, code {})", crash.status, crash.error_code);
                    }
                }
                Some(gone) = self.destroyed.next() => {
                    if gone.target_id == self.id {
                        return "the page was closed".to_owned();
                    }
                }
                Some(_) = self.inspected.next() => return "the page crashed".to_owned(),
                else => std::future::pending().await,
            }
        }
    }
}
