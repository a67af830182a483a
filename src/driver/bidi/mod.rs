//! Launches and steers Firefox over `WebDriver` `BiDi`, straight, without geckodriver; or a page of a running one.
//!
//! The profile is new at every start and holds the preferences of [`prefs`] and the recipe.
//! Firefox tells of no crash: that a page's process died shows in what the tab shows instead.

mod prefs;
mod protocol;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, path::Path, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use self::protocol::Bidi;
use super::{
    Driver, DriverError, Instance, LaunchOrder,
    ledger::{Folders, RunDir},
    process::{Order, Process},
    recipe::{GpuMode, Places, Recipe, Source, Switches},
    sandbox,
    wire::page::{Opening, PageInstance, Peer},
};
use crate::tasks::Tasks;

const ANNOUNCEMENT: &str = "WebDriver BiDi listening on ";

/// Where the announced address takes sessions.
const SESSION: &str = "/session";

/// Where no session of a desktop runs, Mesa says so for each process, which would bury Firefox's last words.
const NOISE: &str = "XDG_RUNTIME_DIR";

const BASE_FLAGS: [&str; 4] = ["--remote-debugging-port", "0", "--no-remote", "--new-instance"];

/// Firefox obeys [`prefs`] about its remote settings' server only with this; without, it asks Mozilla's for
/// a dozen lists, again and again.
const OWN_SETTINGS_SERVER: (&str, &str) = ("MOZ_REMOTE_SETTINGS_DEVTOOLS", "1");

/// A crash is told by the driver; no report of it is written or sent.
const NO_CRASH_REPORTS: (&str, &str) = ("MOZ_CRASHREPORTER_DISABLE", "1");

/// Firefox has no switch between adapters, but Vulkan's loader can be told which drivers there are: without this
/// a machine with a GPU would compute on it in software mode, and one without would pass for hardware.
const ONLY_SOFTWARE: (&str, &str) = ("VK_LOADER_DRIVERS_SELECT", "*lvp*");
const NO_SOFTWARE: (&str, &str) = ("VK_LOADER_DRIVERS_DISABLE", "*lvp*");

/// Launches one Firefox, or attaches to one.
pub struct BidiDriver {
    launcher: Arc<Launcher>,
}

struct Launcher {
    recipe: Recipe,
    places: Places,
    run: Arc<RunDir>,
    tasks: Tasks,
}

impl BidiDriver {
    pub fn new(recipe: Recipe, places: Places, run: Arc<RunDir>, tasks: Tasks) -> Self {
        Self { launcher: Arc::new(Launcher { recipe, places, run, tasks }) }
    }
}

impl Driver for BidiDriver {
    fn launch(&self, order: LaunchOrder) -> BoxFuture<'static, Result<Box<dyn Instance>, DriverError>> {
        let launcher = Arc::clone(&self.launcher);
        async move {
            let instance = match &launcher.recipe.source {
                Source::Find(_) => launcher.launch(order).await?,
                Source::Endpoint(endpoint) => launcher.attach(endpoint, order).await?,
            };
            Ok(Box::new(instance) as Box<dyn Instance>)
        }
        .boxed()
    }
}

impl Launcher {
    async fn launch(&self, order: LaunchOrder) -> Result<PageInstance<Bidi>, DriverError> {
        let started = Instant::now();
        let deadline = started + order.deadline;
        let program = self.recipe.locate(&self.places)?;
        let switches = self.recipe.switches(order.gpu);
        let adapters = adapters(order.gpu);
        let process = self.start(&order.name, &program, &switches, adapters)?;
        let opening = Opening { peer: Peer::Ours(process.watch()), tasks: &self.tasks, started, deadline };
        let opened = async {
            let address = opening.announced(ANNOUNCEMENT).await?;
            opening.open(Bidi::own(), &format!("{address}{SESSION}"), &order.url).await
        };
        match opened.await {
            Ok(page) => {
                let sandbox = sandbox::confines_tabs(process.pid()).await;
                if sandbox == Some(false) {
                    tracing::warn!(name = order.name, "Firefox runs a page's process without its sandbox");
                }
                let flags = telling(&switches, adapters);
                tracing::info!(name = order.name, version = page.version, gpu = %order.gpu, "browser launched");
                Ok(PageInstance { page, process: Some(process), sandbox, flags })
            }
            Err(error) => {
                process.end().await;
                Err(error)
            }
        }
    }

    /// Opens a tab in a Firefox that is not ours, and touches nothing else there.
    async fn attach(&self, endpoint: &str, order: LaunchOrder) -> Result<PageInstance<Bidi>, DriverError> {
        let started = Instant::now();
        let deadline = started + order.deadline;
        let opening = Opening { peer: Peer::Theirs(endpoint), tasks: &self.tasks, started, deadline };
        let address = match endpoint.trim_end_matches('/') {
            whole if whole.ends_with(SESSION) => whole.to_owned(),
            bare => format!("{bare}{SESSION}"),
        };
        let page = opening.open(Bidi::guest(), &address, &order.url).await?;
        tracing::info!(name = order.name, version = page.version, endpoint, "attached");
        Ok(PageInstance { page, process: None, sandbox: None, flags: Vec::new() })
    }

    fn start(
        &self,
        name: &str,
        program: &Path,
        switches: &Switches,
        adapters: (&'static str, &'static str),
    ) -> Result<Process, DriverError> {
        let failed = |source| DriverError::Spawn { program: program.display().to_string(), source };
        let folders = self.run.folders(name).map_err(|error| failed(std::io::Error::other(error)))?;
        std::fs::write(folders.profile.join("user.js"), prefs::file(&switches.prefs)).map_err(|error| {
            folders.abandon();
            failed(error)
        })?;
        let order = Order {
            program,
            args: arguments(&self.recipe, switches, &folders),
            variables: variables(&folders, adapters),
            folders,
            announcement: ANNOUNCEMENT,
            noise: NOISE,
        };
        Process::spawn(&self.tasks, &self.run, order)
    }
}

fn arguments(recipe: &Recipe, switches: &Switches, folders: &Folders) -> Vec<OsString> {
    let mut args: Vec<OsString> = BASE_FLAGS.iter().map(OsString::from).collect();
    args.extend(["--profile".into(), folders.profile.clone().into_os_string()]);
    args.extend(recipe.flags().iter().chain(&switches.flags).map(OsString::from));
    args
}

/// Whatever Firefox and Mesa would keep for the user stays below the process's own folder.
fn variables(folders: &Folders, adapters: (&'static str, &'static str)) -> Vec<(&'static str, OsString)> {
    let own = ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];
    let own = own.into_iter().map(|name| (name, folders.own.clone().into_os_string()));
    let fixed = [OWN_SETTINGS_SERVER, NO_CRASH_REPORTS, adapters];
    own.chain(fixed.into_iter().map(|(name, value)| (name, value.into()))).collect()
}

fn adapters(gpu: GpuMode) -> (&'static str, &'static str) {
    match gpu {
        GpuMode::Hardware => NO_SOFTWARE,
        GpuMode::Software => ONLY_SOFTWARE,
    }
}

/// What can change the numbers that it computes, among all that it is started with.
fn telling(switches: &Switches, (variable, value): (&str, &str)) -> Vec<String> {
    let prefs = switches.prefs.iter().map(|(name, value)| format!("{name}={value}"));
    switches.flags.iter().cloned().chain(prefs).chain([format!("{variable}={value}")]).collect()
}
