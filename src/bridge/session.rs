//! One handshaken link: control messages pass large bodies, and the reader puts bodies together.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    domain::Body,
    protocol::{
        frame::{self, Frame, PAYLOAD_MESSAGE_MAX},
        link::Payload,
    },
    socket::{self, Ended, Limits, Outgoing, PATIENCE, Place, Socket},
};

/// What a link takes. A header frame holds at most one payload message's worth of tensors and its JSON.
/// A lane has two steps in flight, so more messages that wait mean that the browser stopped reading.
pub(super) const LIMITS: Limits = Limits { message: 2 * PAYLOAD_MESSAGE_MAX, places: 64, patience: PATIENCE };

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
    socket: socket::Sender,
}

pub struct LinkReceiver {
    socket: socket::Reader,
}

impl Session {
    pub(super) fn new(Socket { reader, sender }: Socket) -> Self {
        Self { sender: LinkSender { socket: sender }, receiver: LinkReceiver { socket: reader } }
    }
}

impl LinkSender {
    /// Sends a message without a body, ahead of bodies that are still being written.
    pub fn control<M: Serialize>(&self, message: &M) -> Result<(), LinkClosed> {
        let text = serde_json::to_string(message).expect("messages hold only strings, numbers and lists");
        self.place()?.send_urgent(Outgoing::Text(text)).map_err(|closed| LinkClosed::new(closed.to_string()))
    }

    /// Sends a message with its body, behind earlier ones.
    /// `message` gets the payload announcement when the body travels in messages of its own.
    pub fn frame<M: Serialize>(
        &self,
        message: impl FnOnce(Option<Payload>) -> M,
        body: Body,
    ) -> Result<(), LinkClosed> {
        let place = self.place()?;
        let sent = if body.len() <= PAYLOAD_MESSAGE_MAX {
            place.send(Outgoing::Binary { head: frame::head(&message(None)), body }, None)
        } else {
            let announced = Payload { messages: frame::payload_messages(&body).count(), bytes: body.len() };
            let head =
                Outgoing::Binary { head: frame::head(&message(Some(announced))), body: Body::default() };
            let payload = frame::payload_messages(&body);
            let payload = payload.map(|body| Outgoing::Binary { head: Vec::new(), body });
            place.send_all(std::iter::once(head).chain(payload))
        };
        sent.map_err(|closed| LinkClosed::new(closed.to_string()))
    }

    fn place(&self) -> Result<Place, LinkClosed> {
        self.socket.reserve().ok_or_else(|| {
            LinkClosed::new(if self.socket.is_closed() {
                "the link is closed"
            } else {
                "the browser has stopped reading its link"
            })
        })
    }
}

impl LinkReceiver {
    /// The next message, its body complete.
    pub async fn receive<M: Message>(&mut self) -> Result<Received<M>, LinkClosed> {
        let frame = match self.next().await? {
            socket::Message::Text(text) => {
                return Ok(Received { message: parse(&text)?, body: Body::default() });
            }
            socket::Message::Binary(body) => {
                Frame::split(&body.contiguous()).map_err(|error| LinkClosed::new(error.to_string()))?
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
                socket::Message::Binary(part) if part.len() <= PAYLOAD_MESSAGE_MAX => body.append(&part),
                socket::Message::Binary(_) => return Err(LinkClosed::new("a payload message is over 1 MiB")),
                socket::Message::Text(_) => {
                    return Err(LinkClosed::new("a text message came in the middle of a body"));
                }
            }
        }
        if body.len() == payload.bytes {
            return Ok(body);
        }
        Err(LinkClosed::new(format!("{} bytes were announced, {} came", payload.bytes, body.len())))
    }

    async fn next(&mut self) -> Result<socket::Message, LinkClosed> {
        self.socket.next().await.map_err(|ended| {
            LinkClosed::new(match ended {
                Ended::Closed { code, reason } => {
                    format!("the browser closed the link {code} {reason}").trim_end().to_owned()
                }
                ended => format!("the link broke: {ended}"),
            })
        })
    }
}

fn parse<M: Message>(header: &str) -> Result<M, LinkClosed> {
    serde_json::from_str(header).map_err(|error| LinkClosed::new(format!("a message does not fit: {error}")))
}
