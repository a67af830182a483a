//! Launches and steers browsers, or attaches to running ones: start, navigate, observe, end. Nothing else goes
//! through a driver.
//!
//! - A recipe (`browsers/*.toml`) says how one product is found, flagged and limited.
//! - Every process started here runs in its own group with its own profile, and is written to the ledger first.
//! - One thread starts them all; orphans that they leave come to us and are reaped.
//! - The guardian ends what the ledger names once the daemon is gone.

pub mod bidi;
pub mod cdp;
pub mod companion;
pub mod descriptors;
mod display;
pub mod errand;
pub mod guardian;
pub mod ledger;
mod loss;
pub mod machine;
pub mod presence;
mod process;
pub mod procs;
pub mod reaper;
pub mod recipe;
mod sandbox;
mod spawner;
mod sweep;
mod tail;
#[cfg(test)]
mod tests;
pub mod webdriver;
pub mod wire;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use self::{
    bidi::BidiDriver,
    cdp::CdpDriver,
    ledger::RunDir,
    recipe::{DriverKind, GpuMode, Places, Recipe},
    webdriver::WebDriverDriver,
};
use crate::{domain::Retry, tasks::Tasks};

/// What every driver of a daemon shares.
#[derive(Clone)]
pub struct Drivers {
    pub places: Places,
    pub run: Arc<RunDir>,
    pub tasks: Tasks,
    /// An X display for browsers that need one, instead of one of their own.
    pub display: Option<String>,
    /// Of the certificate that browsers on other hosts are to trust although nobody vouches for it: its public key's
    /// SHA-256, in base64.
    pub certificate_pin: Option<String>,
}

impl Drivers {
    /// The driver that launches this recipe's product.
    pub fn of(&self, recipe: Recipe) -> Arc<dyn Driver> {
        let Self { places, run, tasks, .. } = self.clone();
        match recipe.driver {
            DriverKind::Cdp => Arc::new(CdpDriver::new(recipe, places, run, tasks)),
            DriverKind::Bidi => Arc::new(BidiDriver::new(recipe, places, run, tasks)),
            DriverKind::Webdriver => Arc::new(WebDriverDriver::new(recipe, self.clone())),
        }
    }
}

/// Launches one product.
pub trait Driver: Send + Sync + 'static {
    /// Starts a browser and opens a page at `order.url`; answers once the browser has taken the navigation.
    /// Whether the page works is the harness's to report.
    fn launch(&self, order: LaunchOrder) -> BoxFuture<'static, Result<Box<dyn Instance>, DriverError>>;

    /// Whether the browser may run on another host, where our loopback is not its own.
    fn elsewhere(&self) -> bool {
        false
    }
}

#[derive(Clone, Debug)]
pub struct LaunchOrder {
    /// For logs, profile and ledger, as `chromium-1`.
    pub name: String,
    pub url: String,
    pub gpu: GpuMode,
    pub deadline: Duration,
}

/// One running browser that we own, or one page of ours in somebody else's.
pub trait Instance: Send + Sync + 'static {
    /// What the browser itself answered.
    fn version(&self) -> &str;

    /// Whether the processes of pages are confined; `None` where that cannot be known.
    fn sandbox(&self) -> Option<bool>;

    /// The flags that can change what it computes.
    fn flags(&self) -> &[String];

    /// The browser's first process, when it is ours.
    fn process(&self) -> Option<i32>;

    /// Sends the page to another address; answers as [`Driver::launch`] does.
    fn navigate(&self, url: String, within: Duration) -> BoxFuture<'static, Result<(), DriverError>>;

    /// Resolves with the reason when the process ended, its control socket closed, or its page was closed.
    fn lost(&self) -> BoxFuture<'static, String>;

    /// Resolves with the reason when the page's process ended and the browser goes on: navigating may help.
    /// Never where a driver is told of no such thing.
    fn crashed(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }

    /// Ends the browser, its whole process group and its profile; returns when they are gone.
    /// In a browser that is not ours, only our page is closed.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("{product} is not installed: {hint}")]
    NotInstalled { product: String, hint: String },
    #[error("could not start {program}: {source}")]
    Spawn { program: String, source: std::io::Error },
    #[error("{program} ended while starting ({status}); its last words: {last_lines}")]
    Launch { program: String, status: String, last_lines: String },
    #[error("no control connection to {program} within {waited_ms} ms; its last words: {last_lines}")]
    Connect { program: String, waited_ms: u128, last_lines: String },
    #[error("{product} needs a display: {hint}")]
    NoDisplay { product: String, hint: String },
    #[error("no session at {server}: {message}")]
    Session { server: String, message: String },
    #[error("nobody serves {endpoint} ({reason}): start the browser with its debugging port there")]
    Unserved { endpoint: String, reason: String },
    #[error("{endpoint} gave no answer within {waited_ms} ms: restart the browser there, if it is one")]
    Unanswered { endpoint: String, waited_ms: u128 },
    #[error("could not open a page at {endpoint}: {message}")]
    Attach { endpoint: String, message: String },
    #[error("could not open the page: {message}")]
    Navigate { message: String },
}

impl DriverError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotInstalled { .. } | Self::NoDisplay { .. } => Retry::Never,
            Self::Spawn { .. }
            | Self::Launch { .. }
            | Self::Connect { .. }
            | Self::Session { .. }
            | Self::Unserved { .. }
            | Self::Unanswered { .. }
            | Self::Attach { .. }
            | Self::Navigate { .. } => Retry::Same,
        }
    }
}
