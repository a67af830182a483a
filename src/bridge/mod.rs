//! The harness's side of the daemon: serves the page and speaks with it.
//!
//! - A browser fetches its page, the engine's files and model weights here, over HTTP on a loopback port of its
//!   own; browsers on other hosts use a second listener, over TLS.
//! - A page and each of its lanes open one WebSocket; a handshaken one is a [`Session`].
//! - `pool` opens pages and expects lanes; `backend::page` speaks over the sessions.
//!
//! The bridge forwards bytes. It never looks into a tensor, chooses a lane, or starts a browser.

mod assets;
pub mod guard;
mod handshake;
mod listener;
mod outside;
mod session;

pub use handshake::{Expected, Tickets};
pub(crate) use listener::without_delay;
pub use listener::{Bridge, BridgeError, Door, Page};
pub use outside::{Certificate, Made, Outside};
pub(crate) use outside::{listen, overdue, relay, tls};
pub use session::{LinkClosed, LinkReceiver, LinkSender, Message, Received, Session};
pub(crate) use tokio_rustls::TlsAcceptor;

#[cfg(test)]
mod tests;
