//! Configuration: what the file and the command line say, resolved once into something complete and checked.
//!
//! This is the only reader of the environment, beside the log filter: it names folders, the search path, a key and a
//! CI's branch.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    access,
    bench::Keeping,
    bridge::{Certificate, Door, Outside, guard::Origin},
    domain::{BackendKind, Policy},
    driver::recipe::{Recipe, RecipeError},
    http::ConnectionLimits,
    models::source::Settings,
    pool::Bounds,
    scheduler::Limits,
    telemetry::Log,
};
pub use bench::RawBench;
pub use entry::{RawAccess, RawTls, RawTokens};
pub use models::{Cache, RawModels};
pub use native::{Library, Native, RawNative};
pub use source::{Source, Written};
pub use telemetry::{FILTER, RawTelemetry, Telemetry};

const LISTEN: &str = "127.0.0.1:9338";

/// The folder of the home that holds recipes of one's own.
pub const RECIPES: &str = "browsers";

/// Requests pending in the whole daemon, before more are refused as overloaded.
const PENDING_REQUESTS: usize = 1024;

/// A queued request moves up a class in this: behind a flood of better ones the last comes to the front in half a
/// minute, well within the default time.
const AGE_STEP: Duration = Duration::from_secs(1);

/// Requests that may be computed twice, of a hundred: those that take longer than the other 95.
const HEDGE_PERCENT: u32 = 5;

/// Bytes of inputs pending in the whole daemon.
const PENDING_BYTES: usize = 1 << 30;

/// Loading a model again costs seconds, and a browser at rest next to nothing but its memory.
const IDLE: Duration = Duration::from_secs(600);

/// One a minute is no accident any more.
const RESTARTS: usize = 60;
/// What a lane's WASM heap, and its GPU objects, may come to. A 32-bit heap ends at 4 GiB, and a load needs a model's
/// bytes twice, so that half of it is what sessions can hold while one more is loaded.
const LANE_MEMORY: u64 = 2 << 30;

/// The least that can be asked for: the engine alone takes a few tens of MiB.
const LANE_MEMORY_MIN: u64 = 256 << 20;

/// All that a WebAssembly memory of 32 bits can have.
const HEAP_MAX: u64 = 1 << 32;

/// An engine begins with 16 MiB, and its own small sessions take a few.
const HEAP_MIN: u64 = 64 << 20;

/// A Worker costs seconds to start and its sessions their loads, so memory alone ends one at most once a minute.
const RECYCLE_AFTER: Duration = Duration::from_secs(60);

/// A request's time when it names none. A cold start of a browser and a proof fit in it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a stopping daemon gives accepted requests. Container engines and service managers kill after 10 to 90 s.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("could not read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error("{0}")]
    Invalid(String),
}

/// The file's content; every key may be absent, no other is allowed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    pub listen: Option<String>,
    pub public: Option<String>,
    pub access: RawAccess,
    pub tls: Option<RawTls>,
    /// Instances per recipe.
    pub browsers: Option<BTreeMap<String, RawInstances>>,
    pub bridge: RawBridge,
    pub display: Option<String>,
    pub lanes: RawLanes,
    pub native: RawNative,
    pub limits: RawLimits,
    pub models: RawModels,
    pub scheduler: RawScheduler,
    pub bench: RawBench,
    pub telemetry: RawTelemetry,
}

/// How many instances of a recipe: so many, or as many as the load asks for between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a number of at least 0, or { min = N, max = N } is wanted")]
pub enum RawInstances {
    Count(u32),
    Between(Between),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    pub min: u32,
    pub max: u32,
}

impl From<RawInstances> for Bounds {
    fn from(raw: RawInstances) -> Self {
        match raw {
            RawInstances::Count(count) => Self { least: count, most: count },
            RawInstances::Between(Between { min, max }) => Self { least: min, most: max },
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBridge {
    pub listen: Option<String>,
    pub public: Option<String>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLanes {
    pub backends: Option<Vec<BackendKind>>,
    pub gpu: Option<Gpu>,
    pub threads: Option<u32>,
    pub webnn_device: Option<String>,
    pub memory_max: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawScheduler {
    pub policy: Policy,
    #[serde(with = "humantime_serde")]
    pub age_step: Option<Duration>,
    pub hedge: bool,
    pub hedge_percent: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    pub pending_requests: Option<usize>,
    pub caller_requests: Option<usize>,
    pub pending_bytes: Option<usize>,
    pub lane_memory: Option<u64>,
    #[serde(with = "humantime_serde")]
    pub timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub drain: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub idle: Option<Duration>,
    pub restarts: Option<usize>,
    pub connections: Option<usize>,
    pub connections_per_address: Option<usize>,
}

/// Which GPU flags browsers are launched with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gpu {
    /// Hardware first, software when it gives no adapter.
    #[default]
    Auto,
    Hardware,
    Software,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub home: PathBuf,
    pub listen: SocketAddr,
    /// What clients call the daemon when that is not where it listens.
    pub public: Option<Origin>,
    pub certificate: Option<Certificate>,
    pub connections: ConnectionLimits,
    pub access: access::Settings,
    /// Where browsers find the harness.
    pub bridge: Door,
    /// An X display for browsers that need one.
    pub display: Option<String>,
    /// Those of the program and of the home.
    pub recipes: Vec<Recipe>,
    pub browsers: BTreeMap<String, Bounds>,
    /// Which kinds of lanes browsers hold, of those that their recipes can.
    pub backends: Vec<BackendKind>,
    pub gpu: Gpu,
    /// Threads of each WASM lane.
    pub threads: u32,
    pub webnn_device: Option<String>,
    /// The bytes that an engine's heap may grow to.
    pub memory_max: u64,
    pub native: Native,
    pub limits: Limits,
    pub timeout: Duration,
    /// How models are downloaded.
    pub sources: Settings,
    /// Where models' files are kept, and how much of them.
    pub cache: Cache,
    /// Whether optimum or PyTorch of this machine converts what weft does not.
    pub python: bool,
    /// Which lanes are preferred when a request does not say.
    pub policy: Policy,
    /// How much of what suites measured is kept.
    pub bench: Keeping,
    /// What accepted requests get to end in, once the daemon is told to.
    pub drain: Duration,
    /// Whether every child of this process is the daemon's: only then it may adopt orphans and reap them.
    pub alone: bool,
    /// How long an instance beyond the least may do nothing.
    pub idle: Duration,
    /// Launches after a loss, per recipe and hour.
    pub restarts: usize,
    /// This program, which is started again as the guardian.
    pub program: PathBuf,
    pub surroundings: Surroundings,
    pub telemetry: Telemetry,
    /// The running program's, for other filters.
    pub log: Option<Log>,
    /// Absent where nothing can be read again.
    pub source: Option<Arc<Source>>,
    /// What the file said.
    pub written: Written,
}

/// What the environment names.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// State, unless the command line says otherwise.
    pub home: PathBuf,
    /// What setup brought: browsers, models.
    pub cache: PathBuf,
    /// Where programs are searched.
    pub path: OsString,
}

impl Surroundings {
    pub fn read() -> Result<Self, ConfigError> {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let user = folder("HOME");
        let below = |rest: &str| user.as_ref().map(|user| user.join(rest));
        let (data, caches) = if cfg!(target_os = "macos") {
            (below("Library/Application Support"), below("Library/Caches"))
        } else {
            (folder("XDG_DATA_HOME").or(below(".local/share")), folder("XDG_CACHE_HOME").or(below(".cache")))
        };
        let unknown =
            || ConfigError::Invalid("HOME is not set: say --home DIR, and set WEFT_CACHE".to_owned());
        let home = folder("WEFT_HOME").or(data.map(|data| data.join("weft"))).ok_or_else(unknown)?;
        let cache = folder("WEFT_CACHE").or(caches.map(|caches| caches.join("weft"))).ok_or_else(unknown)?;
        Ok(Self { home, cache, path: env::var_os("PATH").unwrap_or_default() })
    }
}

/// The key that commands show the daemon; secrets may come from the environment, where other users do not see them.
pub fn key() -> Option<String> {
    env::var("WEFT_KEY").ok().filter(|key| !key.is_empty())
}

/// The branch that a CI says it builds: GitHub's of a pull request, else of a push; GitLab's; Jenkins's.
pub fn branch() -> Option<String> {
    let names = ["GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "CHANGE_BRANCH", "BRANCH_NAME"];
    names.iter().find_map(|name| env::var(name).ok().filter(|branch| !branch.is_empty()))
}

/// The hub's token, from the variable that its own tools read.
fn hub_token() -> Option<String> {
    env::var("HF_TOKEN").ok().filter(|token| !token.is_empty())
}

impl RawConfig {
    pub fn resolve(self, home: PathBuf, surroundings: Surroundings) -> Result<Config, ConfigError> {
        let entry = entry::resolve(self.listen, self.public, self.access, self.tls, &self.limits)?;
        let bridge = self.bridge.resolve(entry.listen)?;
        self.lanes.check_device()?;
        let unsaid = || BTreeMap::from([("chromium".to_owned(), RawInstances::Count(1))]);
        let browsers = self.browsers.unwrap_or_else(unsaid).into_iter();
        let browsers = browsers.map(|(name, raw)| (name, Bounds::from(raw))).collect();
        let memory_max = self.lanes.memory_max()?;
        let backends = self
            .lanes
            .backends
            .unwrap_or_else(|| vec![BackendKind::Wasm, BackendKind::Webnn, BackendKind::Webgpu]);
        if let Some(native) = backends.iter().find(|backend| backend.is_native()) {
            return Err(ConfigError::Invalid(format!("lanes.backends: {native} does not run in a browser")));
        }
        let recipes = Recipe::all(&home.join(RECIPES))?;
        check_browsers(&recipes, &browsers, &backends)?;
        let share = thread_share(cores(), &recipes, &browsers, &backends, self.native.lanes());
        let requests = positive(self.limits.pending_requests, PENDING_REQUESTS, "limits.pending_requests")?;
        let limits = Limits {
            requests,
            caller_requests: positive(self.limits.caller_requests, requests, "limits.caller_requests")?,
            bytes: positive(self.limits.pending_bytes, PENDING_BYTES, "limits.pending_bytes")?,
            lane_memory: lane_memory(self.limits.lane_memory)?,
            recycle_after: RECYCLE_AFTER,
            age_step: positive(self.scheduler.age_step, AGE_STEP, "scheduler.age_step")?,
            hedge_percent: self.scheduler.hedges()?,
        };
        Ok(Config {
            cache: self.models.cache(&home)?,
            home,
            listen: entry.listen,
            public: entry.public,
            certificate: entry.certificate,
            connections: entry.connections,
            access: entry.access,
            bridge,
            display: self.display,
            recipes,
            browsers,
            backends,
            gpu: self.lanes.gpu.unwrap_or_default(),
            threads: positive(self.lanes.threads, share, "lanes.threads")?,
            memory_max,
            webnn_device: self.lanes.webnn_device,
            native: self.native.resolve(share)?,
            limits,
            timeout: self.limits.timeout.unwrap_or(TIMEOUT),
            python: self.models.python.unwrap_or(false),
            sources: self.models.resolve()?,
            policy: self.scheduler.policy,
            bench: self.bench.resolve()?,
            drain: self.limits.drain.unwrap_or(DRAIN),
            alone: true,
            idle: self.limits.idle.unwrap_or(IDLE),
            restarts: positive(self.limits.restarts, RESTARTS, "limits.restarts")?,
            program: env::current_exe()
                .map_err(|error| ConfigError::Invalid(format!("the path of this program: {error}")))?,
            surroundings,
            telemetry: self.telemetry.resolve()?,
            log: None,
            source: None,
            written: Written::default(),
        })
    }
}

impl RawLanes {
    fn memory_max(&self) -> Result<u64, ConfigError> {
        let bytes = self.memory_max.unwrap_or(HEAP_MAX);
        if (HEAP_MIN..=HEAP_MAX).contains(&bytes) {
            return Ok(bytes);
        }
        Err(ConfigError::Invalid(format!(
            "lanes.memory_max: {bytes} bytes are not between {HEAP_MIN}, which an engine needs, and {HEAP_MAX}, \
             which 32 bits can address"
        )))
    }

    fn check_device(&self) -> Result<(), ConfigError> {
        match self.webnn_device.as_deref() {
            None | Some("cpu" | "gpu" | "npu") => Ok(()),
            Some(device) => {
                Err(ConfigError::Invalid(format!("lanes.webnn_device: {device:?} is not cpu, gpu or npu")))
            }
        }
    }
}

impl RawScheduler {
    fn hedges(&self) -> Result<Option<u32>, ConfigError> {
        let percent = positive(self.hedge_percent, HEDGE_PERCENT, "scheduler.hedge_percent")?;
        if percent > 100 {
            return Err(ConfigError::Invalid(format!("scheduler.hedge_percent: {percent} is over 100")));
        }
        Ok(self.hedge.then_some(percent))
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let address: SocketAddr = text.parse().map_err(|_| {
        ConfigError::Invalid(format!("{text:?} is no address to listen on: say IP:PORT, as {LISTEN}"))
    })?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ok(address),
        IpAddr::V6(ip) if ip.is_loopback() => Ok(address),
        ip => Err(ConfigError::Invalid(format!(
            "bridge.listen: {ip} is not a loopback address, and beyond loopback the bridge speaks TLS"
        ))),
    }
}

fn check_browsers(
    recipes: &[Recipe],
    browsers: &BTreeMap<String, Bounds>,
    backends: &[BackendKind],
) -> Result<(), ConfigError> {
    for (name, Bounds { least, most: instances }) in browsers.iter().filter(|(_, bounds)| bounds.most > 0) {
        let invalid = |message| Err(ConfigError::Invalid(message));
        let Some(recipe) = recipes.iter().find(|recipe| recipe.name == *name) else {
            let names: Vec<_> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
            return invalid(format!("no recipe is called {name:?}; there are {}", names.join(", ")));
        };
        if least > instances {
            return invalid(format!("browsers.{name}: min {least} is more than max {instances}"));
        }
        let most = recipe.limits.instances;
        if *instances > most {
            return invalid(format!("{instances} instances of {name}: the limit is {most}"));
        }
        if !recipe.backends.iter().any(|backend| backends.contains(backend)) {
            let held: Vec<_> = recipe.backends.iter().map(ToString::to_string).collect();
            return invalid(format!("lanes.backends has none of what {name} can hold: {}", held.join(", ")));
        }
    }
    Ok(())
}

fn positive<T: Copy + Default + PartialEq>(
    given: Option<T>,
    default: T,
    key: &str,
) -> Result<T, ConfigError> {
    match given {
        Some(value) if value == T::default() => {
            Err(ConfigError::Invalid(format!("{key} must be at least 1")))
        }
        Some(value) => Ok(value),
        None => Ok(default),
    }
}

fn lane_memory(given: Option<u64>) -> Result<u64, ConfigError> {
    match given.unwrap_or(LANE_MEMORY) {
        bytes if bytes < LANE_MEMORY_MIN => Err(ConfigError::Invalid(format!(
            "limits.lane_memory: {bytes} bytes are too few, an engine needs {LANE_MEMORY_MIN}"
        ))),
        bytes => Ok(bytes),
    }
}

/// The cores that this process may use: affinity and the quotas of control groups count, a fraction does not.
fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

/// An equal share of the cores for every lane that computes on them, so that all of them at once take no more than
/// there are; where there are more lanes than cores, one each. A GPU's lanes are no part of it.
fn thread_share(
    cores: u32,
    recipes: &[Recipe],
    browsers: &BTreeMap<String, Bounds>,
    backends: &[BackendKind],
    natives: usize,
) -> u32 {
    let mut lanes = u32::try_from(natives).unwrap_or(u32::MAX);
    for recipe in recipes {
        let on_cpu = |backend: &&BackendKind| !backend.on_gpu() && backends.contains(backend);
        let held = u32::try_from(recipe.backends.iter().filter(on_cpu).count()).unwrap_or(u32::MAX);
        let instances = browsers.get(&recipe.name).map_or(0, |bounds| bounds.most);
        lanes = lanes.saturating_add(instances.saturating_mul(held));
    }
    (cores / lanes.max(1)).max(1)
}

/// What an unpacked weft has at this path from its folder, where it has it.
pub fn unpacked(path: impl AsRef<Path>) -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?.parent()?;
    // Programs lie beside others' libraries in many folders; this one's own is known by what else is in it.
    let is_weft = folder.join("share/weft/models.toml").exists();
    Some(folder.join(path)).filter(|path| is_weft && path.exists())
}

/// The file of this name in the folder of the program.
fn beside(name: &str) -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.join(name)).filter(|path| path.exists())
}

mod bench;
mod bridge;
mod entry;
mod models;
mod native;
mod source;
mod telemetry;
#[cfg(test)]
mod tests;
