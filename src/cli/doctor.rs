//! `weft doctor`: a daemon of its own, in a throw-away home, with one of every browser.

use anyhow::Context;

use super::{Common, Interrupts, Misuse, output};
use crate::{
    config::{RECIPES, RawInstances, Surroundings},
    daemon::Daemon,
    driver::recipe::Recipe,
    pool::{InstanceStatus, LaneState, LaneStatus, PoolStatus},
};

pub(super) async fn run(common: &Common) -> anyhow::Result<()> {
    // Caught from before there is anything to leave behind.
    let mut interrupts = Interrupts::catch()?;
    let home = tempfile::tempdir().context("a throw-away home")?;
    let throw_away = Common { home: Some(home.path().to_owned()), ..common.clone() };
    let own = common.home(&Surroundings::read()?).join(RECIPES);
    let recipes = Recipe::all(&own).map_err(|error| Misuse(error.to_string()))?;
    let mut config = throw_away.config(None, |raw| {
        raw.listen = Some("127.0.0.1:0".to_owned());
        raw.browsers =
            Some(recipes.iter().map(|recipe| (recipe.name.clone(), RawInstances::Count(1))).collect());
    })?;
    config.recipes.clone_from(&recipes);
    let names: Vec<_> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    output::progress(&format!("launching {} and trying every backend …", names.join(", ")));
    let daemon = Daemon::start(config).await?;
    tokio::select! {
        biased;
        interrupted = interrupts.next() => {
            daemon.stop().await;
            return Err(interrupted.into());
        }
        () = daemon.settled() => {}
    }
    let status = daemon.pool();
    let lanes = daemon.native();
    daemon.stop().await;
    if common.json {
        return output::json(&serde_json::json!({"instances": status, "native": lanes}));
    }
    let mut rows = rows(&status);
    for lane in &lanes {
        let detail = format!("{}, {}", threads(lane.threads), lane.engine);
        let version = lane.browser_version.clone();
        rows.push(vec![
            lane.browser.clone(),
            version,
            "-".to_owned(),
            lane.backend.to_string(),
            "ok".to_owned(),
            detail,
        ]);
    }
    output::table(&["browser", "version", "sandbox", "backend", "state", "what was found"], &rows);
    Ok(())
}

fn rows(status: &PoolStatus) -> Vec<Vec<String>> {
    let lane = |instance: &InstanceStatus, lane: &LaneStatus| {
        let sandbox = match instance.sandbox {
            Some(true) => "on",
            Some(false) => "off",
            None => "-",
        };
        let state = if lane.state == LaneState::Ready { "ok" } else { "no" };
        vec![
            instance.browser.clone(),
            instance.browser_version.clone().unwrap_or_else(|| "-".to_owned()),
            sandbox.to_owned(),
            lane.backend.to_string(),
            state.to_owned(),
            detail(instance, lane),
        ]
    };
    status.values().flat_map(|instance| instance.lanes.values().map(move |l| lane(instance, l))).collect()
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
        let kind = if adapter.software { "software" } else { "hardware" };
        let names = [&adapter.vendor, &adapter.architecture, &adapter.device, &adapter.description];
        let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).map(String::as_str).collect();
        found.push(format!("{kind} adapter {}", names.join(" ")));
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
    }
    let file = capability.engine.rsplit('/').next().unwrap_or_default();
    found.push(file.to_owned());
    found.join(", ")
}
