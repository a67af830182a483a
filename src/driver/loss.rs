//! Notices that a browser is lost, in whichever way. How a driver speaks with its browser is the driver's own.

use std::{fmt::Display, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::process::Watch;

/// An unanswered sign of life is at most this much older than the loss; one costs the browser 0.1 to 1 ms.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The browser's main thread computes nothing; only a stopped or starved one is silent for so long.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// A dying browser closes its socket first; its end follows within milliseconds and says more.
const EXIT_FOLLOWS: Duration = Duration::from_millis(300);

/// Why the browser was lost, or its page crashed, once it is so; the first reason stays.
#[derive(Clone, Debug)]
pub(super) struct Loss(Arc<watch::Sender<Option<String>>>);

impl Loss {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(super) fn tell(&self, reason: String) {
        self.0.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(reason);
            }
            first
        });
    }

    /// Another page takes the crashed one's place; says whether one has crashed.
    pub(super) fn forget(&self) -> bool {
        self.0.send_replace(None).is_some()
    }

    /// Answers those who still wait for the loss.
    pub(super) fn closed(&self) {
        self.tell("the browser was closed".to_owned());
    }

    pub(super) fn told(&self) -> impl Future<Output = String> + Send + use<> {
        let mut seen = self.0.subscribe();
        let hold = self.clone();
        async move {
            let told = seen.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
            drop(hold);
            told.expect("the sender is held here, and waited for until it has told")
        }
    }
}

/// Waits until the browser is lost; `speech` resolves with what the control connection knows of it.
/// A browser that we did not start has no process to watch.
pub(super) async fn attend(watch: Option<Watch>, speech: impl Future<Output = String>) -> String {
    let Some(watch) = watch else { return speech.await };
    let reason = tokio::select! {
        status = watch.ended() => return describe(&status, &watch),
        reason = speech => reason,
    };
    match timeout(EXIT_FOLLOWS, watch.ended()).await {
        Ok(status) => describe(&status, &watch),
        Err(_) => reason,
    }
}

fn describe(status: &str, watch: &Watch) -> String {
    format!("the browser ended ({status}); its last words: {}", watch.last_lines())
}

/// Asks for a sign of life, again and again, until none comes.
pub(super) async fn ping<F, T, E: Display>(ask: impl Fn() -> F) -> String
where
    F: Future<Output = Result<T, E>>,
{
    // The opening's own commands show that it lives now.
    let mut ticks = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(PING_LIMIT, ask()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return format!("the browser gave no sign of life: {error}"),
            Err(_) => return format!("the browser gave no sign of life for {} s", PING_LIMIT.as_secs()),
        }
    }
}
