//! The writing half: messages go out in the order in which they were sent, urgent ones before those that wait.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rustix::net::Shutdown;
use tokio::{
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    frame::{CONTROL_MAX, Opcode, Written},
};
use crate::{domain::Body, tasks::Tasks};

/// How long a stopping daemon waits for the other end to read: time enough for all who read at all.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How long a closed socket hears out the other end, which may be in the middle of something.
const LINGER: Duration = Duration::from_secs(2);

/// What the other end says meanwhile is read into, and forgotten.
const FORGOTTEN: usize = 16 << 10;

/// Written at a stretch before others get their turn: a fraction of a millisecond.
const STRETCH: usize = 1 << 20;

/// Pieces of memory of one call of the system; more would gain nothing.
const SLICES: usize = 16;

/// The normal end (RFC 6455).
pub(super) const CLOSE_NORMAL: u16 = 1000;

/// The socket is closed, or nothing more is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct Closed;

/// A message to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    Text(String),
    /// The head goes before the body, in the same message.
    Binary {
        head: Vec<u8>,
        body: Body,
    },
}

/// The handle of those who write. When the last clone is gone the socket closes, after what was sent.
#[derive(Clone, Debug)]
pub struct Sender {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    out: Arc<Out>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.out.close(CLOSE_NORMAL, "");
    }
}

/// A reserved place among the messages that wait.
#[derive(Debug)]
pub struct Place {
    sender: Sender,
    permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct Out {
    stream: OwnedWriteHalf,
    queues: Mutex<Queues>,
    places: Arc<Semaphore>,
    /// Something is left for the socket's task.
    left: Notify,
    /// Cancelled when nobody reads any more.
    unheard: CancellationToken,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Queues {
    /// Begun, and to be ended before anything else.
    current: Option<Entry>,
    urgent: VecDeque<Entry>,
    waiting: VecDeque<Entry>,
    /// The last frame is queued.
    closing: bool,
    /// The last frame is written, or nothing can be.
    ended: bool,
}

/// A frame on its way, with what is given back when it is written.
#[derive(Debug)]
struct Entry {
    opcode: Opcode,
    header: Written,
    head: Vec<u8>,
    body: Body,
    written: usize,
    held: [Option<OwnedSemaphorePermit>; 2],
}

enum Progress {
    Done,
    /// The socket takes no more for now.
    Full,
    /// There is more, but it is the turn of others.
    Stretched,
    Ended,
}

impl Sender {
    pub(super) fn start(stream: OwnedWriteHalf, limits: Limits, tasks: &Tasks) -> Self {
        let (places, unheard) = (Arc::new(Semaphore::new(limits.places)), CancellationToken::new());
        let (queues, left, patience) = (Mutex::default(), Notify::new(), limits.patience);
        let out = Arc::new(Out { stream, queues, places, left, unheard, patience });
        tasks.spawn("socket writer", tend(out.clone(), tasks.stopping()));
        Self { open: Arc::new(Open { out }) }
    }

    pub(super) fn out(&self) -> Arc<Out> {
        self.open.out.clone()
    }

    /// A place, if one is free.
    pub fn reserve(&self) -> Option<Place> {
        let permit = self.open.out.places.clone().try_acquire_owned().ok()?;
        Some(Place { sender: self.clone(), permit })
    }

    /// A place, once one is free.
    pub async fn place(&self) -> Result<Place, Closed> {
        let permit = self.open.out.places.clone().acquire_owned().await.map_err(|_| Closed)?;
        Ok(Place { sender: self.clone(), permit })
    }

    pub fn is_closed(&self) -> bool {
        self.open.out.places.is_closed()
    }

    /// Closes the socket after what was sent.
    pub fn close(&self, code: u16, reason: &str) {
        self.open.out.close(code, reason);
    }
}

impl Place {
    /// Sends a message; `held` is given back when it is written.
    pub fn send(self, message: Outgoing, held: Option<OwnedSemaphorePermit>) -> Result<(), Closed> {
        let entry = Entry::new(message, [Some(self.permit), held]);
        self.sender.open.out.send(|queues| queues.waiting.push_back(entry))
    }

    /// Sends several messages that others come between only when they are urgent.
    pub fn send_all(self, messages: impl IntoIterator<Item = Outgoing>) -> Result<(), Closed> {
        let Self { sender, permit } = self;
        sender.open.out.send(|queues| {
            queues.waiting.extend(messages.into_iter().map(|message| Entry::new(message, [None, None])));
            if let Some(last) = queues.waiting.back_mut() {
                last.held = [Some(permit), None];
            }
        })
    }

    /// Sends a message before those that wait.
    pub fn send_urgent(self, message: Outgoing) -> Result<(), Closed> {
        let entry = Entry::new(message, [Some(self.permit), None]);
        self.sender.open.out.send(|queues| queues.urgent.push_back(entry))
    }
}

impl Out {
    pub(super) fn pong(&self, payload: &[u8]) {
        let entry = Entry::control(Opcode::Pong, payload.to_vec());
        // A later ping is answered for the earlier ones too, so that pings cannot fill the memory.
        let _ = self.send(|queues| {
            queues.urgent.retain(|entry| entry.opcode != Opcode::Pong);
            queues.urgent.push_back(entry);
        });
    }

    /// Queues the last frame; whatever is sent later is refused.
    pub(super) fn close(&self, code: u16, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(CONTROL_MAX - size_of_val(&code))];
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        let entry = Entry::control(Opcode::Close, payload);
        self.places.close();
        let _ = self.send(|queues| {
            queues.waiting.push_back(entry);
            queues.closing = true;
        });
        // Whatever came of it, the socket's task has to notice.
        self.left.notify_one();
    }

    /// Queues, and writes at once what the socket takes when nothing waits before it.
    fn send(&self, queue: impl FnOnce(&mut Queues)) -> Result<(), Closed> {
        let mut queues = self.queues();
        if queues.closing || queues.ended {
            return Err(Closed);
        }
        let idle = queues.is_empty();
        queue(&mut queues);
        if idle && !matches!(queues.write(&self.stream), Progress::Done) {
            self.left.notify_one();
        }
        Ok(())
    }

    /// The reader is gone.
    pub(super) fn unheard(&self) {
        self.unheard.cancel();
    }

    fn write(&self) -> Progress {
        self.queues().write(&self.stream)
    }

    /// Writes what senders could not, until all is written or nothing can be.
    async fn write_left(&self) {
        loop {
            match self.write() {
                Progress::Done => self.left.notified().await,
                Progress::Full => {
                    let closing = self.queues().closing;
                    tokio::select! {
                        // An error shows at the next write.
                        _ = self.stream.writable() => {}
                        // It may have begun to close.
                        () = self.left.notified() => {}
                        () = tokio::time::sleep(self.patience), if closing => {
                            return tracing::debug!("the other end has stopped reading a socket that closes");
                        }
                    }
                }
                Progress::Stretched => tokio::task::yield_now().await,
                Progress::Ended => return,
            }
        }
    }

    /// Says that nothing more comes, and forgets what still does: a connection that is dropped with something unread
    /// is reset, and then the other end may never see the last that it was sent.
    /// A stopping daemon forgets only what has come by then.
    async fn linger(&self, stopping: &CancellationToken) {
        let stream: &TcpStream = self.stream.as_ref();
        if rustix::net::shutdown(stream, Shutdown::Write).is_err() {
            return;
        }
        tokio::select! {
            () = self.unheard.cancelled() => {}
            () = stopping.cancelled() => {}
        }
        let mut forgotten = vec![0; FORGOTTEN];
        let hearing = async {
            loop {
                match stream.try_read(&mut forgotten) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    Err(_) => tokio::select! {
                        biased;
                        () = stopping.cancelled() => return,
                        // An error shows at the next read.
                        _ = stream.readable() => {}
                    },
                }
            }
        };
        // Whoever talks on is not waited for.
        let _ = tokio::time::timeout(LINGER, hearing).await;
    }

    fn end(&self) {
        self.places.close();
        self.queues().end();
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("no holder of a socket's queues panics")
    }
}

/// Takes over what senders could not write, until the socket has closed or the daemon is stopping and nobody reads.
async fn tend(out: Arc<Out>, stopping: CancellationToken) {
    let mut overdue = pin!(async {
        stopping.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    });
    let stop = stopping.clone();
    let closing = async {
        out.write_left().await;
        out.end();
        out.linger(&stop).await;
    };
    tokio::select! {
        biased;
        () = closing => {}
        () = &mut overdue => tracing::debug!("the other end does not read what it is told last"),
    }
    out.end();
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.current.is_none() && self.urgent.is_empty() && self.waiting.is_empty()
    }

    fn write(&mut self, stream: &OwnedWriteHalf) -> Progress {
        let mut left = STRETCH;
        loop {
            if self.ended {
                return Progress::Ended;
            }
            let next = self.current.take().or_else(|| self.urgent.pop_front());
            let Some(mut entry) = next.or_else(|| self.waiting.pop_front()) else { return Progress::Done };
            match entry.write(stream) {
                Ok(wrote) => {
                    if !entry.is_written() {
                        self.current = Some(entry);
                    } else if entry.opcode == Opcode::Close {
                        self.end();
                    }
                    if wrote >= left {
                        return Progress::Stretched;
                    }
                    left -= wrote;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.current = Some(entry);
                    return Progress::Full;
                }
                Err(error) => {
                    tracing::debug!(%error, "the other end of a socket is gone");
                    self.end();
                }
            }
        }
    }

    fn end(&mut self) {
        *self = Self { ended: true, ..Self::default() };
    }
}

impl Entry {
    fn new(message: Outgoing, held: [Option<OwnedSemaphorePermit>; 2]) -> Self {
        let (opcode, head, body) = match message {
            Outgoing::Text(text) => (Opcode::Text, text.into_bytes(), Body::default()),
            Outgoing::Binary { head, body } => (Opcode::Binary, head, body),
        };
        let header = Written::new(opcode, head.len() + body.len());
        Self { opcode, header, head, body, written: 0, held }
    }

    fn control(opcode: Opcode, payload: Vec<u8>) -> Self {
        let header = Written::new(opcode, payload.len());
        let (body, held) = (Body::default(), [None, None]);
        Self { opcode, header, head: payload, body, written: 0, held }
    }

    fn is_written(&self) -> bool {
        self.written == self.header.bytes().len() + self.head.len() + self.body.len()
    }

    /// Writes what the socket takes of what is left.
    fn write(&mut self, stream: &OwnedWriteHalf) -> io::Result<usize> {
        let (mut slices, mut used, mut skip) = ([IoSlice::new(&[]); SLICES], 0, self.written);
        let parts = self.body.parts().iter().map(AsRef::as_ref);
        for piece in [self.header.bytes(), &self.head].into_iter().chain(parts) {
            let left = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            if used < SLICES && !left.is_empty() {
                slices[used] = IoSlice::new(left);
                used += 1;
            }
        }
        let wrote = stream.try_write_vectored(&slices[..used])?;
        if wrote == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += wrote;
        Ok(wrote)
    }
}
