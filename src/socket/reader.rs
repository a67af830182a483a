//! The reading half: fills the assembly from the connection, and answers pings and the other end's close.

use std::sync::Arc;

use bytes::BufMut;
use tokio::{io::AsyncReadExt, net::tcp::OwnedReadHalf};

use super::{
    Message,
    assembly::{Assembly, Came, Fault, Frame, NO_STATUS},
    writer::{CLOSE_NORMAL, Out},
};

/// What small messages are read into; several fit, so that one call of the system may bring them all.
const BUFFER: usize = 32 << 10;

/// With more than this to come, a payload is read to where it stays instead of through the buffer.
const DIRECT_MIN: usize = 16 << 10;

/// Read at a stretch, so that the mask comes off while the bytes are in the cache.
const PIECE: usize = 256 << 10;

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
    assembly: Assembly,
}

impl Reader {
    /// `early` came with the request that opened the socket.
    pub(super) fn new(stream: OwnedReadHalf, early: &[u8], out: Arc<Out>, message_max: usize) -> Self {
        let mut buffer = vec![0; BUFFER.max(early.len())].into_boxed_slice();
        buffer[..early.len()].copy_from_slice(early);
        let (unread, assembly) = (0..early.len(), Assembly::new(message_max));
        Self { stream, out, message_max, buffer, unread, assembly }
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
            let taken = self.assembly.take(&self.buffer[self.unread.clone()]);
            let (taken, came) = taken.map_err(|fault| self.refuse(&fault))?;
            self.unread.start += taken;
            match came {
                None => return Ok(None),
                Some(Came::Message(message)) => return Ok(Some(message)),
                Some(Came::Ping(payload)) => self.out.pong(&payload),
                Some(Came::Close { code, reason }) => {
                    self.out.close(if code == NO_STATUS { CLOSE_NORMAL } else { code }, "");
                    return Err(Ended::Closed { code, reason });
                }
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        if let Some(frame) = self.assembly.frame()
            && frame.lacks() >= DIRECT_MIN
        {
            return read_payload(frame, &mut self.stream).await;
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let read = self.stream.read(&mut self.buffer[self.unread.end..]).await?;
        self.unread.end += read;
        Ok(read)
    }

    /// Closes because of what the other end did; who sent too much is told by whoever reads.
    fn refuse(&self, fault: &Fault) -> Ended {
        match *fault {
            Fault::TooBig => Ended::TooBig { limit: self.message_max },
            Fault::Wrong { code, what } => {
                self.out.close(code, what);
                Ended::Broken(what.to_owned())
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.out.unheard();
    }
}

async fn read_payload(frame: &mut Frame, stream: &mut OwnedReadHalf) -> std::io::Result<usize> {
    let (from, lacks) = (frame.payload.len(), frame.lacks());
    let read = stream.read_buf(&mut (&mut frame.payload).limit(lacks.min(PIECE))).await?;
    frame.unmask(from);
    Ok(read)
}
