//! A model in a page that was opened anew: what its first load took, and what the browser's cache makes of the second.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use weft::{
    config::Surroundings,
    driver::{
        Drivers,
        ledger::RunDir,
        recipe::{Places, Recipe},
    },
    tasks::Tasks,
};

use crate::{
    graphs,
    harness::{Harness, load},
    load::serving,
    progress,
    report::{Found, Target},
    requests::{BROWSER, Model},
    statistics::{Ratio, median, ratio},
};

/// Of the weights, each model's own.
const BYTES: usize = 64 << 20;

const REPETITIONS: usize = 12;
const SEED: u64 = 31;

/// Microseconds of a load into a fresh lane of a fresh page, and bytes that came over the network for it.
#[derive(Default, Serialize)]
struct Samples {
    first: Vec<u64>,
    second: Vec<u64>,
    first_network_bytes: Vec<u64>,
    second_network_bytes: Vec<u64>,
}

#[derive(Serialize)]
struct Summary {
    ratio: Ratio,
    first_ms: f64,
    second_ms: f64,
    second_network_bytes: u64,
}

pub(crate) async fn measure(program: &Path, model: &Model) -> anyhow::Result<Found> {
    let origin = serving::origin(program, model, 1).await?;
    progress("models of 64 MiB in pages opened anew");
    let home = tempfile::tempdir()?;
    let (folder, tasks) = (home.path().join("models"), Tasks::new());
    std::fs::create_dir(&folder)?;
    let recipe = Recipe::embedded().into_iter().find(|recipe| recipe.name == BROWSER);
    let surroundings = Surroundings::read()?;
    let drivers = Drivers {
        places: Places { cache: surroundings.cache, path: surroundings.path },
        run: RunDir::create(home.path())?,
        tasks: tasks.clone(),
        display: None,
        certificate_pin: None,
    };
    let driver = drivers.of(recipe.context("a recipe of that name")?);
    let mut browser = Harness::launch(driver, folder, &tasks).await;
    let samples = repeat(&mut browser).await?;
    browser.close().await;
    tasks.stop().await;
    let summary = samples.summary();
    Found::new(origin, vec![summary.target()], Vec::new(), &summary, &samples)
}

async fn repeat(browser: &mut Harness) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for repetition in 0..REPETITIONS {
        let words = 0..BYTES as u32 / 4;
        let bytes: Vec<u8> = words.flat_map(|at| ((at ^ repetition as u32) as f32).to_le_bytes()).collect();
        let weights = browser.put(&bytes);
        let name = weights.digest.to_string();
        let graph = browser.put(&graphs::weighing_outside(BYTES as u64 / 4, &name, 0, BYTES as u64));
        for (took, network) in [
            (&mut samples.first, &mut samples.first_network_bytes),
            (&mut samples.second, &mut samples.second_network_bytes),
        ] {
            browser.reload().await;
            let lane = browser.lane().await;
            let loaded = load(&lane, &[&graph, &weights], None).await?;
            took.push(loaded.load_us);
            network.push(loaded.fetched.network);
        }
        // The disk need not hold them all.
        let files: [PathBuf; 2] = [browser.path(&graph), browser.path(&weights)];
        files.iter().try_for_each(std::fs::remove_file)?;
    }
    let whole = samples.first_network_bytes.iter().all(|bytes| *bytes > BYTES as u64);
    ensure!(whole, "a first load found something in the cache");
    Ok(samples)
}

impl Samples {
    fn summary(&self) -> Summary {
        let ms = |series: &[u64]| series.iter().map(|us| *us as f64 / 1e3).collect::<Vec<_>>();
        let (first, second) = (ms(&self.first), ms(&self.second));
        let pairs: Vec<_> = second.iter().copied().zip(first.iter().copied()).collect();
        Summary {
            ratio: ratio(&pairs, median, 1, SEED),
            first_ms: median(&first),
            second_ms: median(&second),
            second_network_bytes: self.second_network_bytes.iter().sum(),
        }
    }
}

impl Summary {
    fn target(&self) -> Target {
        let Self { first_ms, second_ms, second_network_bytes, ratio } = self;
        Target {
            what: "a model of 64 MiB loaded again, in a fresh page".to_owned(),
            found: format!("{second_ms:.0} ms, {second_network_bytes} B over the network"),
            bound: format!("the first time {first_ms:.0} ms"),
            ratio: *ratio,
            wanted: "0 B".to_owned(),
            met: Some(*second_network_bytes == 0),
        }
    }
}
