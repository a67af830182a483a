//! `make prove`: whether `weft bench compare` finds a tenth more work in one cell, and leaves cells alone that do the same.
//!
//! A trial is a run of `weft bench run` over four models in one lane, each beside a head: cells of a model and of its head
//! take turns in random order. One head has a tenth more layers, by identity matrices, so that its answers are the same;
//! the other heads are the same work in another file. `weft bench compare` judges heads by what they stand beside, by its
//! defaults. Each lane is a slice with a file of its own, kept after every trial.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::process::Command;
use weft::bench::{
    Cell, Comparison, Results, Verdict,
    statistics::{Interval, median, quantile},
};

use crate::{
    daemon::{FIXTURES, installed},
    graphs, proof,
    serve::Served,
    shares::Share,
};

// Frozen before the first trial was kept: `docs/methodology.md`.
/// Of each lane; a trial has one pair with more work and three with the same.
const TRIALS: usize = 72;
/// What the bounds must leave of all pairs with more work that are called worse.
const FOUND_MIN: f64 = 0.85;
/// What the bounds may leave of all pairs with the same work that are called worse or better.
const FALSE_ALARMS_MAX: f64 = 0.08;

/// Of each cell, so that both of a pair have as many turns.
const SAMPLES: usize = 200;

/// One layer in ten more.
const SHARE: usize = 10;

const HEAD: &str = "head";
const AS_IT_IS: &str = "fp32";

const PROGRAM: &str = env!("CARGO_BIN_EXE_weft");

/// Layers of `max(x · w, 0)` on so many rows; all of some 84 million operations, milliseconds in WASM.
struct Chain {
    name: &'static str,
    width: u64,
    rows: u64,
    layers: usize,
}

const CHAINS: [Chain; 4] = [
    Chain { name: "broad", width: 320, rows: 40, layers: 10 },
    Chain { name: "deep", width: 128, rows: 128, layers: 20 },
    Chain { name: "tall", width: 192, rows: 112, layers: 10 },
    Chain { name: "heavy", width: 512, rows: 16, layers: 10 },
];

#[derive(Clone, Copy)]
struct Place {
    browser: &'static str,
    backend: &'static str,
}

const NATIVE: Place = Place { browser: "native", backend: "ort-cpu" };
const CHROMIUM: Place = Place { browser: "chromium", backend: "wasm" };
const FIREFOX: Place = Place { browser: "firefox", backend: "wasm" };
const PLACES: [Place; 3] = [NATIVE, CHROMIUM, FIREFOX];

/// What is kept of a lane.
#[derive(Serialize, Deserialize)]
struct Slice {
    commit: String,
    machine: String,
    command: String,
    build: String,
    browser: String,
    backend: String,
    trials: Vec<Trial>,
}

#[derive(Serialize, Deserialize)]
struct Trial {
    /// The model whose head had more to do.
    planted: String,
    /// What the run said of the machine, and what a fixed piece of work took before and after it.
    warnings: Vec<String>,
    calibration_us: [f64; 2],
    pairs: Vec<Pair>,
}

#[derive(Serialize, Deserialize)]
struct Pair {
    model: String,
    verdict: Verdict,
    reason: Option<String>,
    /// The head's median over the base's.
    ratio: Option<Interval>,
    /// That it is chance, corrected for the four pairs of the trial.
    probability: Option<f64>,
    base_us: Vec<u64>,
    head_us: Vec<u64>,
}

impl Chain {
    fn file(&self, layers: usize) -> Vec<u8> {
        graphs::dense(self.width, &(0..layers).map(|layer| self.weight(layer)).collect::<Vec<_>>())
    }

    /// Small numbers beside a diagonal that keeps values as large as they were; the identity beyond the model's own layers.
    fn weight(&self, layer: usize) -> Vec<u8> {
        let value = |row: u64, column: u64| match (layer < self.layers, row == column) {
            (true, true) => 0.95,
            (true, false) => {
                (((row * self.width + column) * 37 + layer as u64 * 11) % 101) as f32 / 5050.0 - 0.01
            }
            (false, true) => 1.0,
            (false, false) => 0.0,
        };
        let places = (0..self.width).flat_map(|row| (0..self.width).map(move |column| (row, column)));
        places.flat_map(|(row, column)| value(row, column).to_le_bytes()).collect()
    }

    /// The same graph with another digest, by a word that says what it is.
    fn again(&self) -> Vec<u8> {
        [self.file(self.layers), graphs::text(6, "again")].concat()
    }

    fn inputs(&self) -> String {
        let set = |number: u64| {
            let x: Vec<_> =
                (0..self.rows * self.width).map(|at| (at * (29 + number) % 83) as f32 / 83.0).collect();
            json!({"x": {"datatype": "FP32", "shape": [self.rows, self.width], "data": x}})
        };
        json!({"inputs": [set(0), set(1)]}).to_string()
    }
}

/// The suite of a trial.
fn suite(place: Place, planted: &Chain) -> String {
    let model = |chain: &Chain| {
        let head = if chain.name == planted.name { "more" } else { "again" };
        format!(
            "[[model]]\nname = \"{0}\"\ninputs = \"{0}.json\"\nvariants = {{ {HEAD} = \"{0}-{head}\" }}\n\n",
            chain.name
        )
    };
    let Place { browser, backend } = place;
    format!(
        "name = \"planted\"\nabout = \"a tenth more work in one cell\"\nbudget = \"5m\"\n\n{}\
         [limits]\nsamples_min = {SAMPLES}\nsamples_max = {SAMPLES}\ntime = \"4s\"\n\n\
         [matrix]\nbrowser = [\"{browser}\"]\nbackend = [\"{backend}\"]\nscenario = [\"single_stream\"]\n\
         precision = [\"{AS_IT_IS}\", \"{HEAD}\"]\n\n[precision.{HEAD}]\ntolerance = 1e-3\n",
        CHAINS.iter().map(model).collect::<String>(),
    )
}

/// A daemon with every model and every head, whose home has the inputs.
async fn served(place: Place) -> Option<Served> {
    let browsers =
        if place.browser == NATIVE.browser { String::new() } else { format!("{}=1", place.browser) };
    if !installed(&browsers) {
        return None;
    }
    let served = Served::start(Path::new(PROGRAM), &browsers).await.unwrap();
    for chain in &CHAINS {
        std::fs::write(served.home().join(format!("{}.json", chain.name)), chain.inputs()).unwrap();
        let more = chain.file(chain.layers + chain.layers / SHARE);
        for (suffix, file) in [("", chain.file(chain.layers)), ("-again", chain.again()), ("-more", more)] {
            let path = served.home().join(format!("{}{suffix}.onnx", chain.name));
            std::fs::write(&path, file).unwrap();
            served.weft(&["models", "add", path.to_str().unwrap()]).await.unwrap();
        }
    }
    Some(served)
}

async fn trial(served: &Served, place: Place, number: usize) -> Trial {
    let planted = &CHAINS[number % CHAINS.len()];
    let home = served.home().to_str().unwrap();
    let [file, out] = ["planted.toml", "measured.json"].map(|name| format!("{home}/{name}"));
    std::fs::write(&file, suite(place, planted)).unwrap();
    served.weft(&["bench", "run", &file, "--out", &out, "--home", home]).await.unwrap();
    let measured = Results::read(&std::fs::read(&out).unwrap()).unwrap();
    let comparison = compared(&out).await;
    assert_eq!(comparison.cells.len(), CHAINS.len());
    let pairs = comparison.cells.into_iter().map(|judged| {
        let samples = |precision: &str| {
            let is_it = |cell: &&Cell| {
                cell.model == judged.model && cell.varied.precision.as_deref() == Some(precision)
            };
            let cell = measured.cells.iter().find(is_it).unwrap();
            cell.samples_us.iter().map(|us| *us as u64).collect()
        };
        Pair {
            base_us: samples(AS_IT_IS),
            head_us: samples(HEAD),
            model: judged.model.to_string(),
            verdict: judged.verdict,
            reason: judged.reason,
            ratio: judged.ratio,
            probability: judged.probability,
        }
    });
    Trial {
        planted: planted.name.to_owned(),
        pairs: pairs.collect(),
        warnings: measured.warnings,
        calibration_us: measured.calibration_us,
    }
}

async fn compared(file: &str) -> Comparison {
    let precisions = ["--precisions", AS_IT_IS, HEAD];
    let compare = Command::new(PROGRAM).args(["bench", "compare", "--json", file]).args(precisions).output();
    let Output { status, stdout, stderr } = compare.await.unwrap();
    let comparison: Comparison = serde_json::from_slice(&stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr)));
    assert_eq!(status.success(), comparison.worse() == 0, "{}", String::from_utf8_lossy(&stderr));
    comparison
}

/// The trials of a lane that are still missing; each is kept as soon as it is done.
async fn prove(place: Place) {
    let mut slice = Slice::open(place);
    if slice.trials.len() == TRIALS {
        return;
    }
    let Some(served) = served(place).await else { return };
    while slice.trials.len() < TRIALS {
        let trial = trial(&served, place, slice.trials.len()).await;
        slice.add(trial);
    }
    served.stop().await.unwrap();
    eprintln!("{}", row(&slice.lane(), &[&slice]));
}

#[tokio::test]
#[ignore = "an hour of measuring with the others: run by `make prove`"]
async fn a_tenth_more_work_is_found_natively() {
    prove(NATIVE).await;
}

#[tokio::test]
#[ignore = "an hour of measuring with the others: run by `make prove`"]
async fn a_tenth_more_work_is_found_in_chromium() {
    prove(CHROMIUM).await;
}

#[tokio::test]
#[ignore = "an hour of measuring with the others: run by `make prove`"]
async fn a_tenth_more_work_is_found_in_firefox() {
    prove(FIREFOX).await;
}

impl Slice {
    /// What is known of a lane: all of it at whatever commit, a part of it only at this one.
    fn open(place: Place) -> Self {
        let commit = proof::commit();
        let stands = |slice: &Self| slice.trials.len() == TRIALS || slice.commit == commit;
        Self::read(place).filter(stands).unwrap_or_else(|| Self {
            commit,
            machine: proof::machine(),
            command: proof::COMMAND.to_owned(),
            build: proof::build().to_owned(),
            browser: place.browser.to_owned(),
            backend: place.backend.to_owned(),
            trials: Vec::new(),
        })
    }

    fn read(place: Place) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::file(place.browser, place.backend)).ok()?).ok()
    }

    fn add(&mut self, trial: Trial) {
        self.trials.push(trial);
        let file = Self::file(&self.browser, &self.backend);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{}\n", serde_json::to_string(self).unwrap())).unwrap();
    }

    fn file(browser: &str, backend: &str) -> PathBuf {
        PathBuf::from(FIXTURES).join(format!("measurements/planted/{browser}-{backend}.json"))
    }

    fn lane(&self) -> String {
        format!("{}/{}", self.browser, self.backend)
    }

    /// All pairs, and whether the head has more to do.
    fn pairs(&self) -> impl Iterator<Item = (bool, &Pair)> {
        self.trials
            .iter()
            .flat_map(|trial| trial.pairs.iter().map(|pair| (pair.model == trial.planted, pair)))
    }
}

/// How many of the pairs with more work were found, and how many of the others gave an alarm.
fn found(slices: &[&Slice]) -> [Share; 2] {
    let pairs = |planted: bool| {
        slices
            .iter()
            .flat_map(|slice| slice.pairs())
            .filter(move |(more, _)| *more == planted)
            .map(|(_, pair)| pair)
    };
    let alarm = |pair: &Pair| matches!(pair.verdict, Verdict::Worse | Verdict::Better);
    [Share::of(pairs(true).map(|pair| pair.verdict == Verdict::Worse)), Share::of(pairs(false).map(alarm))]
}

/// A row of the table: what was found, and how noisy the machine was.
fn row(name: &str, slices: &[&Slice]) -> String {
    let [detected, alarms] = found(slices);
    let ratios = |planted: bool| -> Vec<f64> {
        let pairs = slices.iter().flat_map(|slice| slice.pairs()).filter(|(more, _)| *more == planted);
        pairs.filter_map(|(_, pair)| Some(pair.ratio?.value)).collect()
    };
    let (more, same) = (ratios(true), ratios(false));
    let off: Vec<_> = same.iter().map(|ratio| (ratio - 1.0).abs() * 100.0).collect();
    let trials = || slices.iter().flat_map(|slice| &slice.trials);
    // The load that a trial begins with is that of the one before.
    let counts = |warning: &String| !warning.starts_with("the machine was busy already");
    let disturbed = Share::of(trials().map(|trial| trial.warnings.iter().any(counts)));
    let mut commits: Vec<_> = slices.iter().map(|slice| proof::short(&slice.commit)).collect();
    commits.dedup();
    format!(
        "| {name} | {} | {} | {:.3} ({:.3}–{:.3}) | {:.1} %, {:.1} %, {:.1} % | {} of {} | {} |",
        detected.told(),
        alarms.told(),
        median(&more),
        quantile(&more, 0.05),
        quantile(&more, 0.95),
        median(&off),
        quantile(&off, 0.95),
        quantile(&off, 1.0),
        disturbed.hits,
        disturbed.of,
        commits.join(", ")
    )
}

/// The lanes that are whole.
fn whole() -> Vec<Slice> {
    PLACES.into_iter().filter_map(Slice::read).filter(|slice| slice.trials.len() == TRIALS).collect()
}

/// Each of them, and all together when none is missing.
fn rows(slices: &[Slice]) -> Vec<String> {
    let mut rows: Vec<_> = slices.iter().map(|slice| row(&slice.lane(), &[slice])).collect();
    if slices.len() == PLACES.len() {
        rows.push(row("all", &slices.iter().collect::<Vec<_>>()));
    }
    rows
}

/// Prints the table of the lanes that are whole, and fails when the bounds of all are not what was wanted.
#[test]
#[ignore = "prints what the slices have kept: run by `make prove`"]
fn table() {
    eprintln!(
        "| lane | more work, found | same work, alarms | more work, ratio (5–95 %) | same work, off by: median, 95 %, \
         most | trials with a warning | measured at |"
    );
    eprintln!("|---|---|---|---|---|---|---|");
    let slices = whole();
    for row in rows(&slices) {
        eprintln!("{row}");
    }
    if slices.len() == PLACES.len() {
        let [detected, alarms] = found(&slices.iter().collect::<Vec<_>>());
        assert!(detected.bounds()[0] >= FOUND_MIN, "found: {}", detected.told());
        assert!(alarms.bounds()[1] <= FALSE_ALARMS_MAX, "false alarms: {}", alarms.told());
    }
}

#[test]
fn the_page_has_the_table_of_what_was_planted() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/methodology.md")).unwrap();
    for row in rows(&whole()) {
        assert!(page.contains(&row), "docs/methodology.md lacks: {row}");
    }
}

/// What it says on a machine that other tests keep busy proves nothing.
#[tokio::test]
async fn a_trial_judges_each_pair_by_its_samples() {
    let served = served(NATIVE).await.unwrap();
    let trial = trial(&served, NATIVE, 1).await;
    assert_eq!(trial.planted, CHAINS[1].name);
    for pair in &trial.pairs {
        assert!(pair.ratio.is_some() && pair.probability.is_some(), "{}: {:?}", pair.model, pair.reason);
        assert_eq!([pair.base_us.len(), pair.head_us.len()], [SAMPLES; 2], "{}", pair.model);
    }
    served.stop().await.unwrap();
}
