//! The thirteen faults, each done to real browsers while requests run.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    engines::Engine,
    hog::HOG,
    load::{Load, Progress},
    processes::{saying, signal, spent, stopped, tree},
    proxy::{STALL, Weather},
    serve::{Client, Lane},
    stage::{Aim, READY_WITHIN, Stage},
};

/// How late each direction of a slow network is, and for how long.
const LATE: Duration = Duration::from_millis(60);
const SLOW_FOR: Duration = Duration::from_millis(1500);

const UNSTABLE_FOR: Duration = Duration::from_millis(2100);

/// A throttled browser computes for a quarter of the time.
pub(crate) const STOPPED_FOR: Duration = Duration::from_millis(150);
pub(crate) const GOING_FOR: Duration = Duration::from_millis(50);
const DUTY_CYCLES: u32 = 8;

/// Between one kill and the next of a staggered failure.
const STAGGER: Duration = Duration::from_secs(2);

/// How long pages are held still: less than makes a browser suspect.
const HELD_FOR: Duration = Duration::from_secs(2);
const HOLDS_MAX: u32 = 3;

/// Elements of four bytes: what a lane can hold, and what none can, since WASM's memory ends at 4 GiB.
const HELD: i64 = 1 << 27;
const TOO_MANY: i64 = (1 << 30) - 1024;
/// No tensor has as many; the engine throws.
const NEGATIVE: i64 = -7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    ConnectionLost,
    NetworkLatency,
    NetworkInstability,
    BrowserCrash,
    BrowserReload,
    BrowserMemoryPressure,
    BrowserCpuThrottling,
    ComponentTimeout,
    ComponentError,
    PartialResult,
    CascadeFailure,
    MultiBrowserFailure,
    StaggeredFailure,
}

impl Scenario {
    pub(crate) const ALL: [Self; 13] = [
        Self::ConnectionLost,
        Self::NetworkLatency,
        Self::NetworkInstability,
        Self::BrowserCrash,
        Self::BrowserReload,
        Self::BrowserMemoryPressure,
        Self::BrowserCpuThrottling,
        Self::ComponentTimeout,
        Self::ComponentError,
        Self::PartialResult,
        Self::CascadeFailure,
        Self::MultiBrowserFailure,
        Self::StaggeredFailure,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection_lost",
            Self::NetworkLatency => "network_latency",
            Self::NetworkInstability => "network_instability",
            Self::BrowserCrash => "browser_crash",
            Self::BrowserReload => "browser_reload",
            Self::BrowserMemoryPressure => "browser_memory_pressure",
            Self::BrowserCpuThrottling => "browser_cpu_throttling",
            Self::ComponentTimeout => "component_timeout",
            Self::ComponentError => "component_error",
            Self::PartialResult => "partial_result",
            Self::CascadeFailure => "cascade_failure",
            Self::MultiBrowserFailure => "multi_browser_failure",
            Self::StaggeredFailure => "staggered_failure",
        }
    }
}

/// A slice of a proof per scenario, each a test that is run when it is asked for, for this reason.
macro_rules! slices {
    ($why:literal, $prove:path) => {
        crate::scenarios::slices! { $why, $prove,
            connection_lost: ConnectionLost,
            network_latency: NetworkLatency,
            network_instability: NetworkInstability,
            browser_crash: BrowserCrash,
            browser_reload: BrowserReload,
            browser_memory_pressure: BrowserMemoryPressure,
            browser_cpu_throttling: BrowserCpuThrottling,
            component_timeout: ComponentTimeout,
            component_error: ComponentError,
            partial_result: PartialResult,
            cascade_failure: CascadeFailure,
            multi_browser_failure: MultiBrowserFailure,
            staggered_failure: StaggeredFailure,
        }
    };
    ($why:literal, $prove:path, $($name:ident: $scenario:ident,)*) => {
        mod slices {
            $(
                #[tokio::test]
                #[ignore = $why]
                async fn $name() {
                    $prove(crate::scenarios::Scenario::$scenario).await;
                }
            )*
        }
    };
}

pub(crate) use slices;

/// What a fault must have done.
#[derive(Default)]
pub(crate) struct Struck {
    /// Instances that cannot have stayed ready, and when each was hit.
    pub(crate) lost: Vec<(String, Instant)>,
    /// The least that some request must have taken.
    pub(crate) felt: Duration,
    /// The least number of requests that were tried again.
    pub(crate) retried: u64,
    /// An instance that is to have the same first process afterwards.
    pub(crate) kept: Option<(String, i32)>,
    /// Processes that were stopped.
    stopped: Vec<i32>,
}

impl Struck {
    fn lost(instances: &[&String]) -> Self {
        let now = Instant::now();
        let lost = instances.iter().map(|instance| ((*instance).clone(), now)).collect();
        Self { lost, ..Self::default() }
    }

    /// Lets go on what is still there.
    pub(crate) fn mend(&self) {
        signal(&self.stopped, Signal::SIGCONT);
    }
}

/// Does the fault; the first instance is hit, and those after it where a scenario hits several.
pub(crate) async fn strike(
    stage: &Stage,
    scenario: Scenario,
    aim: &Aim,
    load: &Load,
) -> anyhow::Result<Struck> {
    let [first, second, ..] = aim.instances.as_slice() else { anyhow::bail!("two instances at the least") };
    let proxy = &stage.proxy;
    match scenario {
        Scenario::ConnectionLost => {
            let struck = Struck::lost(&[first]);
            let links = proxy.cut(first);
            ensure!(links == 2, "{links} links of {first} were cut, not the page's and the lane's");
            Ok(struck)
        }
        Scenario::NetworkLatency => {
            weather(stage, Weather::Late(LATE), SLOW_FOR).await;
            Ok(Struck { felt: 2 * LATE, ..Struck::default() })
        }
        Scenario::NetworkInstability => {
            weather(stage, Weather::Gusty { since: Instant::now() }, UNSTABLE_FOR).await;
            Ok(Struck { felt: STALL, ..Struck::default() })
        }
        Scenario::BrowserCrash => {
            crash(stage, first).map(|lost| Struck { lost: vec![lost], ..Struck::default() })
        }
        Scenario::BrowserReload => {
            // The one that computes, and not what draws Chromium's own window: Chromium that loses its spare process as
            // well opens no page any more, and is launched anew.
            let own = saying(&tree(root(stage, first)?), "--top-chrome-webui");
            let page = pages(stage, first)?.into_iter().filter(|pid| !own.contains(pid));
            let page = page.max_by_key(|pid| spent(*pid));
            let struck = Struck::lost(&[first]);
            let kept =
                if stage.engine(first)?.reloads { Some((first.clone(), root(stage, first)?)) } else { None };
            signal(page.as_slice(), Signal::SIGKILL);
            Ok(Struck { kept, ..struck })
        }
        Scenario::BrowserMemoryPressure => memory(stage, first).await,
        Scenario::BrowserCpuThrottling => throttle(stage, first).await,
        Scenario::ComponentTimeout => {
            let pages = pages(stage, first)?;
            let struck = Struck::lost(&[first]);
            signal(&pages, Signal::SIGSTOP);
            Ok(Struck { stopped: pages, ..struck })
        }
        Scenario::ComponentError => component_error(stage, first).await,
        Scenario::PartialResult => {
            let struck = Struck::lost(&[first]);
            let before = proxy.halved();
            proxy.halve(first);
            stage.sightings.back(first, struck.lost[0].1, READY_WITHIN).await?;
            ensure!(proxy.halved() == before + 1, "no answer was cut");
            Ok(Struck { retried: 1, ..struck })
        }
        Scenario::CascadeFailure => cascade(stage, aim, first, load).await,
        Scenario::MultiBrowserFailure => {
            let lost = vec![crash(stage, first)?, crash(stage, second)?];
            Ok(Struck { lost, ..Struck::default() })
        }
        Scenario::StaggeredFailure => {
            let one = crash(stage, first)?;
            tokio::time::sleep(STAGGER).await;
            Ok(Struck { lost: vec![one, crash(stage, second)?], ..Struck::default() })
        }
    }
}

/// The fault is that it lasts.
async fn weather(stage: &Stage, weather: Weather, lasting: Duration) {
    stage.proxy.weather(weather);
    tokio::time::sleep(lasting).await;
    stage.proxy.weather(Weather::Clear);
}

pub(crate) fn root(stage: &Stage, instance: &str) -> anyhow::Result<i32> {
    let process = stage.sightings.latest(instance)["process"].as_i64();
    Ok(i32::try_from(process.with_context(|| format!("{instance} tells no process"))?)?)
}

fn pages(stage: &Stage, instance: &str) -> anyhow::Result<Vec<i32>> {
    let pages = saying(&tree(root(stage, instance)?), stage.engine(instance)?.page);
    ensure!(!pages.is_empty(), "{instance} has no process of a page");
    Ok(pages)
}

/// Kills a browser's main process.
fn crash(stage: &Stage, instance: &str) -> anyhow::Result<(String, Instant)> {
    let root = root(stage, instance)?;
    let main = match stage.engine(instance)?.main {
        Some(words) => saying(&tree(root), words),
        None => vec![root],
    };
    let now = Instant::now();
    ensure!(signal(&main, Signal::SIGKILL) > 0, "{instance} has no process to kill");
    Ok((instance.to_owned(), now))
}

/// Kills a browser with requests in it, and the next as soon as one of them has moved there.
async fn cascade(stage: &Stage, aim: &Aim, first: &str, load: &Load) -> anyhow::Result<Struck> {
    let before = load.progress().moved;
    let moved = |progress: &Progress| {
        let more =
            |(instance, count): (&String, &u64)| *count > before.get(instance).copied().unwrap_or_default();
        progress
            .moved
            .iter()
            .find(|moved| moved.0 != first && more(*moved))
            .map(|(instance, _)| instance.clone())
    };
    // Under a plan all that comes for the stage moves, also what was not there yet.
    let under_plan = aim.asking.parameters["plan"].is_string();
    let one = if under_plan { crash(stage, first)? } else { crash_laden(stage, aim, first).await? };
    let reached = load.until(READY_WITHIN, |progress| moved(progress).is_some()).await;
    reached.with_context(|| format!("no request of {first} moved"))?;
    let next = moved(&load.progress()).context("a request has moved")?;
    let lost = vec![one, crash(stage, &next)?];
    Ok(Struck { lost, retried: u64::from(!under_plan), ..Struck::default() })
}

/// Kills a browser that has a request. One that is killed between two leaves none that could move: all pages are held
/// still, so that requests pile up in each lane, until it has one.
async fn crash_laden(stage: &Stage, aim: &Aim, instance: &str) -> anyhow::Result<(String, Instant)> {
    let (own, mut others) = (pages(stage, instance)?, Vec::new());
    for other in aim.instances.iter().filter(|other| *other != instance) {
        others.extend(pages(stage, other)?);
    }
    for _ in 0..HOLDS_MAX {
        signal(&others, Signal::SIGSTOP);
        signal(&own, Signal::SIGSTOP);
        let laden = timeout(HELD_FOR, laden(stage, instance)).await;
        let crashed = laden.map(|laden| laden.and_then(|()| crash(stage, instance)));
        // A page that outlives its browser for a moment could still answer.
        signal(&own, if crashed.is_ok() { Signal::SIGKILL } else { Signal::SIGCONT });
        signal(&others, Signal::SIGCONT);
        if let Ok(crashed) = crashed {
            return crashed;
        }
    }
    anyhow::bail!("{instance} got no request in {HOLDS_MAX} times {HELD_FOR:?}, while no lane answered")
}

/// Waits until the instance has a request that it has not answered; nothing tells of it but the list of lanes. What it sent
/// before it was held has come by the second look.
async fn laden(stage: &Stage, instance: &str) -> anyhow::Result<()> {
    let mut looks = 0;
    while looks < 2 {
        looks = if stage.running(instance).await? > 0 { looks + 1 } else { 0 };
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The browser gets a quarter of the processor's time.
async fn throttle(stage: &Stage, instance: &str) -> anyhow::Result<Struck> {
    let tree = tree(root(stage, instance)?);
    for _ in 0..DUTY_CYCLES {
        signal(&tree, Signal::SIGSTOP);
        // A stop takes effect at once for those that do not run; the last of them is looked at after the pause.
        tokio::time::sleep(STOPPED_FOR).await;
        let held = tree.iter().filter(|pid| stopped(**pid)).count();
        signal(&tree, Signal::SIGCONT);
        ensure!(held > 0, "no process of {instance} was stopped");
        tokio::time::sleep(GOING_FOR).await;
    }
    Ok(Struck { felt: STOPPED_FOR / 3, ..Struck::default() })
}

/// A model takes what a lane can give, then more than any can.
async fn memory(stage: &Stage, instance: &str) -> anyhow::Result<Struck> {
    let engine = stage.engine(instance)?;
    stage.proven(HOG, engine).await?;
    let taken = ask(stage, engine, HELD).await?;
    ensure!(taken["type"] == "result", "{taken}");
    let refused = ask(stage, engine, TOO_MANY).await?;
    ensure!(refused["error"]["code"] == "out_of_memory", "{refused}");
    Ok(Struck::default())
}

/// A step that every lane answers with an error, then the end of a Worker.
async fn component_error(stage: &Stage, instance: &str) -> anyhow::Result<Struck> {
    let engine = stage.engine(instance)?;
    stage.proven(HOG, engine).await?;
    let impossible = ask(stage, engine, NEGATIVE).await?;
    ensure!(impossible["error"]["code"] == "internal", "{impossible}");
    let struck = Struck::lost(&[&instance.to_owned()]);
    ensure!(stage.proxy.end_worker(instance), "the page of {instance} was not told");
    Ok(struck)
}

/// Has some lane of an engine sum so many ones.
async fn ask(stage: &Stage, engine: &Engine, n: i64) -> anyhow::Result<Value> {
    let lane = Lane { browser: engine.recipe, backend: "wasm" };
    let inputs = json!([{"name": "n", "datatype": "INT64", "shape": [1], "data": [n]}]);
    Client::connect(&stage.served.url).await?.ask(HOG, inputs, lane).await
}
