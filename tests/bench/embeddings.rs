//! Sentences to vectors through the daemon, backend by backend, against onnxruntime in Python on the same sentences.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    Measured,
    daemon::Daemon,
    load::{peer, serving},
    making::minilm,
    progress,
    report::{Found, Target},
    requests::{Model, TIMEOUT_US},
    statistics::{Ratio, median, ratio},
};

/// One thread on each side.
const CONFIG: &str = "[native]\nthreads = 1\n[lanes]\nthreads = 1\n";

/// Where sentences are embedded: the browser that is launched, and the backend.
const CASES: [(&str, &str); 5] = [
    ("native", "ort-cpu"),
    ("chromium", "wasm"),
    ("chromium-webnn", "webnn"),
    ("firefox", "wasm"),
    ("webkitgtk", "wasm"),
];

const NAME: &str = "minilm";

const ROUNDS: usize = 20;

/// A round's sentences, asked in requests of so many.
const SENTENCES: usize = 64;
const REQUEST: usize = 16;

const SEED: u64 = 51;

/// Of neighbouring vectors of length 1; a wrong pooling differs in the first digit.
const TOLERANCE: f64 = 1e-3;

#[derive(Serialize)]
struct Samples {
    browser: &'static str,
    backend: &'static str,
    /// Microseconds for all sentences, one entry per round.
    daemon: Vec<u64>,
    python: Vec<u64>,
}

#[derive(Serialize)]
struct Summary {
    browser: &'static str,
    backend: &'static str,
    /// Of the rates: above one the daemon is faster.
    ratio: Ratio,
    daemon_per_s: f64,
    python_per_s: f64,
}

pub(crate) async fn measure(program: &Path, model: &Model) -> anyhow::Result<Measured> {
    let (python, folder) = (peer::python()?, minilm()?);
    for (needed, script) in [
        (&python, "python3 .setup/clients.py bench"),
        (&folder, "python3 .setup/models.py fixtures/precision.toml"),
    ] {
        if !needed.exists() {
            return Ok(Err(format!("{} is missing; `{script}` brings it", needed.display())));
        }
    }
    let requests: Vec<Vec<String>> = sentences().chunks(REQUEST).map(<[String]>::to_vec).collect();
    let origin = serving::origin(program, model, 0).await?;
    let mut samples = Vec::new();
    for (browser, backend) in CASES {
        progress(&format!("sentences in {browser} on {backend} and in Python"));
        let home = tempfile::tempdir()?;
        std::fs::write(home.path().join("weft.toml"), CONFIG)?;
        let launched = if browser == "native" { String::new() } else { format!("{browser}=1") };
        let daemon = Daemon::start_with(program, home.path(), &launched).await?;
        daemon.add_with(&folder.display().to_string(), &["--name", NAME]).await?;
        let ends = (Asked::new(&daemon, browser, backend)?, Python::start(&python, &daemon, &folder).await?);
        samples.push(alternate((browser, backend), ends, &requests).await?);
        daemon.stop().await?;
    }
    let summaries: Vec<_> = samples.iter().map(Samples::summary).collect();
    let targets = summaries.iter().map(Summary::target).collect();
    Ok(Ok(Found::new(origin, targets, Vec::new(), &summaries, &samples)?))
}

/// Of 5 to 40 words, no two alike.
fn sentences() -> Vec<String> {
    let words = [
        "the", "river", "carries", "cold", "water", "past", "old", "houses", "where", "people", "repair",
        "small", "boats", "before", "summer", "and", "talk", "about", "distant", "weather",
    ];
    let word = |sentence: usize, at: usize| words[(sentence * 7 + at * at + at * 3) % words.len()];
    let sentence = |sentence: usize| {
        (0..5 + sentence * 11 % 36).map(|at| word(sentence, at)).collect::<Vec<_>>().join(" ")
    };
    (0..SENTENCES).map(sentence).collect()
}

async fn alternate(
    (browser, backend): (&'static str, &'static str),
    (daemon, mut python): (Asked, Python),
    requests: &[Vec<String>],
) -> anyhow::Result<Samples> {
    let mut samples = Samples { browser, backend, daemon: Vec::new(), python: Vec::new() };
    // The first answers come with the proof, and with sessions of each size.
    for request in requests {
        let (_, ours) = daemon.embed(request).await?;
        let theirs = python.embed(request).await?;
        same(&ours, &theirs.vectors).with_context(|| format!("{browser} on {backend}"))?;
    }
    for _ in 0..ROUNDS {
        let (mut ours, mut theirs) = (Duration::ZERO, 0);
        for request in requests {
            ours += daemon.embed(request).await?.0;
            theirs += python.embed(request).await?.us;
        }
        samples.daemon.push(ours.as_micros() as u64);
        samples.python.push(theirs);
    }
    Ok(samples)
}

fn same(ours: &[Vec<f64>], theirs: &[Vec<f64>]) -> anyhow::Result<()> {
    ensure!(ours.len() == theirs.len(), "{} vectors instead of {}", ours.len(), theirs.len());
    for (sentence, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let off = ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f64::max);
        ensure!(ours.len() == theirs.len() && off <= TOLERANCE, "sentence {sentence} is {off} off");
    }
    Ok(())
}

/// The daemon's own route, over one connection.
struct Asked {
    url: String,
    http: reqwest::Client,
    wants: Value,
}

impl Asked {
    fn new(daemon: &Daemon, browser: &str, backend: &str) -> anyhow::Result<Self> {
        let wants = if browser == "native" {
            json!({"backend": backend, "fallback": "none", "timeout": TIMEOUT_US})
        } else {
            json!({"backend": backend, "browser": browser, "fallback": "none", "timeout": TIMEOUT_US})
        };
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { url: format!("{}/v1/embeddings", daemon.url), http, wants })
    }

    async fn embed(&self, sentences: &[String]) -> anyhow::Result<(Duration, Vec<Vec<f64>>)> {
        let body = json!({"model": NAME, "input": sentences, "weft": self.wants}).to_string();
        let started = Instant::now();
        let response = self.http.post(&self.url).body(body).send().await?;
        let bytes = response.bytes().await?;
        let took = started.elapsed();
        let answer: Value = serde_json::from_slice(&bytes)?;
        let items = answer["data"].as_array().with_context(|| answer.to_string())?;
        let vectors = items.iter().map(|item| serde_json::from_value(item["embedding"].clone()));
        Ok((took, vectors.collect::<Result<_, _>>()?))
    }
}

/// A running `embed.py`; it ends when dropped.
struct Python {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
    _model: tempfile::NamedTempFile,
}

#[derive(Deserialize)]
struct Embedded {
    us: u64,
    vectors: Vec<Vec<f64>>,
}

impl Python {
    /// With the graph that the daemon has made.
    async fn start(python: &Path, daemon: &Daemon, folder: &Path) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let model: Value =
            http.get(format!("{}/api/v1/models/{NAME}", daemon.url)).send().await?.json().await?;
        let digest = model["digest"].as_str().with_context(|| model.to_string())?;
        let bytes = http.get(format!("{}/api/v1/blobs/{digest}", daemon.url)).send().await?.bytes().await?;
        let model = tempfile::NamedTempFile::new()?;
        std::fs::write(model.path(), bytes)?;
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peer/embed.py"))
            .arg(model.path())
            .arg(folder.join("tokenizer.json"))
            .env("TOKENIZERS_PARALLELISM", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| python.display().to_string())?;
        let input = child.stdin.take().context("stdin was piped")?;
        let output = BufReader::new(child.stdout.take().context("stdout was piped")?).lines();
        Ok(Self { input, output, _child: child, _model: model })
    }

    async fn embed(&mut self, sentences: &[String]) -> anyhow::Result<Embedded> {
        self.input.write_all(format!("{}\n", serde_json::to_string(sentences)?).as_bytes()).await?;
        let line = self.output.next_line().await?.context("Python ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Samples {
    fn summary(&self) -> Summary {
        let rates = |series: &[u64]| series.iter().map(|us| SENTENCES as f64 * 1e6 / *us as f64).collect();
        let (daemon, python): (Vec<_>, Vec<_>) = (rates(&self.daemon), rates(&self.python));
        let pairs: Vec<_> = daemon.iter().copied().zip(python.iter().copied()).collect();
        Summary {
            browser: self.browser,
            backend: self.backend,
            ratio: ratio(&pairs, median, 1, SEED),
            daemon_per_s: median(&daemon),
            python_per_s: median(&python),
        }
    }
}

impl Summary {
    fn target(&self) -> Target {
        Target {
            what: format!("sentences to vectors, {} {}", self.browser, self.backend),
            found: format!("{:.0}/s", self.daemon_per_s),
            bound: format!("onnxruntime in Python {:.0}/s", self.python_per_s),
            ratio: self.ratio,
            wanted: "-".to_owned(),
            met: None,
        }
    }
}
