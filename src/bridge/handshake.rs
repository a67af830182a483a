//! Tickets: which links are awaited, and the first message that redeems one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use crate::{
    protocol::link::{Hello, Refusal, Role, VERSION},
    socket::{Message, Socket},
};

/// A browser that has fetched its page says hello in well under a second; a stopped one is not waited for.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Covers the start of a browser on a loaded machine and the import of an engine in a Worker.
const TICKET_LIFE: Duration = Duration::from_secs(120);

/// Awaited links, by ticket. Clones share the table.
#[derive(Clone, Default)]
pub struct Tickets {
    awaited: Arc<Mutex<HashMap<String, Awaited>>>,
}

struct Awaited {
    role: Role,
    epoch: u64,
    expires: Instant,
    redeemed: oneshot::Sender<Session>,
}

/// A link that is awaited; dropping it revokes the ticket.
pub struct Expected {
    pub ticket: String,
    session: oneshot::Receiver<Session>,
    tickets: Tickets,
}

impl Expected {
    /// The session, once the link has been opened; `None` when its ticket expired.
    pub async fn session(&mut self) -> Option<Session> {
        tokio::time::timeout(TICKET_LIFE, &mut self.session).await.ok()?.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.tickets.table().remove(&self.ticket);
    }
}

impl Tickets {
    pub fn expect(&self, role: Role, epoch: u64) -> Expected {
        let ticket = token();
        let (redeemed, session) = oneshot::channel();
        let awaited = Awaited { role, epoch, expires: Instant::now() + TICKET_LIFE, redeemed };
        self.table().insert(ticket.clone(), awaited);
        Expected { ticket, session, tickets: self.clone() }
    }

    fn redeem(&self, hello: &Hello) -> Result<oneshot::Sender<Session>, Refusal> {
        if hello.protocol != VERSION {
            return Err(Refusal::Version);
        }
        // Taken out before it is judged: a ticket that was shown once is spent.
        let awaited = self.table().remove(&hello.ticket).ok_or(Refusal::Ticket)?;
        if awaited.role != hello.role || awaited.expires < Instant::now() {
            return Err(Refusal::Ticket);
        }
        if awaited.epoch != hello.epoch {
            return Err(Refusal::Epoch);
        }
        Ok(awaited.redeemed)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Awaited>> {
        self.awaited.lock().expect("no holder of the ticket table panics")
    }
}

/// Reads the hello of a fresh link and hands its session to whoever awaits it.
pub(super) async fn welcome(mut socket: Socket, tickets: Tickets, stopping: CancellationToken) {
    let hello = tokio::select! {
        () = stopping.cancelled() => return,
        hello = tokio::time::timeout(HELLO_WITHIN, socket.reader.next()) => hello,
    };
    let hello = match hello {
        Ok(Ok(Message::Text(text))) => serde_json::from_str::<Hello>(&text).ok(),
        _ => None,
    };
    let redeemed = hello.ok_or(Refusal::NoHello).and_then(|hello| tickets.redeem(&hello));
    match redeemed {
        Ok(awaiting) => {
            // The awaiting side may have given up; then the session drops and the link closes.
            let _ = awaiting.send(Session::new(socket));
        }
        Err(refusal) => {
            tracing::warn!(reason = refusal.reason(), "harness link refused");
            socket.sender.close(refusal.close_code(), refusal.reason());
        }
    }
}

/// 128 random bits in hex: not to be guessed by another process on this machine.
pub(super) fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}
