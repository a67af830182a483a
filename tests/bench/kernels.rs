//! Products with weights of few bits by the page's own kernels, against onnxruntime-web's with floats: one thread, in
//! each browser, both in one Worker by turns.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};
use weft::{
    domain::Datatype,
    kernels::{
        ir::{
            Bits, Call, Element, MatMul, MatMulBits, Packing, Port, Routine, Slot, SlotInfo, Source, View,
            Weight,
        },
        wasm,
    },
};

use crate::{
    Measured,
    origin::Origin,
    progress,
    report::{Found, Target},
    statistics::{Ratio, median, ratio},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/kernels/measure.mjs");

const BROWSERS: [&str; 3] = ["chromium", "firefox", "webkitgtk"];

const SIZE: usize = 2048;
const ROWS: [usize; 2] = [1, 64];
const BLOCK: usize = 32;
const ROUNDS: usize = 60;
const SEED: u64 = 48;

const THEIRS: &str = "onnxruntime-web fp32";
const FLOATS: &str = "fp32";

/// By the name of the series, and of the file with the numbers.
const PACKINGS: [(&str, &str, Packing); 5] = [
    ("8 bits", "eight", Packing::Eight),
    ("4 bits", "four", Packing::Four),
    ("3 bits", "three", Packing::Three),
    ("2 bits", "two", Packing::Two),
    ("1.58 bits", "ternary", Packing::Ternary),
];

/// What a browser measured; milliseconds, by rounds.
#[derive(Serialize, Deserialize)]
struct Samples {
    #[serde(default)]
    name: String,
    browser: String,
    relaxed: bool,
    series: Vec<Series>,
    /// Largest differences from onnxruntime-web, by the mean of its outputs.
    errors: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
struct Series {
    m: usize,
    name: String,
    calls: u64,
    ms: Vec<f64>,
}

#[derive(Serialize)]
struct Row {
    browser: String,
    m: usize,
    name: String,
    ms: f64,
    /// To onnxruntime-web's floats.
    ratio: Ratio,
}

pub(crate) async fn measure() -> anyhow::Result<Measured> {
    let task = task()?;
    let (mut samples, mut notes) = (Vec::new(), Vec::new());
    for browser in BROWSERS {
        progress(&format!("products in {browser}"));
        match browser_samples(&task, browser).await? {
            Ok(found) => samples.push(found),
            Err(why) => notes.push(format!("products: {why}")),
        }
    }
    let Some(first) = samples.first() else { return Ok(Err("no browser is there".to_owned())) };
    let origin = Origin::measured(first.browser.clone(), wasm::engine(), 1);
    let rows: Vec<Row> = samples.iter().flat_map(Samples::rows).collect();
    let targets = samples.iter().flat_map(Samples::targets).collect();
    notes.extend(samples.iter().map(|found| {
        let variant = if found.relaxed { "with" } else { "without" };
        format!("products in {}: {variant} relaxed SIMD, differences {}", found.name, json!(found.errors))
    }));
    Found::new(origin, targets, notes, &rows, &samples).map(Ok)
}

async fn browser_samples(task: &Value, browser: &str) -> anyhow::Result<Result<Samples, String>> {
    let mut task = task.clone();
    task["browser"] = json!(browser);
    let mut node = Command::new("node");
    node.arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = node.spawn().context("starting node")?;
    let mut stdin = child.stdin.take().context("stdin was piped")?;
    stdin.write_all(task.to_string().as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "{browser}: {}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).context("the script's answer")?;
    if let Some(missing) = told["missing"].as_str() {
        return Ok(Err(missing.to_owned()));
    }
    ensure!(told["problem"].is_null(), "{browser}: {}", told["problem"]);
    let mut samples: Samples = serde_json::from_value(told)?;
    browser.clone_into(&mut samples.name);
    Ok(Ok(samples))
}

impl Samples {
    fn ms(&self, m: usize, name: &str) -> &[f64] {
        let series = self.series.iter().find(|series| series.m == m && series.name == name);
        series.map_or(&[], |series| &series.ms)
    }

    fn ratio(&self, m: usize, name: &str, to: &str) -> Ratio {
        let pairs = self.ms(m, name).iter().copied().zip(self.ms(m, to).iter().copied());
        ratio(&pairs.collect::<Vec<_>>(), median, 1, SEED)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |series: &Series| Row {
            browser: self.name.clone(),
            m: series.m,
            name: series.name.clone(),
            ms: median(&series.ms),
            ratio: self.ratio(series.m, &series.name, THEIRS),
        };
        self.series.iter().map(row).collect()
    }

    fn targets(&self) -> Vec<Target> {
        let one = |m: usize, name: &str, to: &str, most: Option<f64>| {
            let ratio = self.ratio(m, name, to);
            let ms = |name: &str| format!("{:.2} ms", median(self.ms(m, name)));
            Target {
                what: format!("{}, {m} × {SIZE} × {SIZE}, {name}", self.name),
                found: ms(name),
                bound: format!("{to} {}", ms(to)),
                ratio,
                wanted: most.map_or_else(String::new, |most| format!("≤ {most:.2}")),
                met: most.map(|most| ratio.value <= most),
            }
        };
        let mut targets = vec![
            one(1, "4 bits", THEIRS, Some(0.7)),
            one(1, "2 bits", "4 bits", Some(1.0)),
            one(64, "4 bits", THEIRS, Some(1.0)),
        ];
        targets.extend(ROWS.map(|m| one(m, FLOATS, THEIRS, None)));
        targets
    }
}

fn task() -> anyhow::Result<Value> {
    let files = files();
    let mut products = Vec::new();
    for m in ROWS {
        let mut cases = vec![case(FLOATS, &floats(m))?];
        for (name, file, packing) in PACKINGS {
            cases.push(case(name, &few_bits(m, file, packing, files[file].len()))?);
        }
        products.push(json!({"m": m, "k": SIZE, "n": SIZE, "block": BLOCK, "cases": cases}));
    }
    let files: BTreeMap<&str, String> =
        files.iter().map(|(name, bytes)| (*name, BASE64_STANDARD.encode(bytes))).collect();
    Ok(json!({"rounds": ROUNDS, "files": files, "products": products}))
}

fn case(name: &str, routine: &Routine) -> anyhow::Result<Value> {
    let (program, block) = wasm::compile(routine)?;
    let program = serde_json::to_string(&program)?;
    Ok(json!({"name": name, "program": program, "block": BASE64_STANDARD.encode(&block)}))
}

/// Seeded weights by their files' names.
fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut floats = |count: usize, low: f32, high: f32| -> Vec<u8> {
        (0..count).flat_map(|_| random.random_range(low..high).to_le_bytes()).collect()
    };
    let mut files = BTreeMap::from([
        ("floats", floats(SIZE * SIZE, -0.5, 0.5)),
        ("four scales", floats(SIZE * SIZE / BLOCK, 0.01, 0.02)),
    ]);
    for (_, file, packing) in PACKINGS {
        // Five ternary digits in a byte are at most 242.
        let most = if packing == Packing::Ternary { 242 } else { 255 };
        let bytes = SIZE * SIZE / BLOCK * packing.block_bytes(BLOCK);
        files.insert(file, (0..bytes).map(|_| random.random_range(0..=most)).collect());
    }
    files
}

/// The input `a`, the output `y`, and weights.
fn routine(m: usize, weights: &[(&str, Element, Datatype, usize)]) -> Routine {
    let port = |name: &str, slot: u32| Port {
        name: name.to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![m, SIZE],
        slot: Some(Slot(slot)),
    };
    let own = SlotInfo { element: Element::F32, len: m * SIZE };
    let others = weights.iter().map(|(_, element, _, len)| SlotInfo { element: *element, len: *len });
    let weight = |(at, (name, _, datatype, _)): (usize, &(&str, Element, Datatype, usize))| Weight {
        slot: Slot(at as u32 + 2),
        datatype: *datatype,
        source: Source::File { name: (*name).to_owned(), offset: 0 },
    };
    Routine {
        slots: [own, own].into_iter().chain(others).collect(),
        inputs: vec![port("a", 0)],
        outputs: vec![port("y", 1)],
        weights: weights.iter().enumerate().map(weight).collect(),
        ..Routine::default()
    }
}

fn floats(m: usize) -> Routine {
    let mut routine = routine(m, &[("floats", Element::F32, Datatype::Fp32, SIZE * SIZE)]);
    let view = |slot: u32| View { slot: Slot(slot), offset: 0, strides: vec![SIZE as i64, 1] };
    routine.calls.push(Call::MatMul(MatMul {
        batch: Vec::new(),
        m,
        k: SIZE,
        n: SIZE,
        a: view(0),
        b: view(2),
        bias: None,
        output: view(1),
        alpha: 1.0,
        activation: None,
    }));
    routine
}

fn few_bits(m: usize, file: &str, packing: Packing, bytes: usize) -> Routine {
    let numbers = (file, Element::Bytes, Datatype::Uint8, bytes);
    let mut routine =
        routine(m, &[numbers, ("four scales", Element::F32, Datatype::Fp32, SIZE * SIZE / BLOCK)]);
    let weights = Bits { packing, block: BLOCK, numbers: Slot(2), scales: Slot(3), zeros: None };
    let product = MatMulBits {
        a: Slot(0),
        weights,
        bias: None,
        output: Slot(1),
        m,
        k: SIZE,
        n: SIZE,
        activation: None,
    };
    routine.calls.push(Call::MatMulBits(product));
    routine
}
