//! A control socket of ours: commands with their answers, in any order, and events.
//!
//! It bounds what waits and what a message may weigh, and never waits by itself: whoever asks sets the limit.

pub mod message;
pub(super) mod page;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use self::message::{Event, Incoming, Refusal};

/// Answers are a few KiB; an address that a page made up may be long.
const MESSAGE_BYTES: usize = 4 << 20;

/// Commands that wait to be sent: a page is asked one thing at a time, beside the signs of life.
const INBOX: usize = 16;

/// Commands that wait for an answer. One whose asker has gone makes room.
const PENDING: usize = 64;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{0}")]
    Connect(#[from] Box<tungstenite::Error>),
    #[error("the control socket is closed")]
    Closed,
    #[error("{PENDING} commands wait for the browser's answer already")]
    Busy,
    #[error("the browser refused {method}: {refusal}")]
    Refused { method: &'static str, refusal: Refusal },
    #[error("{0}")]
    Page(String),
    #[error("the browser answered {method} without {missing}")]
    Incomplete { method: &'static str, missing: &'static str },
}

struct Ask {
    session: Option<Arc<str>>,
    method: &'static str,
    params: Value,
    answer: oneshot::Sender<Result<Value, WireError>>,
}

/// Where commands are given. Clones share the socket.
#[derive(Clone)]
pub(super) struct Wire {
    asks: mpsc::Sender<Ask>,
}

/// The socket's other side, to be driven by a task.
pub(super) struct Speaker {
    socket: Socket,
    asks: mpsc::Receiver<Ask>,
}

pub(super) async fn connect(address: &str) -> Result<(Wire, Speaker), WireError> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
    let (socket, _) = connect_async_with_config(address, Some(config), true).await.map_err(Box::new)?;
    let (sender, asks) = mpsc::channel(INBOX);
    Ok((Wire { asks: sender }, Speaker { socket, asks }))
}

impl Wire {
    /// The answer's result. It waits as long as the caller does.
    pub(super) async fn ask(&self, method: &'static str, params: Value) -> Result<Value, WireError> {
        self.ask_in(None, method, params).await
    }

    pub(super) async fn ask_in(
        &self,
        session: Option<Arc<str>>,
        method: &'static str,
        params: Value,
    ) -> Result<Value, WireError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { session, method, params, answer };
        self.asks.send(ask).await.map_err(|_| WireError::Closed)?;
        answered.await.unwrap_or(Err(WireError::Closed))
    }
}

impl Speaker {
    /// Moves messages until the socket ends; answers with the reason.
    pub(super) async fn speak(self, hear: impl Fn(&Event)) -> String {
        let (sink, stream) = self.socket.split();
        let mut exchange = Exchange { sink, pending: HashMap::new(), last: 0 };
        exchange.run(stream, self.asks, hear).await
    }
}

struct Exchange {
    sink: SplitSink<Socket, Message>,
    pending: HashMap<u64, (&'static str, oneshot::Sender<Result<Value, WireError>>)>,
    last: u64,
}

impl Exchange {
    async fn run(
        &mut self,
        mut stream: SplitStream<Socket>,
        mut asks: mpsc::Receiver<Ask>,
        hear: impl Fn(&Event),
    ) -> String {
        loop {
            let said = tokio::select! {
                message = stream.next() => match message {
                    Some(Ok(message)) => self.heard(&message, &hear),
                    Some(Err(error)) => Some(format!("the control socket failed: {error}")),
                    None => Some("the control socket was closed".to_owned()),
                },
                Some(ask) = asks.recv() => self.send(ask).await,
            };
            if let Some(reason) = said {
                return reason;
            }
        }
    }

    async fn send(&mut self, ask: Ask) -> Option<String> {
        self.pending.retain(|_, (_, answer)| !answer.is_closed());
        if self.pending.len() >= PENDING {
            // Whoever has stopped waiting need not know.
            let _ = ask.answer.send(Err(WireError::Busy));
            return None;
        }
        self.last += 1;
        let text = message::command(self.last, ask.session.as_deref(), ask.method, &ask.params);
        self.pending.insert(self.last, (ask.method, ask.answer));
        let sent = self.sink.send(Message::text(text)).await;
        sent.err().map(|error| format!("the control socket failed: {error}"))
    }

    fn heard(&mut self, message: &Message, hear: &impl Fn(&Event)) -> Option<String> {
        let text = match message {
            Message::Text(text) => text.as_str(),
            Message::Close(_) => return Some("the control socket was closed".to_owned()),
            // Pings are answered by the library; nothing else carries anything.
            _ => return None,
        };
        match message::read(text) {
            Ok(Incoming::Answer { id, outcome }) => self.answered(id, outcome),
            Ok(Incoming::Event(event)) => hear(&event),
            Ok(Incoming::Complaint(refusal)) => tracing::warn!(%refusal, "the browser complains"),
            // Protocols grow; what is new to us is no answer that somebody waits for.
            Err(error) => tracing::warn!(%error, bytes = text.len(), "passed over"),
        }
        None
    }

    fn answered(&mut self, id: u64, outcome: Result<Value, Refusal>) {
        match self.pending.remove(&id) {
            // Whoever has stopped waiting need not know.
            Some((method, answer)) => {
                let _ = answer.send(outcome.map_err(|refusal| WireError::Refused { method, refusal }));
            }
            None => tracing::debug!(id, "an answer that nobody waits for"),
        }
    }
}
