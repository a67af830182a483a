//! One OS thread that owns a state and does one job on it at a time, in the order in which they came.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
};

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use crate::{
    backend::BackendError,
    domain::{Code, Retry},
};

/// One step computes and one waits; loads, unloads and steps whose callers gave up share the rest.
pub(super) const QUEUE: usize = 16;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// What becomes of a job whose future is dropped before the job began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    Skips,
    Runs,
}

/// The thread's handle. Dropping it ends the thread after the jobs that it was given.
pub(super) struct Worker<S> {
    jobs: SyncSender<Job<S>>,
    ended: watch::Receiver<Option<String>>,
}

impl<S: Send + 'static> Worker<S> {
    pub(super) fn start(name: String, state: S) -> io::Result<Self> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let (end, ended) = watch::channel(None);
        thread::Builder::new().name(name).spawn(move || {
            let reason = match catch_unwind(AssertUnwindSafe(move || work(state, &inbox))) {
                Ok(()) => "the lane was closed".to_owned(),
                Err(panic) => format!("the lane's thread panicked: {}", panic_text(panic.as_ref())),
            };
            end.send_replace(Some(reason));
        })?;
        Ok(Self { jobs, ended })
    }

    /// Queues the job at once; the future brings its answer.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        dropped: Dropped,
        job: impl FnOnce(&mut S) -> Result<T, BackendError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, BackendError>> {
        let (reply, answer) = oneshot::channel();
        let queued = self.jobs.try_send(Box::new(move |state| {
            if dropped == Dropped::Runs || !reply.is_closed() {
                // A caller that gave up meanwhile does not want the answer.
                let _ = reply.send(job(state));
            }
        }));
        let full = matches!(queued, Err(TrySendError::Full(_)));
        let ended = self.ended();
        Box::pin(async move {
            if full {
                let message = format!("{QUEUE} jobs wait for the lane already");
                return Err(BackendError::Execute { message, code: Code::Overloaded, retry: Retry::Same });
            }
            match answer.await {
                Ok(answer) => answer,
                // The job was dropped unanswered, so the thread has ended or is about to.
                Err(_) => Err(BackendError::Lost { reason: ended.await }),
            }
        })
    }

    /// Resolves with the reason once the thread has ended.
    pub(super) fn ended(&self) -> BoxFuture<'static, String> {
        let mut ended = self.ended.clone();
        Box::pin(async move {
            let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            reason.expect("the thread says why it ends before it drops the sender")
        })
    }
}

fn work<S>(mut state: S, inbox: &Receiver<Job<S>>) {
    while let Ok(job) = inbox.recv() {
        job(&mut state);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
