//! Notices that a browser or its page is lost, in whichever way.

use std::{sync::Arc, time::Duration};

use chromiumoxide::{
    Browser, Handler,
    cdp::browser_protocol::{browser::GetVersionParams, inspector, target},
    listeners::EventStream,
};
use futures_util::StreamExt as _;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::driver::process::Watch;

/// An unanswered sign of life is at most this much older than the loss; one costs the browser 0.1 ms.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The browser's main thread computes nothing; only a stopped or starved one is silent for so long.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// A dying browser closes its socket first; its end follows within milliseconds and says more.
const EXIT_FOLLOWS: Duration = Duration::from_millis(300);

/// Drives the socket until the browser is lost; answers with the reason.
pub(super) async fn attend(handler: Handler, browser: Arc<Browser>, watch: Watch) -> String {
    let reason = tokio::select! {
        status = watch.ended() => return describe(&status, &watch),
        reason = drive(handler) => reason,
        reason = ping(&browser) => reason,
    };
    match timeout(EXIT_FOLLOWS, watch.ended()).await {
        Ok(status) => describe(&status, &watch),
        Err(_) => reason,
    }
}

fn describe(status: &str, watch: &Watch) -> String {
    format!("the browser ended ({status}); its last words: {}", watch.last_lines())
}

/// Moves messages. After a clean close the library says nothing more, which [`ping`] is there to notice.
async fn drive(mut handler: Handler) -> String {
    loop {
        match handler.next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => return format!("the control socket failed: {error}"),
            None => return "the control socket was closed".to_owned(),
        }
    }
}

async fn ping(browser: &Browser) -> String {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(PING_LIMIT, browser.execute(GetVersionParams::default())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return format!("the browser gave no sign of life: {error}"),
            Err(_) => return format!("the browser gave no sign of life for {} s", PING_LIMIT.as_secs()),
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
