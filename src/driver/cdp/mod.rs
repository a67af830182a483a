//! Launches and steers the Chromium family over the Chrome `DevTools` Protocol, or a page of a running one.
//!
//! The browser is started by `process`, not by the client library, which would share one profile among all,
//! drop stderr and kill a single process. The library never notices a closed socket and leaves commands pending,
//! so every wait here has its own limit, and one task asks the browser for a sign of life.

mod attach;
mod attend;
mod opening;
mod tab;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, path::Path, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, timeout_at};

use self::{
    attach::Guest,
    opening::{Control, Opening},
};
use super::{
    Driver, DriverError, Instance, LaunchOrder,
    ledger::{Folders, RunDir},
    process::{Order, Process},
    recipe::{Places, Recipe, Source, Switches},
    sandbox::Ground,
    wire::page::{self, PageInstance, Peer},
};
use crate::tasks::Tasks;

const ANNOUNCEMENT: &str = "DevTools listening on ";

/// What the first page shows until it is sent elsewhere. The page's own address, with the ticket that may be in it,
/// stays out of the command line, which every user of the machine can read.
const BLANK: &str = "about:blank";

/// Crash reports would go below the user's own configuration, whatever the profile.
const HOME_VARIABLE: &str = "CHROME_CONFIG_HOME";

/// Where no message bus runs, Chromium complains about it dozens of times, which would bury its last words.
const NOISE: &str = "ERROR:dbus/";

/// Pages must keep their pace unseen, and a closed network must not be hammered.
const BASE_FLAGS: [&str; 17] = [
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-hang-monitor",
    "--disable-ipc-flooding-protection",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-breakpad",
    "--metrics-recording-only",
    "--mute-audio",
    "--password-store=basic",
];

/// The first two would gate our own loopback links; the others slow hidden pages or look for the network.
const BASE_DISABLED_FEATURES: [&str; 6] = [
    "LocalNetworkAccessChecks",
    "LocalNetworkAccessChecksWebSockets",
    "IntensiveWakeUpThrottling",
    "MediaRouter",
    "OptimizationHints",
    "Translate",
];

/// Below this the tensors in flight may not fit into `/dev/shm`, and a full one crashes pages.
const SHARED_MEMORY_WANTED: u64 = 1 << 30;

/// Launches one product of the Chromium family.
pub struct CdpDriver {
    launcher: Arc<Launcher>,
}

struct Launcher {
    recipe: Recipe,
    places: Places,
    run: Arc<RunDir>,
    tasks: Tasks,
    ground: Ground,
}

impl CdpDriver {
    /// Tries once whether this machine allows a sandbox, which starts a short command.
    pub fn new(recipe: Recipe, places: Places, run: Arc<RunDir>, tasks: Tasks) -> Self {
        let ground = Ground::survey();
        Self { launcher: Arc::new(Launcher { recipe, places, run, tasks, ground }) }
    }
}

impl Driver for CdpDriver {
    fn launch(&self, order: LaunchOrder) -> BoxFuture<'static, Result<Box<dyn Instance>, DriverError>> {
        let launcher = Arc::clone(&self.launcher);
        async move {
            Ok(match &launcher.recipe.source {
                Source::Find(_) => Box::new(launcher.launch(order).await?) as Box<dyn Instance>,
                Source::Endpoint(endpoint) => Box::new(launcher.attach(endpoint, order).await?),
            })
        }
        .boxed()
    }
}

impl Launcher {
    async fn launch(&self, order: LaunchOrder) -> Result<CdpInstance, DriverError> {
        let started = Instant::now();
        let deadline = started + order.deadline;
        let program = self.recipe.locate(&self.places)?;
        let switches = self.recipe.switches(order.gpu);
        let sandbox = self.ground.allows(&program);
        if let Err(reason) = sandbox {
            tracing::warn!(name = order.name, reason, "the browser runs without its sandbox");
        }
        let process = self.start(&order.name, &program, &switches, sandbox.is_ok())?;
        let opened =
            Opening { watch: process.watch(), tasks: &self.tasks, started, deadline }.open(&order.url).await;
        match opened {
            Ok(control) => {
                let flags = switches.telling();
                tracing::info!(name = order.name, version = control.version, gpu = %order.gpu, "browser launched");
                Ok(CdpInstance { process, control, sandbox: sandbox.is_ok(), flags })
            }
            Err(error) => {
                process.end().await;
                Err(error)
            }
        }
    }

    /// Opens a page in a browser that is not ours, and touches nothing else there.
    async fn attach(&self, endpoint: &str, order: LaunchOrder) -> Result<PageInstance<Guest>, DriverError> {
        let started = Instant::now();
        let deadline = started + order.deadline;
        let opening = page::Opening { peer: Peer::Theirs(endpoint), tasks: &self.tasks, started, deadline };
        let address = match timeout_at(deadline, attach::address(endpoint)).await {
            Ok(Ok(address)) => address,
            Ok(Err(why)) => return Err(opening.no_connection(&why)),
            Err(_) => return Err(opening.silent("it told no address")),
        };
        let page = opening.open(Guest::default(), &address, &order.url).await?;
        tracing::info!(name = order.name, version = page.version, endpoint, "attached");
        Ok(PageInstance { page, process: None, sandbox: None, flags: Vec::new() })
    }

    fn start(
        &self,
        name: &str,
        program: &Path,
        switches: &Switches,
        sandbox: bool,
    ) -> Result<Process, DriverError> {
        let folders = self.run.folders(name).map_err(|error| DriverError::Spawn {
            program: program.display().to_string(),
            source: std::io::Error::other(error),
        })?;
        let args = arguments(&self.recipe, switches, &folders, sandbox);
        let variables = vec![(HOME_VARIABLE, folders.own.clone().into_os_string())];
        Process::spawn(
            &self.tasks,
            &self.run,
            Order { program, args, folders, variables, announcement: ANNOUNCEMENT, noise: NOISE },
        )
    }
}

fn arguments(recipe: &Recipe, switches: &Switches, folders: &Folders, sandbox: bool) -> Vec<OsString> {
    let mut profile = OsString::from("--user-data-dir=");
    profile.push(&folders.profile);
    let mut args = vec![profile];
    args.extend(BASE_FLAGS.iter().map(OsString::from));
    args.extend(recipe.flags().iter().chain(&switches.flags).map(OsString::from));
    if !switches.enable_features.is_empty() {
        args.push(feature_flag("--enable-features", &switches.enable_features).into());
    }
    let disabled: Vec<String> = BASE_DISABLED_FEATURES
        .iter()
        .map(ToString::to_string)
        .chain(switches.disable_features.clone())
        .collect();
    args.push(feature_flag("--disable-features", &disabled).into());
    if !sandbox {
        args.push("--no-sandbox".into());
    }
    if shared_memory_is_scarce() {
        args.push("--disable-dev-shm-usage".into());
    }
    args.push(BLANK.into());
    args
}

fn feature_flag(name: &str, features: &[String]) -> String {
    format!("{name}={}", features.join(","))
}

fn shared_memory_is_scarce() -> bool {
    nix::sys::statvfs::statvfs("/dev/shm")
        .is_ok_and(|room| room.blocks_available() * room.fragment_size() < SHARED_MEMORY_WANTED)
}

impl Switches {
    /// The flags that can change what a browser computes.
    fn telling(&self) -> Vec<String> {
        let mut flags = self.flags.clone();
        for (name, features) in
            [("--enable-features", &self.enable_features), ("--disable-features", &self.disable_features)]
        {
            if !features.is_empty() {
                flags.push(feature_flag(name, features));
            }
        }
        flags
    }
}

/// A browser that has opened its page.
struct CdpInstance {
    process: Process,
    control: Control,
    sandbox: bool,
    flags: Vec<String>,
}

impl Instance for CdpInstance {
    fn version(&self) -> &str {
        &self.control.version
    }

    fn sandbox(&self) -> Option<bool> {
        Some(self.sandbox)
    }

    fn flags(&self) -> &[String] {
        &self.flags
    }

    fn process(&self) -> Option<i32> {
        Some(self.process.pid())
    }

    fn navigate(&self, url: String, within: Duration) -> BoxFuture<'static, Result<(), DriverError>> {
        self.control.navigate(url, within).boxed()
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        self.control.lost().boxed()
    }

    fn crashed(&self) -> BoxFuture<'static, String> {
        self.control.crashed().boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { process, control, .. } = *self;
        async move {
            control.closed();
            process.end().await;
        }
        .boxed()
    }
}
