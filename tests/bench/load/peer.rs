//! What a user would write instead: the same model behind `FastAPI`, uvicorn and onnxruntime in Python.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
};
use weft::domain::Digest;

use super::{floats, serving::Serving};
use crate::{
    Measured,
    http::{Answered, Http},
    origin::Origin,
    progress,
    report::{Found, Target},
    requests::Model,
    statistics::{Ratio, median, quantile, ratio},
    wire::{Answer, Wire},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peer");

/// Its packages are imported and a model is loaded first.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

const LISTENING: &str = "listening on ";

/// Native lanes, for requests that name none.
const CONFIG: &str = "[scheduler]\npolicy = \"native-first\"\n";

const PAIRS: usize = 600;
const WARM_UP: usize = 100;
const BLOCK: usize = 30;

/// Connections that ask at once.
const CALLERS: usize = 8;
const ROUNDS: usize = 8;
const ROUND: Duration = Duration::from_millis(500);

const SEED: u64 = 18;

#[derive(Serialize)]
struct Samples {
    model: String,
    /// Microseconds, one entry per pair.
    daemon: Vec<u64>,
    peer: Vec<u64>,
    /// Answers per second, one entry per round.
    daemon_per_s: Vec<f64>,
    peer_per_s: Vec<f64>,
}

#[derive(Serialize)]
struct Summary {
    model: String,
    latency: Ratio,
    throughput: Ratio,
    daemon_median_us: f64,
    peer_median_us: f64,
    daemon_p99_us: f64,
    peer_p99_us: f64,
    daemon_per_s: f64,
    peer_per_s: f64,
}

/// The interpreter that has what the lock says.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    let lock = std::fs::read(format!("{FOLDER}/requirements.txt"))?;
    let digest = Digest::new(Sha256::digest(&lock).into()).to_string();
    let cache = weft::config::Surroundings::read()?.cache;
    Ok(cache.join("peer").join(&digest[..16]).join("bin/python"))
}

pub(crate) async fn measure(program: &Path, models: &[&Model]) -> anyhow::Result<Measured> {
    let python = python()?;
    if !python.exists() {
        return Ok(Err(format!(
            "{} is missing; `python3 .setup/clients.py bench` brings it",
            python.display()
        )));
    }
    let serving = Serving::native(program, CONFIG).await?;
    let (mut samples, mut origin) = (Vec::new(), None);
    for model in models {
        progress(&format!("{} behind FastAPI and onnxruntime", model.name));
        // One request per step on both sides.
        serving.add(model, &json!({"max": 1})).await?;
        let mut wire = Wire::connect(&serving.daemon.socket()).await?;
        let (_, answer) = wire.exchange(model.asking(0, &super::serving::natively())).await?;
        origin = Some(Origin::of(&Answer::read(&answer)?));
        let peer = Peer::start(&python, &model.file).await?;
        let path = format!("/v2/models/{}/infer", model.name);
        let daemon = Side { url: serving.daemon.url.clone(), path, bodies: bodies(model) };
        let peer_side = Side { url: peer.url.clone(), path: "/infer".to_owned(), bodies: bodies(model) };
        samples.push(compare(&model.name, &daemon, &peer_side).await?);
    }
    serving.daemon.stop().await?;
    let summaries: Vec<_> = samples.iter().map(Samples::summary).collect();
    let targets = summaries.iter().flat_map(Summary::targets).collect();
    let notes = summaries.iter().map(Summary::note).collect();
    let origin = origin.context("some model is measured")?;
    Ok(Ok(Found::new(origin, targets, notes, &summaries, &samples)?))
}

/// The protocol's JSON form of the recorded inputs: both sides get these bytes.
fn bodies(model: &Model) -> Vec<Vec<u8>> {
    let body = |set: &Value| {
        let tensors = set.as_object().into_iter().flatten();
        let inputs: Vec<_> = tensors
            .map(|(name, tensor)| {
                let mut input = tensor.clone();
                input["name"] = json!(name);
                input
            })
            .collect();
        json!({"inputs": inputs}).to_string().into_bytes()
    };
    model.written.iter().map(body).collect()
}

/// The running peer; it ends when dropped.
struct Peer {
    url: String,
    _child: Child,
}

impl Peer {
    async fn start(python: &Path, model: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .arg(format!("{FOLDER}/serve.py"))
            .arg(model)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let mut told = BufReader::new(child.stdout.take().context("stdout was piped")?).lines();
        let line = tokio::time::timeout(LISTENS_WITHIN, told.next_line()).await;
        let line = line.context("the peer does not listen")??.context("the peer ended")?;
        let url = line.strip_prefix(LISTENING).context("the peer's first line")?.to_owned();
        Ok(Self { url, _child: child })
    }
}

struct Side {
    url: String,
    path: String,
    bodies: Vec<Vec<u8>>,
}

impl Side {
    fn requests(&self, http: &Http) -> Vec<bytes::Bytes> {
        self.bodies.iter().map(|body| http.post(&self.path, body, None)).collect()
    }

    /// Answers per second to callers that each have one request under way.
    async fn flood(&self) -> anyhow::Result<f64> {
        let mut asking = JoinSet::new();
        for caller in 0..CALLERS {
            let mut http = Http::connect(&self.url).await?;
            let requests = self.requests(&http);
            asking.spawn(async move {
                let started = Instant::now();
                let mut answered = 0;
                while started.elapsed() < ROUND {
                    http.exchange(&requests[(caller + answered) % requests.len()]).await?;
                    answered += 1;
                }
                anyhow::Ok(answered as f64 / started.elapsed().as_secs_f64())
            });
        }
        asking.join_all().await.into_iter().sum()
    }
}

async fn compare(model: &str, daemon: &Side, peer: &Side) -> anyhow::Result<Samples> {
    let mut samples = Samples {
        model: model.to_owned(),
        daemon: Vec::new(),
        peer: Vec::new(),
        daemon_per_s: Vec::new(),
        peer_per_s: Vec::new(),
    };
    let (mut to_daemon, mut to_peer) = (Http::connect(&daemon.url).await?, Http::connect(&peer.url).await?);
    let (asked, asked_peer) = (daemon.requests(&to_daemon), peer.requests(&to_peer));
    let mut random = StdRng::seed_from_u64(SEED);
    for pair in 0..WARM_UP + PAIRS {
        let at = pair % asked.len();
        let mut second = None;
        if random.random() {
            second = Some(to_peer.exchange(&asked_peer[at]).await?);
        }
        let (took, answer) = to_daemon.exchange(&asked[at]).await?;
        let (peer_took, peer_answer) = match second {
            Some(second) => second,
            None => to_peer.exchange(&asked_peer[at]).await?,
        };
        if pair < asked.len() {
            agree(model, &answer, &peer_answer)?;
        }
        if pair >= WARM_UP {
            samples.daemon.push(took.as_micros() as u64);
            samples.peer.push(peer_took.as_micros() as u64);
        }
    }
    for round in 0..=ROUNDS {
        let mut rates = [None, None];
        for turn in 0..2 {
            let at = (round + turn) % 2;
            rates[at] = Some([daemon, peer][at].flood().await?);
        }
        // The first round warms both up.
        if let (true, [Some(daemon), Some(peer)]) = (round > 0, rates) {
            samples.daemon_per_s.push(daemon);
            samples.peer_per_s.push(peer);
        }
    }
    Ok(samples)
}

/// Both must have computed the same before their speeds may be compared.
fn agree(model: &str, ours: &Answered, theirs: &Answered) -> anyhow::Result<()> {
    let first = |answered: &Answered| -> anyhow::Result<Vec<f64>> {
        let mut answer: Value = serde_json::from_slice(&answered.body)?;
        Ok(serde_json::from_value(answer["outputs"][0]["data"].take())?)
    };
    let (ours, theirs) = (first(ours)?, first(theirs)?);
    let same = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-5);
    ensure!(same, "{model} differs between weft and its peer");
    Ok(())
}

impl Samples {
    fn summary(&self) -> Summary {
        let (daemon, peer) = (floats(&self.daemon), floats(&self.peer));
        let paired = |ours: &[f64], theirs: &[f64]| -> Vec<_> {
            ours.iter().copied().zip(theirs.iter().copied()).collect()
        };
        Summary {
            model: self.model.clone(),
            latency: ratio(&paired(&daemon, &peer), median, BLOCK, SEED),
            throughput: ratio(&paired(&self.daemon_per_s, &self.peer_per_s), median, 1, SEED),
            daemon_median_us: median(&daemon),
            peer_median_us: median(&peer),
            daemon_p99_us: quantile(&daemon, 0.99),
            peer_p99_us: quantile(&peer, 0.99),
            daemon_per_s: median(&self.daemon_per_s),
            peer_per_s: median(&self.peer_per_s),
        }
    }
}

impl Summary {
    fn targets(&self) -> Vec<Target> {
        let row = |what: String, found: String, bound: String, ratio: Ratio| Target {
            what,
            found,
            bound,
            ratio,
            wanted: String::new(),
            met: None,
        };
        vec![
            row(
                format!("{} over HTTP with JSON, median", self.model),
                format!("{:.0} µs", self.daemon_median_us),
                format!("FastAPI {:.0} µs", self.peer_median_us),
                self.latency,
            ),
            row(
                format!("the same from {CALLERS} callers"),
                format!("{:.1}/s", self.daemon_per_s),
                format!("FastAPI {:.1}/s", self.peer_per_s),
                self.throughput,
            ),
        ]
    }

    fn note(&self) -> String {
        format!(
            "{} over HTTP with JSON: p99 {:.0} µs, FastAPI {:.0} µs",
            self.model, self.daemon_p99_us, self.peer_p99_us
        )
    }
}
