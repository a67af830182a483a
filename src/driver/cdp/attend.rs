//! What chromiumoxide's side of a browser says about its end, and about its page's.

use std::sync::Arc;

use chromiumoxide::{
    Browser, Handler,
    cdp::browser_protocol::{browser::GetVersionParams, target},
    listeners::EventStream,
};
use futures_util::StreamExt as _;

use super::tab::Tab;
use crate::driver::loss::{self, Loss};

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

/// What the browser says about the page's end.
pub(super) struct PageEnds {
    pub(super) tab: Arc<Tab>,
    pub(super) crashed: EventStream<target::EventTargetCrashed>,
    pub(super) destroyed: EventStream<target::EventTargetDestroyed>,
}

impl PageEnds {
    /// Tells of each crash, and resolves when the page is closed; never when its streams end, which means that the
    /// socket did.
    pub(super) async fn closed(mut self, crash: Loss) -> String {
        loop {
            tokio::select! {
                Some(crashed) = self.crashed.next() => {
                    if self.tab.is(&crashed.target_id) {
                        crash.tell(format!("the page crashed ({}, code {})", crashed.status, crashed.error_code));
                    }
                }
                Some(gone) = self.destroyed.next() => {
                    if self.tab.is(&gone.target_id) {
                        return "the page was closed".to_owned();
                    }
                }
                else => std::future::pending().await,
            }
        }
    }
}
