//! What subscribers are told as it happens: bounded, lossy for slow readers, never in a request's way.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::Value;
use tokio::sync::broadcast;

use crate::protocol::client::Topic;

/// Events kept for a slow reader; at a thousand requests a second it may fall one second behind.
const KEPT: usize = 1024;

#[derive(Debug)]
pub struct Event {
    pub topic: Topic,
    pub seq: u64,
    pub event: Value,
}

/// The daemon's events. Clones share the stream.
#[derive(Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    seq: Arc<AtomicU64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(KEPT), seq: Arc::default() }
    }
}

impl Events {
    /// Tells subscribers; `event` is not even built when there are none.
    pub fn publish(&self, topic: Topic, event: impl FnOnce() -> Value) {
        if self.sender.receiver_count() > 0 {
            let seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
            // The last subscriber may have left meanwhile.
            let _ = self.sender.send(Arc::new(Event { topic, seq, event: event() }));
        }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.subscribe()
    }
}
