//! Why a browser was lost: told once, by whichever watcher notices first, to whoever waits.

use std::sync::Arc;

use tokio::sync::watch;

/// Why the browser was lost, once it is; the first reason stays.
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
