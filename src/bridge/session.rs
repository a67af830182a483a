//! One handshaken link: a writer task that lets control messages pass large bodies, and a reader that joins bodies.

use axum::extract::ws::{self, WebSocket};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use crate::{
    domain::Body,
    protocol::{
        frame::{self, Frame, PAYLOAD_MESSAGE_MAX},
        link::Payload,
    },
    tasks::Tasks,
};

/// Messages that wait for the socket. A lane has two steps in flight, so more means that the browser stopped reading.
const OUTBOX: usize = 64;

/// The largest body that a lane may send; what a client can be sent is bounded separately.
const BODY_MAX: usize = 1 << 30;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct LinkClosed {
    pub reason: String,
}

impl LinkClosed {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// What a message says about its body.
pub trait Message: DeserializeOwned {
    fn payload(&self) -> Option<Payload> {
        None
    }
}

/// A message with its body.
#[derive(Debug)]
pub struct Received<M> {
    pub message: M,
    pub body: Body,
}

pub struct Session {
    pub sender: LinkSender,
    pub receiver: LinkReceiver,
}

/// The sending half. Clones share the link; it closes when all are gone.
#[derive(Clone)]
pub struct LinkSender {
    control: mpsc::Sender<ws::Message>,
    frames: mpsc::Sender<(ws::Message, Body)>,
}

pub struct LinkReceiver {
    socket: SplitStream<WebSocket>,
}

impl Session {
    pub(super) fn start(socket: WebSocket, tasks: &Tasks) -> Self {
        let (sink, socket) = socket.split();
        let (control, control_inbox) = mpsc::channel(OUTBOX);
        let (frames, frame_inbox) = mpsc::channel(OUTBOX);
        tasks.spawn("link writer", write(sink, control_inbox, frame_inbox));
        Self { sender: LinkSender { control, frames }, receiver: LinkReceiver { socket } }
    }
}

impl LinkSender {
    /// Sends a message without a body, ahead of bodies that are still being written.
    pub fn control<M: Serialize>(&self, message: &M) -> Result<(), LinkClosed> {
        let text = serde_json::to_string(message).expect("messages hold only strings, numbers and lists");
        self.control.try_send(ws::Message::Text(text.into())).map_err(|error| closed(&error))
    }

    /// Sends a message with its body, behind earlier ones.
    /// `message` gets the payload announcement when the body travels in messages of its own.
    pub fn frame<M: Serialize>(
        &self,
        message: impl FnOnce(Option<Payload>) -> M,
        body: Body,
    ) -> Result<(), LinkClosed> {
        let (head, payload) = if body.len() <= PAYLOAD_MESSAGE_MAX {
            (frame::encode(&message(None), &body), Body::default())
        } else {
            let announced = Payload { messages: frame::payload_messages(&body).count(), bytes: body.len() };
            (frame::encode(&message(Some(announced)), &Body::default()), body)
        };
        self.frames.try_send((ws::Message::Binary(head), payload)).map_err(|error| closed(&error))
    }
}

fn closed<T>(error: &mpsc::error::TrySendError<T>) -> LinkClosed {
    LinkClosed::new(match error {
        mpsc::error::TrySendError::Full(_) => "the browser has stopped reading its link",
        mpsc::error::TrySendError::Closed(_) => "the link is closed",
    })
}

async fn write(
    mut sink: SplitSink<WebSocket, ws::Message>,
    mut control: mpsc::Receiver<ws::Message>,
    mut frames: mpsc::Receiver<(ws::Message, Body)>,
) {
    let result: Result<(), axum::Error> = async {
        loop {
            tokio::select! {
                biased;
                Some(message) = control.recv() => sink.send(message).await?,
                Some((head, body)) = frames.recv() => {
                    sink.send(head).await?;
                    for part in frame::payload_messages(&body) {
                        sink.send(ws::Message::Binary(part)).await?;
                        while let Ok(message) = control.try_recv() {
                            sink.send(message).await?;
                        }
                    }
                }
                else => return sink.close().await,
            }
        }
    }
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "link writer ended");
    }
}

impl LinkReceiver {
    /// The next message, its body complete.
    pub async fn receive<M: Message>(&mut self) -> Result<Received<M>, LinkClosed> {
        let frame = match self.next().await? {
            Incoming::Text(text) => return Ok(Received { message: parse(&text)?, body: Body::default() }),
            Incoming::Binary(bytes) => {
                Frame::split(&bytes).map_err(|error| LinkClosed::new(error.to_string()))?
            }
        };
        let message: M = parse(frame.header())?;
        let Some(payload) = message.payload() else {
            return Ok(Received { message, body: frame.body.into() });
        };
        Ok(Received { message, body: self.payload(payload).await? })
    }

    async fn payload(&mut self, payload: Payload) -> Result<Body, LinkClosed> {
        if payload.bytes > BODY_MAX || payload.messages > payload.bytes {
            return Err(LinkClosed::new(format!(
                "a body of {} bytes is announced, over {BODY_MAX}",
                payload.bytes
            )));
        }
        let mut body = Body::default();
        for _ in 0..payload.messages {
            match self.next().await? {
                Incoming::Binary(part) if part.len() <= PAYLOAD_MESSAGE_MAX => body.push(part),
                Incoming::Binary(_) => return Err(LinkClosed::new("a payload message is over 1 MiB")),
                Incoming::Text(_) => {
                    return Err(LinkClosed::new("a text message came in the middle of a body"));
                }
            }
        }
        if body.len() == payload.bytes {
            return Ok(body);
        }
        Err(LinkClosed::new(format!("{} bytes were announced, {} came", payload.bytes, body.len())))
    }

    async fn next(&mut self) -> Result<Incoming, LinkClosed> {
        loop {
            match self.socket.next().await {
                Some(Ok(ws::Message::Text(text))) => return Ok(Incoming::Text(text)),
                Some(Ok(ws::Message::Binary(bytes))) => return Ok(Incoming::Binary(bytes)),
                Some(Ok(ws::Message::Ping(_) | ws::Message::Pong(_))) => {}
                Some(Ok(ws::Message::Close(frame))) => {
                    let said =
                        frame.map(|frame| format!("{} {}", frame.code, frame.reason)).unwrap_or_default();
                    return Err(LinkClosed::new(format!("the browser closed the link {said}").trim_end()));
                }
                Some(Err(error)) => return Err(LinkClosed::new(format!("the link broke: {error}"))),
                None => return Err(LinkClosed::new("the link ended")),
            }
        }
    }
}

enum Incoming {
    Text(ws::Utf8Bytes),
    Binary(bytes::Bytes),
}

fn parse<M: Message>(header: &str) -> Result<M, LinkClosed> {
    serde_json::from_str(header).map_err(|error| LinkClosed::new(format!("a message does not fit: {error}")))
}
