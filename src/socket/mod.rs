//! The server's end of a WebSocket, for clients and for the harness.
//!
//! Whoever has something to say writes it to the socket itself; a task of the socket's takes over what does not fit.
//! Tensors are written from where they lie and read to where they stay: the only copies are the kernel's.
//! Never looks into a message, and never queues more than the places that it has.

mod assembly;
mod frame;
mod reader;
#[cfg(test)]
mod tests;
mod upgrade;
mod writer;

use std::time::Duration;

use tokio::net::TcpStream;

use crate::tasks::Tasks;

pub use assembly::Message;
pub use reader::{Ended, Reader};
pub use upgrade::upgrade;
pub use writer::{Closed, Outgoing, Place, Sender};

/// The patience with clients and browsers: longer than a network is away whose connections live on.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How much a socket takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message that is read.
    pub message: usize,
    /// Messages that wait to be written.
    pub places: usize,
    /// How long a closing socket waits for the other end to read some more of what it was sent.
    pub patience: Duration,
}

/// An open socket. It closes when every clone of its sender is gone.
pub struct Socket {
    pub reader: Reader,
    pub sender: Sender,
}

impl Socket {
    /// Takes over a connection that has been upgraded; `early` came with the request.
    fn new(stream: TcpStream, early: &[u8], limits: Limits, tasks: &Tasks) -> Self {
        let (reading, writing) = stream.into_split();
        let sender = Sender::start(writing, limits, tasks);
        let reader = Reader::new(reading, early, sender.out(), limits.message);
        Self { reader, sender }
    }
}
