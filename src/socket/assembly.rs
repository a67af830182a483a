//! Puts messages together from a client's frames (RFC 6455, section 5). Pure: it knows neither the socket nor what is
//! answered.

use bytes::BytesMut;

use super::frame::{Header, Opcode, unmask};
use crate::domain::Body;

/// Shorter fragments are joined, so that a message in many pieces takes little more memory than its bytes.
const FRAGMENT_MIN: usize = 16 << 10;

/// What a socket is closed with when the other end breaks the protocol (RFC 6455, section 7.4).
pub(super) const PROTOCOL_ERROR: u16 = 1002;
pub(super) const NOT_UTF8: u16 = 1007;

/// What a close frame without a code stands for; it is never sent.
pub(super) const NO_STATUS: u16 = 1005;

/// A message as it came; the parts of a binary one are as they were read.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Text(String),
    Binary(Body),
}

/// What frames have brought.
#[derive(Debug, PartialEq)]
pub(super) enum Came {
    Message(Message),
    Ping(BytesMut),
    Close { code: u16, reason: String },
}

/// Why nothing more can be taken.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// The other end breaks the protocol, and is told so with `code`.
    Wrong {
        code: u16,
        what: &'static str,
    },
    TooBig,
}

fn wrong(what: &'static str) -> Fault {
    Fault::Wrong { code: PROTOCOL_ERROR, what }
}

pub(super) struct Assembly {
    message_max: usize,
    frame: Option<Frame>,
    message: Option<Partial>,
}

/// A frame whose payload is coming.
pub(super) struct Frame {
    header: Header,
    pub(super) payload: BytesMut,
}

/// A message whose last frame has not come.
struct Partial {
    text: bool,
    body: Body,
    /// Fragments that are too short for parts of their own.
    short: BytesMut,
}

impl Assembly {
    pub(super) fn new(message_max: usize) -> Self {
        Self { message_max, frame: None, message: None }
    }

    /// The frame whose payload is coming.
    pub(super) fn frame(&mut self) -> Option<&mut Frame> {
        self.frame.as_mut()
    }

    /// Takes in bytes until something has come or no more can be taken; answers with how many that were.
    /// What is left of them is to be shown again, with what follows.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Came>), Fault> {
        let mut taken = 0;
        loop {
            let left = &bytes[taken..];
            let Some(frame) = &mut self.frame else {
                let Some((header, len)) = Header::read(left).map_err(wrong)? else {
                    return Ok((taken, None));
                };
                taken += len;
                self.frame = Some(self.begin(header)?);
                continue;
            };
            let payload = frame.lacks().min(left.len());
            frame.take(&left[..payload]);
            taken += payload;
            if frame.lacks() > 0 {
                return Ok((taken, None));
            }
            let Some(frame) = self.frame.take() else { return Ok((taken, None)) };
            if let Some(came) = self.finish(frame)? {
                return Ok((taken, Some(came)));
            }
        }
    }

    /// Checks a frame's header against what came before it.
    fn begin(&self, header: Header) -> Result<Frame, Fault> {
        let Header { opcode, len, .. } = header;
        if !opcode.is_control() && (opcode == Opcode::Continuation) != self.message.is_some() {
            return Err(wrong("a message began within another, or went on before it began"));
        }
        let before = self.message.as_ref().map_or(0, Partial::len);
        let fits = |len: &usize| *len <= self.message_max.saturating_sub(before);
        match usize::try_from(len).ok().filter(|len| opcode.is_control() || fits(len)) {
            Some(len) => Ok(Frame { header, payload: BytesMut::with_capacity(len) }),
            None => Err(Fault::TooBig),
        }
    }

    /// What a whole frame completes.
    fn finish(&mut self, Frame { header, payload }: Frame) -> Result<Option<Came>, Fault> {
        match header.opcode {
            Opcode::Ping => return Ok(Some(Came::Ping(payload))),
            Opcode::Pong => {}
            Opcode::Close => return close(&payload).map(Some),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let text = header.opcode == Opcode::Text;
                let message = self.message.get_or_insert_with(|| Partial::new(text));
                message.add(payload);
                if header.last
                    && let Some(whole) = self.message.take()
                {
                    return whole.finish().map(|message| Some(Came::Message(message)));
                }
            }
        }
        Ok(None)
    }
}

fn close(payload: &[u8]) -> Result<Came, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        if !payload.is_empty() {
            return Err(wrong("a close frame ends within its code"));
        }
        return Ok(Came::Close { code: NO_STATUS, reason: String::new() });
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(wrong("a close frame has a code that nobody may send"));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Came::Close { code, reason: reason.to_owned() }),
        Err(_) => Err(Fault::Wrong { code: NOT_UTF8, what: "a close frame's reason is not UTF-8" }),
    }
}

/// Whether a close frame may have this code: those of the protocol that stand for no event of one's own, and those
/// left to libraries and applications.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl Frame {
    /// Bytes that have not come.
    pub(super) fn lacks(&self) -> usize {
        self.header.len as usize - self.payload.len()
    }

    /// Takes the mask off the payload from this byte on.
    pub(super) fn unmask(&mut self, from: usize) {
        unmask(&mut self.payload[from..], self.header.mask, from);
    }

    fn take(&mut self, bytes: &[u8]) {
        let from = self.payload.len();
        self.payload.extend_from_slice(bytes);
        self.unmask(from);
    }
}

impl Partial {
    fn new(text: bool) -> Self {
        Self { text, body: Body::default(), short: BytesMut::new() }
    }

    fn len(&self) -> usize {
        self.body.len() + self.short.len()
    }

    fn add(&mut self, fragment: BytesMut) {
        if fragment.len() < FRAGMENT_MIN {
            if self.short.is_empty() {
                self.short = fragment;
            } else {
                self.short.extend_from_slice(&fragment);
            }
        } else {
            self.body.push(self.short.split().freeze());
            self.body.push(fragment.freeze());
        }
    }

    fn finish(self) -> Result<Message, Fault> {
        let Self { text, mut body, short } = self;
        body.push(short.freeze());
        if !text {
            return Ok(Message::Binary(body));
        }
        match String::from_utf8(body.contiguous().into()) {
            Ok(text) => Ok(Message::Text(text)),
            Err(_) => Err(Fault::Wrong { code: NOT_UTF8, what: "a text message is not UTF-8" }),
        }
    }
}
