//! One model over several lanes: what a plan of stages answers beside whole models in the same lanes, what the daemon adds
//! between two stages, what the planner takes, and what a lost stage costs.

mod contest;
mod hop;
mod killed;
mod models;
mod picture;
mod planning;
mod plans;
mod tensor;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use anyhow::Context;
use serde::Serialize;

use crate::{pool::Pool, progress, proxy::Proxy, report::Found, requests::Model};

const IN_FLIGHT: usize = 8;

/// Two lanes, and the native one, of a thread each: two of them have a core each.
const BROWSERS: usize = 2;
const CONFIG: &str = "[native]\nthreads = 1\n";

const SEED: u64 = 50;

#[derive(Serialize)]
struct Samples {
    contest: contest::Samples,
    hop: hop::Samples,
    planning: planning::Samples,
    tensor: Vec<tensor::Samples>,
    killed: killed::Samples,
}

pub(crate) async fn measure(program: &Path) -> anyhow::Result<Found> {
    progress("planning");
    let planning = planning::measure()?;
    let folder = tempfile::tempdir()?;
    let model = models::transformer(folder.path())?;
    let passing = models::passing(folder.path())?;

    let pool = Pool::start(program, BROWSERS, CONFIG).await?;
    add(&pool, &model).await?;
    progress("a transformer in two stages against whole ones");
    let (origin, contest) = contest::measure(program, &pool, &model).await?;
    progress("products in two ways");
    let tensor = tensor::measure(&pool, folder.path()).await?;
    progress("a stage's browser killed");
    let killed = killed::measure(&pool, &model).await?;
    pool.daemon.stop().await?;

    progress("hops");
    let bridge = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let proxy = Proxy::start(bridge, SEED).await?;
    let door = format!("[bridge]\nlisten = \"{bridge}\"\npublic = \"http://127.0.0.1:{}\"\n", proxy.port);
    let pool = Pool::start(program, BROWSERS, &(CONFIG.to_owned() + &door)).await?;
    add(&pool, &passing).await?;
    let hop = hop::measure(&pool, &proxy, &passing).await?;
    pool.daemon.stop().await?;

    std::fs::write(picture::FILE, picture::svg(&tensor))?;
    let samples = Samples { contest, hop, planning, tensor, killed };
    let mut targets = samples.contest.targets();
    targets.extend(samples.hop.targets());
    targets.extend(samples.planning.targets());
    targets.extend(samples.killed.targets());
    targets.extend(samples.tensor.iter().map(tensor::Samples::target));
    let mut notes = vec![format!("split: {}", models::TRANSFORMER)];
    notes.extend(samples.contest.notes());
    notes.extend([samples.hop.note(), samples.planning.note(), samples.killed.note()]);
    notes.extend(tensor::notes(&samples.tensor));
    Found::new(origin, targets, notes, &samples.contest.forecasts(), &samples)
}

/// Adds a model by its file's name, and has it proven in every browser.
async fn add(pool: &Pool, model: &Model) -> anyhow::Result<()> {
    pool.daemon.add(model.file.to_str().context("a path in UTF-8")?).await?;
    pool.prove(model).await
}
