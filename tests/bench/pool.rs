//! What the pool costs: the next step of a lane, a lease, a browser lost in the middle of a request, rest.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use serde_json::{Value, json};
use weft::driver::recipe::{Places, Recipe};

use crate::{
    FIXTURES,
    daemon::Daemon,
    launch,
    origin::Origin,
    processes::{self, tree},
    progress,
    proxy::Proxy,
    report::{Found, Target},
    requests::{BACKEND, BROWSER, Model},
    site::Site,
    statistics::{median, quantile, ratio},
    wire::{Answer, Wire},
};

/// Kills and launches: enough for a p95; each costs the launch of a browser.
pub(crate) const TIMES: usize = 20;

/// Browsers that are launched beside a launch without the pool.
const LAUNCHED: [&str; 3] = [BROWSER, "firefox", "webkitgtk"];

const LEASES: usize = 300;

/// Steps that follow one another in a lane that always has more to do.
const STEPS: usize = 2000;
const IN_FLIGHT: usize = 8;

const IDLE_INSTANCES: usize = 4;
const IDLE_WINDOWS: usize = 6;
const IDLE_WINDOW: Duration = Duration::from_secs(5);
/// What a browser does after its start is no rest.
const IDLE_AFTER: Duration = Duration::from_secs(20);

/// Kills that may miss their request: between the look at the lanes and the signal, a machine may be elsewhere.
const LATE_MAX: usize = 10;

/// A cold browser's launch and a model's proof on a loaded machine.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Looking more often would take from what is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const NEXT_STEP_MAX_US: f64 = 1000.0;
const LEASE_MAX_US: f64 = 1000.0;
const KILLED_MAX_US: f64 = 300_000.0;
const IDLE_MAX_SHARE: f64 = 0.04;

const SEED: u64 = 5;

/// Microseconds, and shares of one core.
#[derive(Serialize)]
pub(crate) struct Samples {
    /// From a lane's answer to its next step, both seen on the wire.
    next_step: Vec<u64>,
    /// A lease of an idle instance and its return, over HTTP.
    lease: Vec<u64>,
    killed: Vec<Killed>,
    /// Per browser that is here.
    launch: Vec<launch::Samples>,
    /// The daemon and all browsers, a share per window.
    idle: Vec<f64>,
}

/// A request whose browser was killed while it computed.
#[derive(Serialize)]
struct Killed {
    /// From the kill to the answer.
    after: u64,
    /// What the browser that answered computed for.
    compute: u64,
}

#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) next_step_median_us: f64,
    pub(crate) lease_median_us: f64,
    pub(crate) killed_extra_p95_us: f64,
    pub(crate) idle_share: f64,
}

impl Samples {
    fn extra(&self) -> Vec<f64> {
        self.killed.iter().map(|killed| killed.after.saturating_sub(killed.compute) as f64).collect()
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            next_step_median_us: median(&floats(&self.next_step)),
            lease_median_us: median(&floats(&self.lease)),
            killed_extra_p95_us: quantile(&self.extra(), 0.95),
            idle_share: median(&self.idle),
        }
    }

    /// Lines of the table; the ratios are to the limits.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let p95 = |samples: &[f64]| quantile(samples, 0.95);
        let summary = self.summary();
        let mut targets = vec![
            limit(
                "lane free to next step sent, median",
                (format!("{:.0} µs", summary.next_step_median_us), "1 ms"),
                (&floats(&self.next_step), NEXT_STEP_MAX_US),
                median,
            ),
            limit(
                "lease of an idle browser, median",
                (format!("{:.0} µs", summary.lease_median_us), "1 ms"),
                (&floats(&self.lease), LEASE_MAX_US),
                median,
            ),
            limit(
                "browser killed in a request, beyond one more compute, p95",
                (format!("{:.0} ms", summary.killed_extra_p95_us / 1e3), "300 ms"),
                (&self.extra(), KILLED_MAX_US),
                p95,
            ),
            limit(
                "four browsers at rest, of one core",
                (format!("{:.1} %", summary.idle_share * 100.0), "4 %"),
                (&self.idle, IDLE_MAX_SHARE),
                median,
            ),
        ];
        targets.extend(self.launch.iter().map(launch::Samples::target));
        targets
    }
}

fn floats(series: &[u64]) -> Vec<f64> {
    series.iter().map(|micros| *micros as f64).collect()
}

pub(crate) fn limit(
    what: &str,
    (found, limit): (String, &str),
    (samples, most): (&[f64], f64),
    statistic: impl Fn(&[f64]) -> f64,
) -> Target {
    let pairs: Vec<_> = samples.iter().map(|sample| (*sample, most)).collect();
    let ratio = ratio(&pairs, statistic, 1, SEED);
    Target {
        what: what.to_owned(),
        found,
        bound: format!("limit {limit}"),
        ratio,
        wanted: "≤ 1.00".to_owned(),
        met: Some(ratio.value <= 1.0),
    }
}

pub(crate) async fn found(
    program: &Path,
    (quick, long): (&Model, &Model),
    times: usize,
) -> anyhow::Result<(Found, Samples)> {
    progress("the pool: leases, kills, rest");
    let mut site = Site::start(&[(quick.name.clone(), quick.file.as_path())]).await?;
    let (origin, samples) = measure(program, &mut site, (quick, long), times).await?;
    let found = Found::new(origin, samples.targets(), Vec::new(), &samples.summary(), &samples)?;
    Ok((found, samples))
}

/// `quick` is answered at once, `long` computes long enough to be interrupted.
async fn measure(
    program: &Path,
    site: &mut Site,
    (quick, long): (&Model, &Model),
    times: usize,
) -> anyhow::Result<(Origin, Samples)> {
    let (origin, next_step) = next_step(program, quick).await?;
    let pair = Pool::start(program, 2, "").await?;
    pair.prove(quick).await?;
    let lease = pair.leases().await?;
    pair.prove(long).await?;
    let mut killed = Vec::new();
    for number in 0..times + LATE_MAX {
        if killed.len() < times {
            killed.extend(pair.kill(long, number).await?);
            pair.prove(long).await?;
        }
    }
    ensure!(killed.len() == times, "{} of {times} kills came in time", killed.len());
    pair.daemon.stop().await?;
    let mut launch = Vec::new();
    for browser in LAUNCHED.into_iter().filter(|browser| installed(browser)) {
        let model = Model { browser, ..quick.clone() };
        let one = Pool::start_with(program, browser, 1, "").await?;
        one.prove(&model).await?;
        let launched = one.daemon.browser()?;
        launch.push(launch::measure(&one, &launched, site, &model, times).await?);
        one.daemon.stop().await?;
    }
    let four = Pool::start(program, IDLE_INSTANCES, "").await?;
    four.prove(quick).await?;
    let idle = four.idle().await?;
    four.daemon.stop().await?;
    Ok((origin, Samples { next_step, lease, killed, launch, idle }))
}

/// A lane that always has more to do, seen from between it and the daemon.
async fn next_step(program: &Path, model: &Model) -> anyhow::Result<(Origin, Vec<u64>)> {
    let bridge = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let proxy = Proxy::start(bridge, SEED).await?;
    let door = format!("[bridge]\nlisten = \"{bridge}\"\npublic = \"http://127.0.0.1:{}\"\n", proxy.port);
    let pool = Pool::start(program, 1, &door).await?;
    pool.prove(model).await?;
    let mut wire = Wire::connect(&pool.daemon.socket()).await?;
    proxy.turns();
    let (mut asked, mut last) = (0, None);
    for answered in 0..STEPS {
        while asked < (answered + IN_FLIGHT).min(STEPS) {
            wire.send(model.frame(asked)).await?;
            asked += 1;
        }
        last = Some(Answer::read(&wire.receive().await?)?);
    }
    let turns = proxy.turns();
    pool.daemon.stop().await?;
    ensure!(turns.len() > STEPS / 2, "{} of {STEPS} steps followed an answer", turns.len());
    let origin = Origin::of(&last.context("no step was asked for")?);
    Ok((origin, turns.into_iter().map(|turn| turn.as_micros() as u64).collect()))
}

/// A daemon with some browsers in a home of its own.
pub(crate) struct Pool {
    pub(crate) daemon: Daemon,
    http: reqwest::Client,
    instances: usize,
    _home: tempfile::TempDir,
}

impl Pool {
    pub(crate) async fn start(program: &Path, instances: usize, more: &str) -> anyhow::Result<Self> {
        Self::start_with(program, BROWSER, instances, more).await
    }

    async fn start_with(program: &Path, browser: &str, instances: usize, more: &str) -> anyhow::Result<Self> {
        Self::start_all(program, &[], &[(browser, instances)], more).await
    }

    /// With these recipes in its home, by their browsers' names, and so many of each browser.
    pub(crate) async fn start_all(
        program: &Path,
        recipes: &[(&str, String)],
        browsers: &[(&str, usize)],
        more: &str,
    ) -> anyhow::Result<Self> {
        let home = tempfile::tempdir().context("a throw-away home")?;
        let config =
            format!("[lanes]\nbackends = [\"{BACKEND}\"]\nthreads = 1\n[limits]\nrestarts = 1000\n{more}");
        std::fs::write(home.path().join("weft.toml"), config)?;
        std::fs::create_dir(home.path().join("browsers"))?;
        for (browser, recipe) in recipes {
            std::fs::write(home.path().join(format!("browsers/{browser}.toml")), recipe)?;
        }
        let wanted: Vec<_> = browsers.iter().map(|(browser, count)| format!("{browser}={count}")).collect();
        let daemon = Daemon::start_with(program, home.path(), &wanted.join(",")).await?;
        daemon.add(&format!("{FIXTURES}/models.toml")).await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let instances = browsers.iter().map(|(_, count)| count).sum();
        Ok(Self { daemon, http, instances, _home: home })
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.http.get(format!("{}{path}", self.daemon.url)).send().await?.json().await?)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response =
            self.http.post(format!("{}{path}", self.daemon.url)).body(body.to_string()).send().await?;
        let status = response.status();
        let answer = response.json().await?;
        ensure!(status.is_success(), "{path}: {status} {answer}");
        Ok(answer)
    }

    /// Waits until every instance serves and the model is proven in each of its browser's.
    pub(crate) async fn prove(&self, model: &Model) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let own = loop {
            let listed = self.get("/api/v1/instances").await?;
            let items = listed["items"].as_array().context("instances are a list")?;
            let ready =
                items.iter().filter(|item| item["state"] == "ready" || item["state"] == "busy").count();
            if ready == self.instances {
                break items.iter().filter(|item| item["browser"] == model.browser).count();
            }
            ensure!(Instant::now() < deadline, "{ready} of {} instances are ready: {listed}", self.instances);
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let which = json!({"backend": [BACKEND], "browser": [model.browser]});
        let proven = self.post(&format!("/api/v1/models/{}/verify", model.name), &which).await?;
        let lanes = proven["lanes"].as_array().context("lanes are a list")?;
        let right = lanes.iter().filter(|lane| lane["verdict"] == "verified").count();
        ensure!(right == own, "{} is proven in {right} of {own} lanes: {lanes:?}", model.name);
        Ok(())
    }

    async fn leases(&self) -> anyhow::Result<Vec<u64>> {
        let order = json!({"browser": BROWSER});
        let mut took = Vec::new();
        for _ in 0..LEASES {
            let started = Instant::now();
            let lease = self.post("/api/v1/leases", &order).await?;
            took.push(started.elapsed().as_micros() as u64);
            let id = lease["lease"].as_str().with_context(|| format!("a lease's name in {lease}"))?;
            let released = self.http.delete(format!("{}/api/v1/leases/{id}", self.daemon.url)).send().await?;
            released.error_for_status()?;
        }
        Ok(took)
    }

    /// An instance as the daemon tells of it; without a name the first one.
    pub(crate) async fn instance(&self, name: Option<&Value>) -> anyhow::Result<Value> {
        let listed = self.get("/api/v1/instances").await?;
        let items = listed["items"].as_array().context("instances are a list")?;
        let wanted = |item: &&Value| name.is_none_or(|name| item["instance"] == *name);
        items.iter().find(wanted).cloned().with_context(|| format!("no such instance in {listed}"))
    }

    /// Kills the browser that computes a request; `None` where the answer came before.
    async fn kill(&self, model: &Model, number: usize) -> anyhow::Result<Option<Killed>> {
        let mut wire = Wire::connect(&self.daemon.socket()).await?;
        wire.send(model.frame(number)).await?;
        let deadline = Instant::now() + READY_WITHIN;
        let instance = loop {
            let listed = self.get("/api/v1/lanes").await?;
            let lanes = listed["items"].as_array().context("lanes are a list")?;
            let executing =
                lanes.iter().find(|lane| lane["state"] == "executing" && lane["browser"] == BROWSER);
            if let Some(lane) = executing {
                break lane["instance"].clone();
            }
            ensure!(Instant::now() < deadline, "no lane computes: {listed}");
        };
        let process = process(&self.instance(Some(&instance)).await?)?;
        let struck = Instant::now();
        kill(process, Signal::SIGKILL)?;
        let answer = Answer::read(&wire.receive().await?)?;
        let after = struck.elapsed().as_micros() as u64;
        let retried = answer.provenance["attempt"] == 2;
        Ok(retried.then_some(Killed { after, compute: answer.timing.compute }))
    }

    /// Kills the only browser; how long its successor's first answer takes from then.
    pub(crate) async fn relaunched(&self, model: &Model, number: usize) -> anyhow::Result<Duration> {
        let mut wire = Wire::connect(&self.daemon.socket()).await?;
        let before = self.instance(None).await?;
        let started = Instant::now();
        kill(process(&before)?, Signal::SIGKILL)?;
        loop {
            let (_, answer) = wire.exchange(model.frame(number)).await?;
            let took = started.elapsed();
            Answer::read(&answer)?;
            // For some milliseconds the dead browser's page may still answer.
            if self.instance(None).await?["launches"] != before["launches"] {
                return Ok(took);
            }
            ensure!(took < READY_WITHIN, "the browser was not launched again: {before}");
        }
    }

    /// Processor time of the daemon and everything below it, per window.
    async fn idle(&self) -> anyhow::Result<Vec<f64>> {
        tokio::time::sleep(IDLE_AFTER).await;
        let mut shares = Vec::new();
        for _ in 0..IDLE_WINDOWS {
            let (before, started) = (self.spent()?, Instant::now());
            tokio::time::sleep(IDLE_WINDOW).await;
            let spent = self.spent()?.saturating_sub(before);
            shares.push(spent.as_secs_f64() / started.elapsed().as_secs_f64());
        }
        Ok(shares)
    }

    fn spent(&self) -> anyhow::Result<Duration> {
        let own: BTreeSet<i32> = tree(self.daemon.pid()?).into_iter().collect();
        Ok(own.into_iter().map(processes::spent).sum())
    }
}

/// Chromium must be here, the others may.
fn installed(browser: &str) -> bool {
    let places = Places { cache: PathBuf::new(), path: std::env::var_os("PATH").unwrap_or_default() };
    let recipes = Recipe::embedded();
    let found = |recipe: &Recipe| recipe.name == browser && recipe.locate(&places).is_ok();
    browser == BROWSER || recipes.iter().any(found)
}

pub(crate) fn process(instance: &Value) -> anyhow::Result<Pid> {
    let process = instance["process"].as_i64().with_context(|| format!("no process in {instance}"))?;
    Ok(Pid::from_raw(i32::try_from(process)?))
}
