//! What the tests here share. No browser is started: whatever is called fake is one, and computes, if at all, with
//! native ONNX Runtime.

mod client;
mod daemon;
mod fake_browser;
mod fake_lane;
mod fake_programs;
mod fake_webdriver;
pub(crate) mod graphs;
mod origin;
pub(crate) mod wire;

pub(crate) use client::{Client, Reply, infer, infer_x};
pub(crate) use daemon::{LIBRARY, TestDaemon, blobs, fleet, home, verdicts};
pub(crate) use fake_browser::{FakeBrowser, FakeMemory, connect as connect_link};
pub(crate) use fake_lane::{Asked, Conduct, Deed};
pub(crate) use fake_webdriver::{FakeWebdriver, Manner};
pub(crate) use origin::{Heard, Origin, Said};

use std::time::Duration;

/// A test that waits this long has failed; nothing here takes a second.
const LIMIT: Duration = Duration::from_secs(40);

/// What `future` gives, or a failed test that says what never happened.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what} never happened"))
}
