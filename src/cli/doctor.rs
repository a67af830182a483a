//! `weft doctor`: a daemon of its own, in a throw-away home, with one of every browser that is here.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Serialize;

use super::{Common, Interrupts, Misuse, output};
use crate::{
    backend::wgpu::{AdapterInfo, Device, Wanted},
    config::{Config, RECIPES, RawConfig, Surroundings},
    daemon::Daemon,
    domain::{Adapter, BackendKind, Environment},
    driver::{
        presence::Presence,
        recipe::{Places, Recipe},
    },
    pool::{Bounds, InstanceState, InstanceStatus, LaneState, LaneStatus, PoolStatus},
};

const HEADER: [&str; 7] = ["browser", "state", "version", "sandbox", "backend", "works", "what was found"];

/// What came of one recipe.
#[derive(Serialize)]
struct Finding {
    browser: String,
    product: String,
    state: State,
    /// Why it is not proven, or how to get it.
    reason: Option<String>,
    instance: Option<InstanceStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Proven,
    Failing,
    NotInstalled,
    NotRunning,
    Unproven,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Proven => "proven here",
            Self::Failing => "failing",
            Self::NotInstalled => "not installed",
            Self::NotRunning => "not running",
            Self::Unproven => "unproven",
        }
    }
}

pub(super) async fn run(common: &Common) -> anyhow::Result<()> {
    // Caught from before there is anything to leave behind.
    let mut interrupts = Interrupts::catch()?;
    let surroundings = Surroundings::read()?;
    let own = common.home(&surroundings).join(RECIPES);
    let recipes = Recipe::all(&own).map_err(|error| Misuse(error.to_string()))?;
    let places = Places { cache: surroundings.cache, path: surroundings.path };
    let mut presences = Vec::new();
    for recipe in &recipes {
        presences.push(recipe.presence(&places).await);
    }
    let here = recipes.iter().zip(&presences).filter(|(_, presence)| **presence == Presence::Here);
    let here: Vec<&str> = here.map(|(recipe, _)| recipe.name.as_str()).collect();
    let home = tempfile::tempdir().context("a throw-away home")?;
    let change = |raw: &mut RawConfig| {
        raw.listen = Some("127.0.0.1:0".to_owned());
        raw.browsers = Some(BTreeMap::new());
        raw.lanes.threads = Some(1);
        raw.native.threads = Some(1);
    };
    let config =
        Common { home: Some(home.path().to_owned()), ..common.clone() }.config(None, change, Vec::new())?;
    let (mut status, mut lanes) = (PoolStatus::new(), None);
    for batch in batches(&here) {
        if !batch.is_empty() {
            output::progress(&format!("launching {} and trying every backend …", batch.join(" and ")));
        }
        let browsers = batch.iter().map(|name| ((*name).to_owned(), Bounds { least: 1, most: 1 })).collect();
        let config = Config { recipes: recipes.clone(), browsers, ..config.clone() };
        let (found, native) = try_out(config, &mut interrupts).await?;
        status.extend(found);
        lanes.get_or_insert(native);
    }
    let lanes = lanes.unwrap_or_default();
    let findings: Vec<Finding> =
        recipes.iter().zip(presences).map(|(recipe, presence)| finding(recipe, presence, &status)).collect();
    let adapters = adapters(config.native.wgpu.as_ref(), &Device::list());
    if common.json {
        return output::json(
            &serde_json::json!({"browsers": findings, "native": lanes, "adapters": adapters}),
        );
    }
    let without = adapters.iter().filter(|adapter| adapter.reason.is_some()).map(adapter_row);
    let rows: Vec<_> =
        findings.iter().flat_map(rows).chain(lanes.iter().map(native_row)).chain(without).collect();
    output::table(&HEADER, &rows);
    Ok(())
}

/// As many browsers at once as there are cores: more would only make each other late.
fn batches<'a>(names: &[&'a str]) -> Vec<Vec<&'a str>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut batches: Vec<Vec<&str>> = names.chunks(cores).map(<[_]>::to_vec).collect();
    if batches.is_empty() {
        // The native lanes are tried without a browser too.
        batches.push(Vec::new());
    }
    batches
}

async fn try_out(
    config: Config,
    interrupts: &mut Interrupts,
) -> anyhow::Result<(PoolStatus, Vec<Environment>)> {
    let daemon = Daemon::start(config).await?;
    tokio::select! {
        biased;
        interrupted = interrupts.next() => {
            daemon.stop().await;
            return Err(interrupted.into());
        }
        () = daemon.settled() => {}
    }
    let found = (daemon.pool(), daemon.native());
    daemon.stop().await;
    Ok(found)
}

fn finding(recipe: &Recipe, presence: Presence, status: &PoolStatus) -> Finding {
    let instance = status.values().find(|instance| instance.browser == recipe.name).cloned();
    let (state, reason) = match presence {
        Presence::NotInstalled { hint } => (State::NotInstalled, Some(hint)),
        Presence::NotRunning { hint } => (State::NotRunning, Some(hint)),
        Presence::Unproven { hint } => (State::Unproven, Some(hint)),
        Presence::Here => judged(instance.as_ref()),
    };
    Finding { browser: recipe.name.clone(), product: recipe.product.clone(), state, reason, instance }
}

/// One lane that works proves the browser; what else its recipe hopes for is said lane by lane.
fn judged(instance: Option<&InstanceStatus>) -> (State, Option<String>) {
    let Some(instance) = instance else { return (State::Failing, Some("it was not tried".to_owned())) };
    let works = |lane: &LaneStatus| lane.state == LaneState::Ready;
    if instance.state == InstanceState::Ready && instance.lanes.values().any(works) {
        return (State::Proven, None);
    }
    let told = || instance.lanes.values().find_map(|lane| lane.reason.clone());
    let reason = instance.reason.clone().or_else(told);
    (State::Failing, Some(reason.unwrap_or_else(|| "no lane came up".to_owned())))
}

fn rows(finding: &Finding) -> Vec<Vec<String>> {
    let none = || "-".to_owned();
    let version = |instance: &InstanceStatus| instance.browser_version.clone().unwrap_or_else(none);
    let row = |version, sandbox: &str, backend, works: &str, found| {
        let state = finding.state.words().to_owned();
        vec![finding.browser.clone(), state, version, sandbox.to_owned(), backend, works.to_owned(), found]
    };
    match (&finding.instance, &finding.reason) {
        (Some(instance), None) => {
            let lane = |lane: &LaneStatus| {
                let works = if lane.state == LaneState::Ready { "yes" } else { "no" };
                let found = detail(instance, lane);
                row(version(instance), sandbox(instance), lane.backend.to_string(), works, found)
            };
            instance.lanes.values().map(lane).collect()
        }
        (instance, reason) => {
            let version = instance.as_ref().map_or_else(none, version);
            vec![row(version, "-", none(), "-", reason.clone().unwrap_or_else(none))]
        }
    }
}

fn sandbox(instance: &InstanceStatus) -> &'static str {
    match instance.sandbox {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    }
}

fn native_row(lane: &Environment) -> Vec<String> {
    let found = match &lane.adapter {
        Some(adapter) => format!("{}, {}", named(adapter), lane.engine),
        None => format!("{}, {}", threads(lane.threads), lane.engine),
    };
    let (browser, version) = (lane.browser.clone(), lane.browser_version.clone());
    let proven = State::Proven.words().to_owned();
    vec![browser, proven, version, "-".to_owned(), lane.backend.to_string(), "yes".to_owned(), found]
}

/// An adapter that our own kernels could compute on.
#[derive(Debug, PartialEq, Serialize)]
struct Found {
    #[serde(flatten)]
    adapter: Adapter,
    binding_bytes: u64,
    buffer_bytes: u64,
    workgroup_bytes: u32,
    invocations: u32,
    features: Vec<&'static str>,
    /// Why no lane is on it.
    reason: Option<&'static str>,
}

/// What a configuration makes of the adapters that are here.
fn adapters(wanted: Option<&Wanted>, found: &[AdapterInfo]) -> Vec<Found> {
    let taken = wanted.and_then(|wanted| wanted.of(found));
    let reason = |adapter: &AdapterInfo| match (wanted, taken) {
        (None, _) => Some("native.wgpu is off"),
        (_, Some(taken)) if taken == adapter => None,
        (_, Some(_)) => Some("native.wgpu takes another"),
        (Some(_), None) => Some("native.wgpu does not ask for a software adapter"),
    };
    let found = found.iter().map(|adapter| Found {
        adapter: adapter.described(),
        binding_bytes: adapter.limits.binding_bytes,
        buffer_bytes: adapter.limits.buffer_bytes,
        workgroup_bytes: adapter.limits.workgroup_bytes,
        invocations: adapter.limits.invocations,
        features: adapter.features.clone(),
        reason: reason(adapter),
    });
    found.collect()
}

fn adapter_row(found: &Found) -> Vec<String> {
    let none = || "-".to_owned();
    let mebibytes = found.binding_bytes >> 20;
    let told = format!(
        "{}, bindings of {mebibytes} MiB: {}",
        named(&found.adapter),
        found.reason.unwrap_or_default()
    );
    vec!["native".to_owned(), none(), none(), none(), BackendKind::Wgpu.to_string(), "no".to_owned(), told]
}

fn named(adapter: &Adapter) -> String {
    let kind = if adapter.software { "software" } else { "hardware" };
    let names = [&adapter.vendor, &adapter.architecture, &adapter.device, &adapter.description];
    let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).map(String::as_str).collect();
    // Firefox names none.
    let names = if names.is_empty() { "without a name".to_owned() } else { names.join(" ") };
    format!("{kind} adapter {names}")
}

fn threads(count: u32) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}

fn detail(instance: &InstanceStatus, lane: &LaneStatus) -> String {
    let Some(capability) = &lane.capability else {
        return lane.reason.clone().unwrap_or_else(|| "no report".to_owned());
    };
    let mut found = Vec::new();
    if let Some(adapter) = &capability.adapter {
        found.push(named(adapter));
    }
    if let Some(devices) = &capability.webnn {
        found.extend(devices.iter().map(|(device, answer)| format!("{device} {answer}")));
    }
    found.push(threads(capability.threads));
    if let Some(page) = &instance.page {
        let features = [
            ("SIMD", page.simd),
            ("relaxed SIMD", page.relaxed_simd),
            ("shared memory", page.threads),
            ("JSPI", page.jspi),
        ];
        found.extend(features.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned()));
        found.push(match &page.cache_fault {
            None => "keeps weights".to_owned(),
            Some(fault) => format!("keeps no weights: {fault}"),
        });
    }
    let file = capability.engine.rsplit('/').next().unwrap_or_default();
    found.push(file.to_owned());
    found.join(", ")
}
