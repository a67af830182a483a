//! One page of a browser, steered over a [`Wire`]: opened, navigated, watched, left.
//!
//! The browser may be a process of ours, which ends with the instance, or somebody else's, in which only the page
//! is ours and only the page is closed.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Speaker, Wire, WireError, message::Event};
use crate::{
    driver::{
        DriverError, Instance,
        loss::{self, Loss, attend},
        process::{Process, Watch},
    },
    tasks::Tasks,
};

/// A browser closes a tab within 0.1 s; one that does not is not waited for.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// The few things that are asked of a browser, in one protocol's words.
pub(in crate::driver) trait Protocol: Send + Sync + 'static {
    /// A command that any living browser answers at once.
    const PING: &'static str;

    /// Finds or makes the page, and answers the browser's version.
    fn open(&self, wire: &Wire) -> impl Future<Output = Result<String, WireError>> + Send;

    /// Answers once the page's server has.
    fn navigate(&self, wire: &Wire, url: &str) -> impl Future<Output = Result<(), WireError>> + Send;

    /// What this event means for the page.
    fn fate(&self, event: &Event) -> Option<Fate>;

    /// Closes the page alone, in a browser that stays.
    fn leave(&self, wire: &Wire) -> impl Future<Output = Result<(), WireError>> + Send;
}

/// How a page can end in a browser that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Fate {
    /// Its process is gone, and another may take its place.
    Crashed,
    Closed,
}

/// Whose browser it is.
#[derive(Clone, Copy)]
pub(in crate::driver) enum Peer<'a> {
    Ours(&'a Watch),
    /// Running already, at this endpoint.
    Theirs(&'a str),
}

pub(in crate::driver) struct Opening<'a> {
    pub(in crate::driver) peer: Peer<'a>,
    pub(in crate::driver) tasks: &'a Tasks,
    pub(in crate::driver) started: Instant,
    pub(in crate::driver) deadline: Instant,
}

/// What is held of a browser that has opened its page.
pub(in crate::driver) struct Page<P> {
    pub(in crate::driver) version: String,
    protocol: Arc<P>,
    wire: Wire,
    loss: Loss,
    crash: Loss,
    leave: DropGuard,
    left: watch::Receiver<()>,
}

impl Opening<'_> {
    pub(in crate::driver) async fn open<P: Protocol>(
        &self,
        protocol: P,
        address: &str,
        url: &str,
    ) -> Result<Page<P>, DriverError> {
        let (wire, speaker) = match timeout_at(self.deadline, super::connect(address)).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(self.no_connection(&error.to_string())),
            Err(_) => return Err(self.silent("the control socket did not open")),
        };
        let protocol = Arc::new(protocol);
        let (loss, crash) = (Loss::new(), Loss::new());
        let ends = (loss.clone(), crash.clone());
        let (leave, left) = self.attend(Arc::clone(&protocol), wire.clone(), speaker, ends);
        let opened = timeout_at(self.deadline, alive(&loss, protocol.open(&wire))).await;
        let version = match opened {
            Ok(Ok(version)) => version,
            Ok(Err(message)) => return Err(self.not_steered(message)),
            Err(_) => return Err(self.silent("it took the connection and showed no page")),
        };
        let page = Page { version, protocol, wire, loss, crash, leave, left };
        page.navigate(url.to_owned(), self.deadline.saturating_duration_since(Instant::now())).await?;
        Ok(page)
    }

    /// Starts the task that moves messages and waits for the loss, until the page is left.
    fn attend<P: Protocol>(
        &self,
        protocol: Arc<P>,
        wire: Wire,
        speaker: Speaker,
        (loss, crash): (Loss, Loss),
    ) -> (DropGuard, watch::Receiver<()>) {
        let (leave, (leaving, left)) = (CancellationToken::new(), watch::channel(()));
        let asked = leave.clone();
        let (watch, stays) = match self.peer {
            Peer::Ours(watch) => (Some(watch.clone()), false),
            Peer::Theirs(_) => (None, true),
        };
        self.tasks.spawn("page", async move {
            let hear = |event: &Event| match protocol.fate(event) {
                Some(Fate::Crashed) => crash.tell("the page crashed".to_owned()),
                Some(Fate::Closed) => loss.tell("the page was closed".to_owned()),
                None => {}
            };
            let speech = async {
                tokio::select! {
                    reason = speaker.speak(hear) => reason,
                    reason = loss::ping(|| wire.ask(P::PING, json!({}))) => reason,
                }
            };
            let attended = async { loss.tell(attend(watch, speech).await) };
            let farewell = async {
                asked.cancelled().await;
                if stays && let Err(error) = bounded(protocol.leave(&wire)).await {
                    tracing::warn!(error, "the page may be left open in a browser that is not ours");
                }
            };
            tokio::select! {
                () = attended => {}
                () = farewell => {}
            }
            drop(leaving);
        });
        (leave.drop_guard(), left)
    }

    /// The address in the line that a started browser announces itself with.
    pub(in crate::driver) async fn announced(&self, announcement: &str) -> Result<String, DriverError> {
        let Peer::Ours(watch) = self.peer else { return Err(self.no_connection("it is not ours")) };
        match timeout_at(self.deadline, watch.announced()).await {
            Ok(Some(line)) => Ok(line[announcement.len()..].to_owned()),
            Ok(None) => Err(DriverError::Launch {
                program: watch.program().to_owned(),
                status: watch.ended().await,
                last_lines: watch.last_lines(),
            }),
            Err(_) => Err(self.no_connection("it announced no address")),
        }
    }

    pub(in crate::driver) fn no_connection(&self, why: &str) -> DriverError {
        match self.peer {
            Peer::Ours(watch) => DriverError::Connect {
                program: watch.program().to_owned(),
                waited_ms: self.started.elapsed().as_millis(),
                last_lines: format!("{} ({why})", watch.last_lines()),
            },
            Peer::Theirs(endpoint) => {
                DriverError::Unserved { endpoint: endpoint.to_owned(), reason: why.to_owned() }
            }
        }
    }

    pub(in crate::driver) fn silent(&self, why: &str) -> DriverError {
        match self.peer {
            Peer::Ours(_) => self.no_connection(why),
            Peer::Theirs(endpoint) => DriverError::Unanswered {
                endpoint: endpoint.to_owned(),
                waited_ms: self.started.elapsed().as_millis(),
            },
        }
    }

    fn not_steered(&self, message: String) -> DriverError {
        match self.peer {
            Peer::Ours(_) => DriverError::Navigate { message },
            Peer::Theirs(endpoint) => DriverError::Attach { endpoint: endpoint.to_owned(), message },
        }
    }
}

/// Runs a step while the browser lives.
async fn alive<T>(loss: &Loss, step: impl Future<Output = Result<T, WireError>>) -> Result<T, String> {
    tokio::select! {
        done = step => match done {
            // The loss follows at once and says more.
            Err(WireError::Closed) => Err(loss.told().await),
            done => done.map_err(|error| error.to_string()),
        },
        reason = loss.told() => Err(reason),
    }
}

async fn bounded(step: impl Future<Output = Result<(), WireError>>) -> Result<(), String> {
    match timeout(LEAVE_LIMIT, step).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LEAVE_LIMIT.as_secs())),
    }
}

impl<P: Protocol> Page<P> {
    fn navigate(
        &self,
        url: String,
        within: Duration,
    ) -> impl Future<Output = Result<(), DriverError>> + Send + use<P> {
        let (protocol, wire, loss) = (Arc::clone(&self.protocol), self.wire.clone(), self.loss.clone());
        let crash = self.crash.clone();
        async move {
            crash.forget();
            let message = match timeout(within, alive(&loss, protocol.navigate(&wire, &url))).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(message)) => message,
                Err(_) => format!("the page's server did not answer within {} ms", within.as_millis()),
            };
            Err(DriverError::Navigate { message })
        }
    }
}

/// A browser that has opened its page.
pub(in crate::driver) struct PageInstance<P> {
    pub(in crate::driver) page: Page<P>,
    /// Absent when the browser is not ours.
    pub(in crate::driver) process: Option<Process>,
    pub(in crate::driver) sandbox: Option<bool>,
    pub(in crate::driver) flags: Vec<String>,
}

impl<P: Protocol> Instance for PageInstance<P> {
    fn version(&self) -> &str {
        &self.page.version
    }

    fn sandbox(&self) -> Option<bool> {
        self.sandbox
    }

    fn flags(&self) -> &[String] {
        &self.flags
    }

    fn process(&self) -> Option<i32> {
        self.process.as_ref().map(Process::pid)
    }

    fn navigate(&self, url: String, within: Duration) -> BoxFuture<'static, Result<(), DriverError>> {
        self.page.navigate(url, within).boxed()
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        self.page.loss.told().boxed()
    }

    fn crashed(&self) -> BoxFuture<'static, String> {
        self.page.crash.told().boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { page: Page { loss, leave, mut left, .. }, process, .. } = *self;
        async move {
            loss.closed();
            drop(leave);
            // The sender goes with the task that says farewell.
            let _ = left.changed().await;
            if let Some(process) = process {
                process.end().await;
            }
        }
        .boxed()
    }
}
