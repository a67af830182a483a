//! The reading half: puts messages together from frames, and answers pings and the other end's close.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tokio::{io::AsyncReadExt, net::tcp::OwnedReadHalf};

use super::{
    Message,
    frame::{Header, Opcode, unmask},
    writer::{CLOSE_NORMAL, Out},
};
use crate::domain::Body;

/// What small messages are read into; several fit, so that one call of the system may bring them all.
const BUFFER: usize = 64 << 10;

/// With more than this to come, a payload is read to where it stays instead of through the buffer.
const DIRECT_MIN: usize = 16 << 10;

/// Read at a stretch, so that the mask comes off while the bytes are in the cache.
const PIECE: usize = 256 << 10;

/// Shorter fragments are joined, so that a message in many pieces takes little more memory than its bytes.
const FRAGMENT_MIN: usize = 16 << 10;

/// What a socket is closed with when the other end breaks the protocol (RFC 6455, section 7.4).
const PROTOCOL_ERROR: u16 = 1002;
const NOT_UTF8: u16 = 1007;

/// What a close frame without a code stands for; it is never sent.
const NO_STATUS: u16 = 1005;

/// How reading ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("the other end closed the socket with {code} {reason}")]
    Closed { code: u16, reason: String },
    #[error("a message is over the limit of {limit} bytes")]
    TooBig { limit: usize },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the connection ended")]
    Eof,
}

/// The handle of the one who reads. Dropping it leaves the sender as it is.
pub struct Reader {
    stream: OwnedReadHalf,
    out: Arc<Out>,
    message_max: usize,
    buffer: Box<[u8]>,
    /// What of the buffer is still to be looked at.
    unread: std::ops::Range<usize>,
    frame: Option<Frame>,
    message: Option<Partial>,
}

/// A frame whose payload is coming.
struct Frame {
    header: Header,
    payload: BytesMut,
}

/// A message whose last frame has not come.
struct Partial {
    text: bool,
    body: Body,
    /// Fragments that are too short for parts of their own.
    short: BytesMut,
}

impl Reader {
    /// `early` came with the request that opened the socket.
    pub(super) fn new(stream: OwnedReadHalf, early: &[u8], out: Arc<Out>, message_max: usize) -> Self {
        let mut buffer = vec![0; BUFFER.max(early.len())].into_boxed_slice();
        buffer[..early.len()].copy_from_slice(early);
        let unread = 0..early.len();
        Self { stream, out, message_max, buffer, unread, frame: None, message: None }
    }

    /// The next message. A call that is cancelled loses nothing.
    pub async fn next(&mut self) -> Result<Message, Ended> {
        loop {
            if let Some(message) = self.advance()? {
                return Ok(message);
            }
            if self.read().await.map_err(|error| Ended::Broken(error.to_string()))? == 0 {
                return Err(Ended::Eof);
            }
        }
    }

    /// Takes in what has been read, up to the end of a message.
    fn advance(&mut self) -> Result<Option<Message>, Ended> {
        loop {
            let buffered = &self.buffer[self.unread.clone()];
            let Some(frame) = &mut self.frame else {
                let header = Header::read(buffered).map_err(|wrong| self.refuse(PROTOCOL_ERROR, wrong))?;
                let Some((header, taken)) = header else { return Ok(None) };
                self.unread.start += taken;
                self.frame = Some(self.begin(header)?);
                continue;
            };
            let taken = frame.lacks().min(buffered.len());
            frame.take(&buffered[..taken]);
            self.unread.start += taken;
            if frame.lacks() > 0 {
                return Ok(None);
            }
            let Some(frame) = self.frame.take() else { return Ok(None) };
            if let Some(message) = self.finish(frame)? {
                return Ok(Some(message));
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        if let Some(frame) = &mut self.frame
            && frame.lacks() >= DIRECT_MIN
        {
            return frame.read(&mut self.stream).await;
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let read = self.stream.read(&mut self.buffer[self.unread.end..]).await?;
        self.unread.end += read;
        Ok(read)
    }

    /// Checks a frame's header against what came before it.
    fn begin(&self, header: Header) -> Result<Frame, Ended> {
        let Header { opcode, len, .. } = header;
        if !opcode.is_control() && (opcode == Opcode::Continuation) != self.message.is_some() {
            return Err(
                self.refuse(PROTOCOL_ERROR, "a message began within another, or went on before it began")
            );
        }
        let before = self.message.as_ref().map_or(0, Partial::len);
        let fits = |len: &usize| *len <= self.message_max.saturating_sub(before);
        match usize::try_from(len).ok().filter(|len| opcode.is_control() || fits(len)) {
            Some(len) => Ok(Frame { header, payload: BytesMut::with_capacity(len) }),
            None => Err(Ended::TooBig { limit: self.message_max }),
        }
    }

    /// What a whole frame completes.
    fn finish(&mut self, Frame { header, payload }: Frame) -> Result<Option<Message>, Ended> {
        match header.opcode {
            Opcode::Ping => self.out.pong(&payload),
            Opcode::Pong => {}
            Opcode::Close => return Err(self.closed(&payload)),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let text = header.opcode == Opcode::Text;
                let message = self.message.get_or_insert_with(|| Partial::new(text));
                message.add(payload);
                if header.last
                    && let Some(whole) = self.message.take()
                {
                    return self.whole(whole).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn whole(&self, message: Partial) -> Result<Message, Ended> {
        let Partial { text, mut body, short } = message;
        body.push(short.freeze());
        if !text {
            return Ok(Message::Binary(body));
        }
        match String::from_utf8(body.contiguous().into()) {
            Ok(text) => Ok(Message::Text(text)),
            Err(_) => Err(self.refuse(NOT_UTF8, "a text message is not UTF-8")),
        }
    }

    fn closed(&self, payload: &[u8]) -> Ended {
        let Some((code, reason)) = payload.split_first_chunk() else {
            if !payload.is_empty() {
                return self.refuse(PROTOCOL_ERROR, "a close frame ends within its code");
            }
            self.out.close(CLOSE_NORMAL, "");
            return Ended::Closed { code: NO_STATUS, reason: String::new() };
        };
        let code = u16::from_be_bytes(*code);
        if !may_be_sent(code) {
            return self.refuse(PROTOCOL_ERROR, "a close frame has a code that nobody may send");
        }
        match std::str::from_utf8(reason) {
            Ok(reason) => {
                self.out.close(code, "");
                Ended::Closed { code, reason: reason.to_owned() }
            }
            Err(_) => self.refuse(NOT_UTF8, "a close frame's reason is not UTF-8"),
        }
    }

    /// Closes because of what the other end did.
    fn refuse(&self, code: u16, wrong: &str) -> Ended {
        self.out.close(code, wrong);
        Ended::Broken(wrong.to_owned())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.out.unheard();
    }
}

/// Whether a close frame may have this code: those of the protocol that stand for no event of one's own, and those
/// left to libraries and applications.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl Frame {
    /// Bytes that have not come.
    fn lacks(&self) -> usize {
        self.header.len as usize - self.payload.len()
    }

    fn take(&mut self, bytes: &[u8]) {
        let from = self.payload.len();
        self.payload.extend_from_slice(bytes);
        unmask(&mut self.payload[from..], self.header.mask, from);
    }

    async fn read(&mut self, stream: &mut OwnedReadHalf) -> std::io::Result<usize> {
        let (from, lacks) = (self.payload.len(), self.lacks());
        let read = stream.read_buf(&mut (&mut self.payload).limit(lacks.min(PIECE))).await?;
        unmask(&mut self.payload[from..], self.header.mask, from);
        Ok(read)
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
}
