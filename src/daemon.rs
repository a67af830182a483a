//! The composition root: starts every room, and stops them in order.

mod reload;

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::future::BoxFuture;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Access, AccessError},
    backend::{
        Backend,
        ort::{OrtError, OrtLane, OrtLibrary},
        wgpu::{WgpuError, WgpuLane},
    },
    bench::Archive,
    bridge::{Bridge, BridgeError},
    config::{Config, Gpu, Library, Native},
    domain::{BackendKind, Environment},
    driver::{
        Drivers,
        descriptors::{self, DescriptorError},
        guardian::{self, Guardian, GuardianError},
        ledger::{LedgerError, RunDir},
        reaper::{Reaper, ReaperError},
        recipe::{GpuMode, Places},
    },
    events::Events,
    http::{self, Api, Doors, ListenError, Readers, Reviews, Watched},
    models::{
        Blobs, Cache, Layouts, Loader, ModelError, Plans, Reference, Registry,
        foreign::Foreign,
        gate::Gate,
        source::{Downloads, SourceError},
    },
    pool::{self, Fleet, InstanceLimits, Pool, PoolEvent, PoolStatus},
    scheduler::{Ledger, Scheduler},
    store::{Store, StoreError},
    tasks::Tasks,
    telemetry::Metrics,
};
use reload::Live;
pub use reload::{ReloadError, Reloader};

/// Pages say that they live once a second.
const HEARTBEAT_MS: u64 = 1000;

/// Lanes come and go a few times a minute at most.
const LANE_EVENTS: usize = 256;

/// Closing browsers takes a second or two; what is not done by then is the guardian's.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The database of a home.
pub const STORE: &str = "weft.duckdb";

/// What has been downloaded in part.
const DOWNLOADS: &str = "downloads";

/// Where the running daemon of a home says how to reach it.
const RECORD: &str = "daemon.json";

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("could not prepare the home {}: {source}", path.display())]
    Home { path: PathBuf, source: std::io::Error },
    #[error("another daemon runs on the home {}{}", path.display(), at(.url.as_deref()))]
    HomeInUse { path: PathBuf, url: Option<String> },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    #[error(transparent)]
    Reaper(#[from] ReaperError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ort(#[from] OrtError),
    #[error(transparent)]
    Wgpu(#[from] WgpuError),
    #[error(transparent)]
    Models(#[from] ModelError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

fn at(url: Option<&str>) -> String {
    url.map(|url| format!(", at {url}")).unwrap_or_default()
}

/// What a running daemon leaves in its home, for nobody but the home's owner to read.
#[derive(Serialize, Deserialize)]
pub struct Record {
    pub pid: u32,
    pub url: String,
    /// Random: an address alone may be another daemon's by now.
    pub id: String,
    /// Lets in whoever can read this, as long as this daemon runs.
    pub key: String,
}

impl Record {
    /// This process's.
    fn of(Local { url, key }: Local, id: String) -> Self {
        Self { pid: std::process::id(), url, id, key }
    }

    pub fn read(home: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(home.join(RECORD)).ok()?).ok()
    }

    /// Whole or not at all, and with its key never readable by others.
    fn write(&self, home: &Path) -> Result<(), DaemonError> {
        let wrong = |source| DaemonError::Home { path: home.to_owned(), source };
        let text = serde_json::to_string(self).expect("a record holds a number and strings");
        let unfinished = home.join(format!("{RECORD}.new"));
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(error)),
            _ => {}
        }
        let mut file =
            File::options().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(wrong)?;
        file.write_all(text.as_bytes()).map_err(wrong)?;
        std::fs::rename(unfinished, home.join(RECORD)).map_err(wrong)
    }
}

pub struct Daemon {
    url: String,
    local: Local,
    home: PathBuf,
    pool: Pool,
    native: Vec<Environment>,
    store: Arc<Store>,
    tasks: Tasks,
    program: PathBuf,
    run: Arc<RunDir>,
    guardian: Guardian,
    /// None where this process has children of others.
    reaper: Option<Arc<Reaper>>,
    drain: watch::Receiver<Duration>,
    reloader: Reloader,
    /// Held as long as the daemon runs.
    _lock: Flock<File>,
}

/// How a process of the home's owner reaches the daemon.
#[derive(Clone)]
pub struct Local {
    pub url: String,
    pub key: String,
}

/// What outlives the start.
struct Rooms {
    local: Local,
    pool: Pool,
    native: Vec<Environment>,
    store: Arc<Store>,
    drain: watch::Receiver<Duration>,
    reloader: Reloader,
}

/// The instances that a configuration wants.
type Fleets = Box<dyn Fn(&Config) -> Vec<Fleet> + Send + Sync>;

impl Daemon {
    pub async fn start(config: Config) -> Result<Self, DaemonError> {
        Self::start_with(config, fleets).await
    }

    /// Starts with instances of the caller's choice.
    pub async fn start_with(
        mut config: Config,
        fleets: impl Fn(&Config, &Arc<RunDir>, &Tasks) -> Vec<Fleet> + Send + Sync + 'static,
    ) -> Result<Self, DaemonError> {
        descriptors::raise()?;
        config.bridge.prepare()?;
        let home = config.home.clone();
        let lock = lock_home(&home)?;
        let (certificate, public) = (config.certificate.clone(), config.public.clone());
        let doors = Doors::bind(config.listen, certificate, public, config.connections).await?;
        let url = doors.url().to_owned();
        warn_of_plain(&config, &url);
        guardian::sweep_stale(&home)?;
        let run = RunDir::create(&home)?;
        let guardian = match Guardian::start(&config.program, &run).await {
            Ok(guardian) => guardian,
            Err(error) => {
                clear(&run);
                return Err(error.into());
            }
        };
        let tasks = Tasks::new();
        // Before the first process of the rooms is started, so that it can leave nobody elsewhere.
        let started = async {
            let reaper = config.alone.then(|| Reaper::start(run.clone(), &tasks)).transpose()?;
            let (own, started) = (run.clone(), tasks.clone());
            let wanted: Fleets = Box::new(move |config| fleets(config, &own, &started));
            let rooms = Self::start_rooms(&config, doors, wanted, &run, &tasks).await?;
            Ok::<_, DaemonError>((rooms, reaper))
        };
        let (Rooms { local, pool, native, store, drain, reloader }, reaper) = match started.await {
            Ok(started) => started,
            Err(error) => {
                tasks.stop().await;
                finish(guardian, &run).await;
                return Err(error);
            }
        };
        Ok(Self {
            url,
            local,
            home,
            pool,
            native,
            store,
            tasks,
            program: config.program,
            run,
            guardian,
            reaper,
            drain,
            reloader,
            _lock: lock,
        })
    }

    async fn start_rooms(
        config: &Config,
        doors: Doors,
        wanted: Fleets,
        run: &Arc<RunDir>,
        tasks: &Tasks,
    ) -> Result<Rooms, DaemonError> {
        let (fleets, live) = (wanted(config), Live::new(config));
        let store = Arc::new(Store::open(&config.home.join(STORE))?);
        let access = Access::open(config.access.clone(), store.clone(), tasks).await?;
        let library = OrtLibrary::load(&config.native.library)?;
        let reference = Arc::new(reference(library.clone(), config.native.threads)?);
        let natives = natives(config, &library, run)?;
        let registry = registry(config, store.clone(), reference.clone(), tasks).await?;
        let folder = registry.blobs.folder().to_owned();
        let bridge = Bridge::bind(config.bridge.clone(), HEARTBEAT_MS, folder, tasks).await?;
        let (events, metrics, backlog): (Events, Metrics, Arc<AtomicUsize>) = Default::default();
        let downloads = downloads(config, &registry, &events, tasks)?;
        let (lane_events, lanes) = lane_events(&natives, &fleets).await;
        let surroundings = pool::Surroundings {
            bridge,
            home: &config.home,
            events: lane_events,
            backlog: backlog.clone(),
            told: events.clone(),
        };
        let pool = Pool::start(fleets, surroundings, tasks).await;
        let cache = Cache::new(registry.clone(), downloads.clone(), tasks.clone());
        let plans = Plans::open(registry.clone(), cache.clone()).await?;
        let loader = loader(Gate::new(reference, store.clone()), registry.layouts.clone(), cache.clone());
        let ledger = Ledger { store: store.clone(), events: events.clone(), metrics: metrics.clone() };
        let priors = config.recipes.iter().map(|recipe| (recipe.name.clone(), recipe.priors.clone()));
        let limits = live.limits.subscribe();
        let scheduler = Scheduler::start(limits, loader, ledger, priors.collect(), lanes, backlog, tasks);
        let native: Vec<_> = natives.iter().map(|native| native.environment().clone()).collect();
        let id = format!("{:032x}", rand::random::<u128>());
        let local = Local { url: doors.local_url().to_owned(), key: access.owner_key().to_owned() };
        tasks.spawn("metrics upkeep", metrics.clone().upkeep(tasks.stopping()));
        let (drain, timeout) = (live.drain.subscribe(), live.timeout.subscribe());
        let reloader = Reloader::new(config, wanted, pool.clone(), live);
        let api = Api {
            id: id.clone(),
            access,
            names: doors.names(),
            secure: doors.url().starts_with("https:"),
            body: doors.pace(),
            scheduler,
            registry,
            cache,
            plans,
            downloads,
            foreign: foreign(config, run, tasks),
            pool: pool.clone(),
            store: store.clone(),
            archive: Archive::new(store.clone(), config.bench),
            events,
            tasks: tasks.clone(),
            native: native.clone(),
            timeout,
            policy: config.policy,
            metrics,
            reload: reloader.handle(),
            readers: Readers::default(),
            reviews: Reviews::default(),
            watched: Watched::default(),
        };
        http::serve(doors, api);
        Record::of(local.clone(), id).write(&config.home)?;
        Ok(Rooms { local, pool, native, store, drain, reloader })
    }

    /// What clients call it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// How a process of the home's owner reaches it.
    pub fn local(&self) -> Local {
        self.local.clone()
    }

    pub fn pool(&self) -> PoolStatus {
        self.pool.status()
    }

    /// Replaces a guardian that ended before its daemon; returns only when that fails.
    pub async fn attend(&mut self) -> GuardianError {
        loop {
            let status = self.guardian.ended().await;
            tracing::warn!(status, "the guardian ended, starting another");
            match Guardian::start(&self.program, &self.run).await {
                Ok(guardian) => self.guardian = guardian,
                Err(error) => return error,
            }
        }
    }

    /// Where native lanes compute.
    pub fn native(&self) -> Vec<Environment> {
        self.native.clone()
    }

    /// Resolves when every wanted browser serves or has failed with a reason.
    pub async fn settled(&self) {
        self.pool.settled().await;
    }

    /// Admits nothing more, and waits within the configured time until all that was accepted has been answered.
    pub async fn drain(&self) {
        let (hurrying, within) = (self.tasks.hurrying(), *self.drain.borrow());
        tracing::info!(under_way = self.tasks.under_way(), within_s = within.as_secs_f64(), "draining");
        tokio::select! {
            biased;
            () = self.tasks.drain() => {}
            () = tokio::time::sleep(within) => {
                tracing::warn!(under_way = self.tasks.under_way(), "some requests did not end in the time to drain");
            }
            () = hurrying.cancelled() => {}
        }
    }

    /// Reads the configuration again.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Cancelling it ends [`Daemon::drain`], and has [`Daemon::stop`] kill browsers without asking them first.
    pub fn hurry(&self) -> CancellationToken {
        self.tasks.hurrying()
    }

    /// Ends every task, browser and file of this daemon.
    pub async fn stop(self) {
        if tokio::time::timeout(STOP_WITHIN, self.tasks.stop()).await.is_err() {
            tracing::error!("some tasks did not end within {} s; the guardian sweeps", STOP_WITHIN.as_secs());
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store did not close");
        }
        if let Some(reaper) = self.reaper {
            // What has come to us since the last look is written down for the guardian's sweep.
            reaper.look();
        }
        finish(self.guardian, &self.run).await;
        if let Err(error) = std::fs::remove_file(self.home.join(RECORD)) {
            tracing::warn!(%error, "the daemon's record was not removed");
        }
    }
}

/// Has the guardian clear the run, or does it when the guardian does not.
async fn finish(guardian: Guardian, run: &RunDir) {
    if let Err(error) = guardian.finish().await {
        tracing::error!(%error, "the guardian did not finish");
        clear(run);
    }
}

fn clear(run: &RunDir) {
    if let Err(error) = run.clear() {
        tracing::error!(%error, "the run was not cleared; the next start on this home tries again");
    }
}

/// A lane per execution provider, in this process and for other libraries in one of its own; and one on an adapter.
fn natives(
    config: &Config,
    library: &OrtLibrary,
    run: &Arc<RunDir>,
) -> Result<Vec<Arc<dyn Backend>>, DaemonError> {
    let Native { providers, libraries, threads, wgpu, .. } = &config.native;
    let mut lanes: Vec<Arc<dyn Backend>> = Vec::new();
    for provider in providers {
        lanes.push(Arc::new(OrtLane::start(library, provider, *threads)?));
    }
    for Library { path, providers } in libraries.values() {
        for provider in providers {
            let lane = OrtLane::start_elsewhere(&config.program, run, path, provider, *threads)?;
            lanes.push(Arc::new(lane));
        }
    }
    if let Some(wanted) = wgpu
        && let Some(lane) = WgpuLane::start(wanted)?
    {
        lanes.push(Arc::new(lane));
    }
    Ok(lanes)
}

/// The pool's word on lanes; native ones are up before it begins.
async fn lane_events(
    natives: &[Arc<dyn Backend>],
    fleets: &[Fleet],
) -> (mpsc::Sender<PoolEvent>, mpsc::Receiver<PoolEvent>) {
    let wanted: usize = fleets.iter().map(|fleet| fleet.instances.least as usize).sum();
    let (events, lanes) = mpsc::channel(LANE_EVENTS + natives.len() + wanted);
    for native in natives {
        // The receiver is held above.
        let _ = events.send(PoolEvent::LaneUp(native.clone())).await;
    }
    (events, lanes)
}

async fn registry(
    config: &Config,
    store: Arc<Store>,
    reference: Arc<Reference>,
    tasks: &Tasks,
) -> Result<Arc<Registry>, ModelError> {
    let blobs = Blobs::open(config.cache.folder.clone(), &config.home, config.cache.max)?;
    Registry::open(&config.home, blobs, store, reference, config.sources.offline, tasks.clone()).await
}

/// Whoever loads a model has its files from the cache.
fn loader(gate: Gate, layouts: Layouts, cache: Arc<Cache>) -> Arc<Loader> {
    let hold = move |entry| {
        let cache = cache.clone();
        Box::pin(async move { cache.hold(&entry).await }) as BoxFuture<'static, _>
    };
    Arc::new(Loader::new(gate, layouts, hold))
}

fn foreign(config: &Config, run: &Arc<RunDir>, tasks: &Tasks) -> Foreign {
    let path = config.surroundings.path.clone();
    Foreign { wanted: config.python, path, run: run.clone(), tasks: tasks.clone() }
}

fn downloads(
    config: &Config,
    registry: &Arc<Registry>,
    events: &Events,
    tasks: &Tasks,
) -> Result<Downloads, SourceError> {
    let (folder, settings) = (config.home.join(DOWNLOADS), config.sources.clone());
    Downloads::open(folder, settings, registry.clone(), events.clone(), tasks.clone())
}

/// A reference that can start its lane anew.
fn reference(library: OrtLibrary, threads: u32) -> Result<Reference, OrtError> {
    let start = move || Ok(Arc::new(OrtLane::start(&library, "cpu", threads)?) as Arc<dyn Backend>);
    let first = start()?;
    Ok(Reference::new(first, move || start().map_err(|error: OrtError| error.to_string())))
}

/// Keys travel with every request.
fn warn_of_plain(config: &Config, url: &str) {
    if !config.listen.ip().is_loopback() && !url.starts_with("https:") {
        tracing::warn!(
            url,
            "keys and tensors cross the network unencrypted: configure [tls], or a proxy and public"
        );
    }
}

/// Held as long as the file is: one process at a time works on a home.
pub fn lock_home(home: &Path) -> Result<Flock<File>, DaemonError> {
    let wrong = |source| DaemonError::Home { path: home.to_owned(), source };
    std::fs::create_dir_all(home).map_err(wrong)?;
    let file = File::options().create(true).append(true).open(home.join("lock")).map_err(wrong)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| DaemonError::HomeInUse {
        path: home.to_owned(),
        url: Record::read(home).map(|record| record.url),
    })
}

fn fleets(config: &Config, run: &Arc<RunDir>, tasks: &Tasks) -> Vec<Fleet> {
    let places = Places { cache: config.surroundings.cache.clone(), path: config.surroundings.path.clone() };
    let drivers = Drivers {
        places,
        run: run.clone(),
        tasks: tasks.clone(),
        display: config.display.clone(),
        certificate_pin: config.bridge.pin().map(ToOwned::to_owned),
    };
    let wanted = config.recipes.iter().filter_map(|recipe| {
        let instances = config.browsers.get(&recipe.name).copied().filter(|bounds| bounds.most > 0)?;
        // The configured order decides which lane starts first.
        let backends: Vec<BackendKind> =
            config.backends.iter().filter(|backend| recipe.backends.contains(backend)).cloned().collect();
        Some(Fleet {
            browser: recipe.name.clone(),
            version: recipe.version.clone(),
            driver: drivers.of(recipe.clone()),
            instances,
            backends,
            gpu: gpu_mode(config.gpu),
            threads: config.threads,
            webnn_device: config.webnn_device.clone(),
            memory_max: config.memory_max,
            limits: InstanceLimits {
                memory: recipe.limits.memory_mb.map(|mb| mb << 20),
                runs: recipe.limits.runs,
                idle: config.idle,
                restarts: config.restarts,
            },
        })
    });
    wanted.collect()
}

fn gpu_mode(gpu: Gpu) -> Option<GpuMode> {
    match gpu {
        Gpu::Auto => None,
        Gpu::Hardware => Some(GpuMode::Hardware),
        Gpu::Software => Some(GpuMode::Software),
    }
}
