//! `make demo`: real models, real browsers, real answers, each with where and how it was computed.

#[path = "../support/serve.rs"]
mod serve;

use std::{io::Write, path::Path, time::Instant};

use anyhow::Context;
use serde_json::{Value, json};
use serve::{Client, Lane, Served, numbers};
use weft::modality::{file_type as magika, speech as silero};

/// Every engine that a machine may hold; a missing one is a row that says so.
const BROWSERS: &str = "chromium=1,chromium-webnn=1,firefox=1,webkitgtk=1";

const LANES: [Lane; 5] = [
    Lane { browser: "native", backend: "ort-cpu" },
    Lane { browser: "chromium", backend: "wasm" },
    Lane { browser: "chromium-webnn", backend: "webnn" },
    Lane { browser: "firefox", backend: "wasm" },
    Lane { browser: "webkitgtk", backend: "wasm" },
];

/// On a software adapter a run takes a second, and hardware ones need no more requests to be seen at work.
const GPU_LANES: [Lane; 2] =
    [Lane { browser: "chromium", backend: "webgpu" }, Lane { browser: "firefox", backend: "webgpu" }];

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// One line of the table: a model on a lane.
struct Row {
    model: &'static str,
    lane: Lane,
    answers: Vec<Value>,
    /// The refusal, when there is no answer.
    refused: Option<String>,
    found: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let begun = Instant::now();
    let program = std::env::current_exe()?;
    let program = program.ancestors().nth(2).context("examples lie below the profile's folder")?.join("weft");
    say(
        "starting weft with Chromium, a Chromium that has WebNN, Firefox, and WebKitGTK, which is Safari's engine",
    );
    let served = Served::start(&program, BROWSERS).await?;
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml")]).await?;
    let mut client = served.connect().await?;
    say("asking over the WebSocket; each browser proves itself against native ONNX Runtime first …");
    let mut rows = Vec::new();
    let speech = silero::samples(&std::fs::read(format!("{FIXTURES}/inputs/speech.wav"))?.into())
        .context("speech.wav")?;
    let files = Files::read()?;
    for lane in LANES {
        rows.push(listen(&mut client, lane, &speech, usize::MAX).await?);
    }
    rows.push(listen(&mut client, GPU_LANES[0], &speech, 1).await?);
    for lane in LANES {
        rows.push(files.name(&mut client, lane, files.named.len()).await?);
    }
    for lane in GPU_LANES {
        rows.push(files.name(&mut client, lane, 1).await?);
    }
    print_rows(&rows);
    served.stop().await?;
    say(&format!(
        "\nstopped; no process, profile or socket is left. {:.0} s in all",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Where the speech is, by silero-VAD.
async fn listen(client: &mut Client, lane: Lane, samples: &[f32], most: usize) -> anyhow::Result<Row> {
    let mut row = Row { model: "silero-vad", lane, answers: Vec::new(), refused: None, found: String::new() };
    let elements: usize = silero::STATE_SHAPE.iter().product();
    let (mut state, mut probabilities) = (json!(vec![0.0f32; elements]), Vec::new());
    let frames = silero::frames(samples);
    for frame in frames.iter().take(most) {
        let inputs = json!([
            {"name": "input", "datatype": "FP32", "shape": [1, silero::FRAME], "data": frame},
            {"name": "state", "datatype": "FP32", "shape": silero::STATE_SHAPE, "data": state},
            {"name": "sr", "datatype": "INT64", "shape": [], "data": [silero::SAMPLE_RATE]},
        ]);
        let mut answer = client.ask("silero-vad", inputs, lane).await?;
        if let Some(refused) = refusal(&answer) {
            row.refused = Some(refused);
            return Ok(row);
        }
        probabilities.extend(numbers(&answer, "output")?);
        state = answer["outputs"][1]["data"].take();
        row.answers.push(answer);
    }
    if most >= frames.len() {
        row.found = describe(&silero::segments(&probabilities, samples.len()));
    }
    Ok(row)
}

/// One line for people: `speech at 0.3–2.3 s and 3.3–4.4 s`.
fn describe(segments: &[silero::Segment]) -> String {
    let seconds = |samples: usize| samples as f64 / silero::SAMPLE_RATE as f64;
    let spans: Vec<_> = segments
        .iter()
        .map(|segment| format!("{:.1}–{:.1} s", seconds(segment.start), seconds(segment.end)))
        .collect();
    match spans.split_last() {
        None => "no speech".to_owned(),
        Some((only, [])) => format!("speech at {only}"),
        Some((last, others)) => format!("speech at {} and {last}", others.join(", ")),
    }
}

/// What the files are, by magika.
struct Files {
    config: magika::Config,
    named: Vec<(String, Vec<u8>)>,
}

impl Files {
    fn read() -> anyhow::Result<Self> {
        let config = serve::cache()?.join("models/magika-1.0.3/config.min.json");
        let config = std::fs::read(&config).with_context(|| format!("{}", config.display()))?;
        let config = magika::Config::parse(&config)?;
        let mut named = Vec::new();
        for entry in std::fs::read_dir(Path::new(FIXTURES).join("inputs/files"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            named.push((name, std::fs::read(path)?));
        }
        named.sort();
        Ok(Self { config, named })
    }

    async fn name(&self, client: &mut Client, lane: Lane, most: usize) -> anyhow::Result<Row> {
        let mut row = Row { model: "magika", lane, answers: Vec::new(), refused: None, found: String::new() };
        let mut found = Vec::new();
        for (name, bytes) in self.named.iter().take(most) {
            let features = self.config.features(bytes).with_context(|| format!("{name} is too small"))?;
            let inputs = json!([{"name": "bytes", "datatype": "INT32", "shape": [1, features.len()], "data": features}]);
            let answer = client.ask("magika", inputs, lane).await?;
            if let Some(refused) = refusal(&answer) {
                row.refused = Some(refused);
                return Ok(row);
            }
            let probabilities = numbers(&answer, "target_label")?;
            let (label, probability) = self.config.top(&probabilities).context("no label")?;
            found.push(format!("{name} is {label} ({:.0} %)", probability * 100.0));
            row.answers.push(answer);
        }
        row.found = found.join(", ");
        Ok(row)
    }
}

fn refusal(answer: &Value) -> Option<String> {
    let error = answer.get("error")?;
    Some(format!("{}: {}", error["code"].as_str()?, error["message"].as_str()?))
}

fn print_rows(rows: &[Row]) {
    let header = ["model", "browser", "backend", "nodes", "verdict", "requests", "compute ms", "total ms"];
    let mut cells = vec![header.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..header.len())
        .map(|at| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    say("");
    for row in &cells {
        let padded: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        say(padded.join("  ").trim_end());
    }
    say("");
    let mut told = Vec::new();
    for row in rows {
        match &row.refused {
            Some(refused) => {
                say(&format!("{} in {} on {}: {refused}", row.model, row.lane.browser, row.lane.backend));
            }
            None if row.found.is_empty() => {}
            None if told.iter().any(|earlier: &&String| earlier.starts_with(&row.found)) => {}
            None => {
                say(&format!("{}: {}", row.model, row.found));
                told.push(&row.found);
            }
        }
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let Some(last) = self.answers.last() else {
            let mut cells =
                vec![self.model, self.lane.browser, self.lane.backend, "-", "refused", "1", "-", "-"];
            return cells.drain(..).map(str::to_owned).collect();
        };
        let provenance = &last["parameters"]["provenance"];
        let text = |key: &str| provenance[key].as_str().unwrap_or("-").to_owned();
        let placement = provenance["placement"].as_object().into_iter().flatten();
        let nodes: Vec<_> = placement.map(|(provider, nodes)| format!("{nodes} {provider}")).collect();
        vec![
            self.model.to_owned(),
            format!("{} {}", text("browser"), text("browser_version")),
            text("backend"),
            nodes.join(" + "),
            text("verdict"),
            self.answers.len().to_string(),
            self.median("compute"),
            self.median("total"),
        ]
    }

    fn median(&self, part: &str) -> String {
        let micros =
            self.answers.iter().filter_map(|answer| answer["parameters"]["timing_us"][part].as_u64());
        let mut micros: Vec<_> = micros.collect();
        micros.sort_unstable();
        format!("{:.2}", micros[micros.len() / 2] as f64 / 1000.0)
    }
}

/// Whoever closed our output has seen enough.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
