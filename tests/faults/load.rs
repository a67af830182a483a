//! Requests in flight all the time, each answer looked at: what was accepted is answered once, and rightly.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::Instant};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use tokio_util::sync::CancellationToken;
use weft::{
    domain::{Body, Tensor},
    models::GateInputs,
    protocol::frame::{self, Frame},
};

use crate::FIXTURES;

pub(crate) const MODEL: &str = "silero-vad";

const CLIENTS: usize = 3;
/// Requests that each client keeps in flight; all together more than the lanes take at once.
const IN_FLIGHT: usize = 4;
/// Between an answer and the request that takes its place: without a pause the requests alone would fill two cores,
/// and the browsers' return would be measured in a machine that has no time for it.
const PAUSE: Duration = Duration::from_millis(20);

/// A request's time; a browser comes back in a fraction of it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// After the deadline of the last request nothing may be unanswered.
const DRAINED_WITHIN: Duration = Duration::from_secs(65);

/// The gate's own tolerance for this model.
pub(crate) const TOLERANCE: f32 = 1e-3;

/// Wrong answers and failures that are told in full.
const TOLD_MAX: usize = 3;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The outputs of one answer, by name.
type Outputs = BTreeMap<String, Vec<f32>>;

/// The recorded inputs, and what native ONNX Runtime answers to each.
pub(crate) struct Questions {
    sets: Vec<Vec<Tensor>>,
    right: Vec<Outputs>,
}

impl Questions {
    /// Has the daemon's native lane answer, and checks that against what the model's own package answers.
    pub(crate) async fn ask(url: &str) -> anyhow::Result<Self> {
        let recorded = std::fs::read_to_string(format!("{FIXTURES}/inputs/silero-vad.json"))?;
        let recorded: GateInputs = serde_json::from_str(&recorded)?;
        let sets = recorded.tensors()?;
        let expected: Value =
            serde_json::from_str(&std::fs::read_to_string(format!("{FIXTURES}/inputs/expected.json"))?)?;
        let expected = &expected[MODEL];
        let mut socket = connect(url).await?;
        let mut right = Vec::new();
        for (at, set) in sets.iter().enumerate() {
            let parameters = json!({"browser": "native", "binary_data_output": true});
            socket.send(Message::Binary(question("native", set, &parameters))).await?;
            let answer = Answer::read(&next(&mut socket).await?)?;
            let outputs = answer.result.map_err(|failure| anyhow::anyhow!("{failure}"))?.1;
            let window = expected["gate_windows"][at].as_u64().context("a window of each set")?;
            let probability = expected["probabilities"][window as usize].as_f64().context("a probability")?;
            let found = outputs["output"][0];
            ensure!(
                (found - probability as f32).abs() < TOLERANCE,
                "natively {found}, by the package {probability}"
            );
            right.push(outputs);
        }
        Ok(Self { sets, right })
    }
}

/// How requests are asked, and what of an answer is right.
#[derive(Clone)]
pub(crate) struct Asking {
    /// What restricts them, beside their time.
    pub(crate) parameters: Value,
    pub(crate) tolerance: f32,
}

/// What is known while requests run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) answered: u64,
    /// Answers of later attempts, and of stages elsewhere than in their places, by the instance that gave them.
    pub(crate) moved: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    /// Failures that say that trying again cannot help.
    pub(crate) hopeless: u64,
    pub(crate) retried: u64,
    pub(crate) fell_back: u64,
    pub(crate) longest: Duration,
    /// What may never be: answers that nobody waited for, and wrong ones.
    pub(crate) strays: u64,
    pub(crate) wrong: u64,
    pub(crate) told: Vec<String>,
}

impl Tally {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.succeeded += other.succeeded;
        for (code, count) in other.failed {
            *self.failed.entry(code).or_default() += count;
        }
        self.hopeless += other.hopeless;
        self.retried += other.retried;
        self.fell_back += other.fell_back;
        self.longest = self.longest.max(other.longest);
        self.strays += other.strays;
        self.wrong += other.wrong;
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(what());
        }
    }
}

/// Clients at work until [`Load::finish`].
pub(crate) struct Load {
    stop: CancellationToken,
    clients: JoinSet<anyhow::Result<Tally>>,
    progress: watch::Sender<Progress>,
}

impl Load {
    pub(crate) async fn start(
        url: &str,
        questions: &Arc<Questions>,
        asking: &Asking,
    ) -> anyhow::Result<Self> {
        let (stop, progress) = (CancellationToken::new(), watch::Sender::new(Progress::default()));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let client = Client {
                socket: connect(url).await?,
                questions: questions.clone(),
                asking: asking.clone(),
                progress: progress.clone(),
                asked: 0,
                open: BTreeMap::new(),
                tally: Tally::default(),
            };
            clients.spawn(client.run(stop.clone()));
        }
        Ok(Self { stop, clients, progress })
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits until so many more answers have come.
    pub(crate) async fn answers(&self, more: u64, within: Duration) -> anyhow::Result<()> {
        let wanted = self.progress().answered + more;
        self.until(within, |progress| progress.answered >= wanted).await
    }

    pub(crate) async fn until(
        &self,
        within: Duration,
        reached: impl FnMut(&Progress) -> bool,
    ) -> anyhow::Result<()> {
        let mut progress = self.progress.subscribe();
        let mut reached = reached;
        let waited = tokio::time::timeout(within, progress.wait_for(|progress| reached(progress))).await;
        ensure!(waited.is_ok(), "answers did not come within {} s: {:?}", within.as_secs(), self.progress());
        Ok(())
    }

    /// Asks nothing more, waits for what is open, and adds up.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Tally> {
        self.stop.cancel();
        let mut tally = Tally::default();
        while let Some(client) = self.clients.join_next().await {
            tally.add(client.context("a client panicked")??);
        }
        Ok(tally)
    }
}

struct Client {
    socket: Socket,
    questions: Arc<Questions>,
    asking: Asking,
    progress: watch::Sender<Progress>,
    asked: usize,
    /// When each open request was sent, and which question it holds.
    open: BTreeMap<String, (Instant, usize)>,
    tally: Tally,
}

impl Client {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<Tally> {
        let mut due: VecDeque<Instant> = std::iter::repeat_n(Instant::now(), IN_FLIGHT).collect();
        loop {
            let next_due = due.front().copied();
            tokio::select! {
                () = stop.cancelled() => break,
                answer = next(&mut self.socket) => {
                    self.answered(&answer?)?;
                    due.push_back(Instant::now() + PAUSE);
                }
                () = sleep_until(next_due), if next_due.is_some() => {
                    due.pop_front();
                    self.send().await?;
                }
            }
        }
        let deadline = Instant::now() + DRAINED_WITHIN;
        while !self.open.is_empty() {
            let answer = tokio::time::timeout_at(deadline, next(&mut self.socket)).await;
            match answer {
                Ok(answer) => self.answered(&answer?)?,
                Err(_) => bail!("{} requests were never answered", self.open.len()),
            }
        }
        Ok(self.tally)
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        let at = self.asked % self.questions.sets.len();
        let id = self.asked.to_string();
        self.asked += 1;
        let mut parameters = self.asking.parameters.clone();
        parameters["timeout"] = json!(TIMEOUT.as_micros() as u64);
        parameters["binary_data_output"] = json!(true);
        let message = question(&id, &self.questions.sets[at], &parameters);
        self.open.insert(id, (Instant::now(), at));
        self.socket.send(Message::Binary(message)).await?;
        self.tally.accepted += 1;
        Ok(())
    }

    fn answered(&mut self, message: &Message) -> anyhow::Result<()> {
        let answer = Answer::read(message)?;
        let Some((sent, at)) = self.open.remove(&answer.id) else {
            self.tally.strays += 1;
            self.tally.tell(|| format!("an answer to {:?}, which is not open", answer.id));
            return Ok(());
        };
        let mut moved = Vec::new();
        self.tally.longest = self.tally.longest.max(sent.elapsed());
        match answer.result {
            Ok((provenance, outputs)) => {
                self.tally.succeeded += 1;
                moved = self::moved(&provenance);
                self.tally.retried += u64::from(provenance["attempt"].as_u64().unwrap_or(1) > 1);
                self.tally.fell_back += u64::from(provenance["fallback"].is_object());
                let (off, tolerance) = (distance(&outputs, &self.questions.right[at]), self.asking.tolerance);
                if off.is_nan() || off > tolerance {
                    self.tally.wrong += 1;
                    self.tally.tell(|| format!("an answer off by {off} of {tolerance} from {provenance}"));
                }
            }
            Err(failure) => {
                let code = failure["code"].as_str().unwrap_or("none").to_owned();
                *self.tally.failed.entry(code).or_default() += 1;
                self.tally.hopeless += u64::from(failure["retry"] == "never");
                self.tally.tell(|| failure.to_string());
            }
        }
        self.progress.send_modify(|progress| {
            progress.answered += 1;
            for instance in moved {
                *progress.moved.entry(instance).or_default() += 1;
            }
        });
        Ok(())
    }
}

/// The instances that gave a later attempt's answer, or stood in for another's.
fn moved(provenance: &Value) -> Vec<String> {
    let later = |run: &&Value| run["attempt"].as_u64().unwrap_or(1) > 1;
    let runs: Vec<_> = match provenance["stages"].as_array() {
        Some(stages) => stages.iter().filter(|run| later(run) || run["fallback"].is_object()).collect(),
        None => Some(provenance).into_iter().filter(later).collect(),
    };
    runs.iter().filter_map(|run| run["instance"].as_str().map(ToOwned::to_owned)).collect()
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// The greatest difference of a value, relative to the greatest value of its output; not a number where outputs cannot
/// be compared.
fn distance(found: &Outputs, right: &Outputs) -> f32 {
    let alike = found.len() == right.len()
        && found.iter().zip(right).all(|((one, a), (other, b))| one == other && a.len() == b.len());
    if !alike {
        return f32::NAN;
    }
    let differences = found.values().zip(right.values()).flat_map(|(found, right)| {
        let most = right.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        found.iter().zip(right).map(move |(found, right)| (found - right).abs() / most)
    });
    // What is no number stays the worst.
    differences.fold(0.0, |worst, off| if off > worst || off.is_nan() { off } else { worst })
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<Socket> {
    let url = format!("{}/v2/ws", url.replacen("http", "ws", 1));
    Ok(tokio_tungstenite::connect_async(&url).await.with_context(|| url.clone())?.0)
}

async fn next(socket: &mut Socket) -> anyhow::Result<Message> {
    socket.next().await.context("the daemon closed the connection")?.context("the connection broke")
}

fn question(id: &str, set: &[Tensor], parameters: &Value) -> Bytes {
    let mut body = Body::default();
    let inputs: Vec<_> = set
        .iter()
        .map(|Tensor { name, datatype, shape, body: bytes }| {
            body.append(bytes);
            let parameters = json!({"binary_data_size": bytes.len()});
            json!({"name": name, "datatype": datatype, "shape": shape, "parameters": parameters})
        })
        .collect();
    let header = json!({
        "type": "infer", "id": id, "model_name": MODEL, "inputs": inputs, "parameters": parameters,
    });
    frame::encode(&header, &body)
}

struct Answer {
    id: String,
    /// Provenance and outputs, or the error.
    result: Result<(Value, Outputs), Value>,
}

impl Answer {
    fn read(message: &Message) -> anyhow::Result<Self> {
        let (header, body) = match message {
            Message::Text(text) => (serde_json::from_str::<Value>(text)?, Bytes::new()),
            Message::Binary(bytes) => {
                let frame = Frame::split(bytes)?;
                (frame.parse()?, frame.body)
            }
            other => bail!("instead of an answer came {other}"),
        };
        let id = header["id"].as_str().with_context(|| format!("no id in {header}"))?.to_owned();
        if header["type"] == "error" {
            return Ok(Self { id, result: Err(header["error"].clone()) });
        }
        let mut from = 0;
        let mut outputs = Outputs::new();
        for output in header["outputs"].as_array().context("a result has outputs")? {
            let size =
                output["parameters"]["binary_data_size"].as_u64().context("binary outputs were asked for")?;
            let end = from + size as usize;
            let bytes = body.get(from..end).context("the body ends too early")?;
            let numbers = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
            outputs.insert(output["name"].as_str().context("outputs have names")?.to_owned(), numbers);
            from = end;
        }
        Ok(Self { id, result: Ok((header["parameters"]["provenance"].clone(), outputs)) })
    }
}
