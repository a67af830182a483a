//! A text, an image, a recording or a file: sent as it is, and what was found in it, for people.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::{
    super::{client::Client, output},
    Infer, print_provenance, text,
};

/// Numbers of a vector that a person is shown.
const SHOWN: usize = 6;

/// Bars of a line of probabilities: a recording of any length fits a terminal.
const BARS: usize = 60;

pub(super) struct Given {
    kind: &'static str,
    body: Vec<u8>,
}

impl Given {
    /// What the arguments give; nothing where they give tensors.
    pub(super) fn of(infer: &Infer) -> anyhow::Result<Option<Self>> {
        let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
        let whole = |kind, path: &Path| Ok(Some(Self { kind, body: read(path)? }));
        match infer {
            Infer { image: Some(path), .. } => whole("image/*", path),
            Infer { audio: Some(path), .. } => whole("audio/*", path),
            Infer { file: Some(path), .. } => whole("application/octet-stream", path),
            Infer { text, .. } if !text.is_empty() => {
                let texts = text.iter().map(|text| match text.strip_prefix('@') {
                    Some(path) => std::fs::read_to_string(path).with_context(|| path.to_owned()),
                    None => Ok(text.clone()),
                });
                let texts = texts.collect::<anyhow::Result<Vec<_>>>()?;
                let body = json!({"texts": texts}).to_string().into_bytes();
                Ok(Some(Self { kind: "application/json", body }))
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn ask(self, infer: &Infer, client: &Client) -> anyhow::Result<Value> {
        let mut query = Serializer::new(String::new());
        query.append_pair("model", &infer.model.join(","));
        if let Some(task) = infer.task {
            query.append_pair("task", &task.to_string());
        }
        if !infer.backend.is_empty() {
            let backends: Vec<_> = infer.backend.iter().map(ToString::to_string).collect();
            query.append_pair("backend", &backends.join(","));
        }
        if !infer.browser.is_empty() {
            query.append_pair("browser", &infer.browser.join(","));
        }
        if let Some(fallback) = &infer.fallback {
            query.append_pair("fallback", fallback);
        }
        if infer.strict {
            query.append_pair("strict", "true");
        }
        if let Some(seconds) = infer.timeout {
            query.append_pair("timeout", &((seconds * 1e6) as u64).to_string());
        }
        client.post_as(&format!("/api/v1/ask?{}", query.finish()), self.kind, self.body).await
    }
}

pub(super) fn print(found: &Value) {
    let results = found["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (at, result) in results.iter().enumerate() {
        let which = if results.len() > 1 { format!("{at}: ") } else { String::new() };
        print_result(&which, result);
    }
    let computed = found["computed"].as_array().map(Vec::as_slice).unwrap_or_default();
    for step in computed {
        let by = format!("{}: {} × ", text(&step["model"]), step["requests"]);
        print_provenance(&step["provenance"], &by);
        output::line(&format!("{} µs, run {}", step["timing_us"], text(&step["run"])));
    }
    if computed.is_empty() {
        output::line("no model was asked: the rule for small files answers");
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn list<'a>(result: &'a Value, name: &str) -> &'a [Value] {
    result[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn percent(score: &Value) -> String {
    format!("{:6.2} %", number(score) * 100.0)
}

fn print_result(which: &str, result: &Value) {
    match result["type"].as_str().unwrap_or_default() {
        "labels" => {
            for label in list(result, "labels") {
                output::line(&format!("{which}{}  {}", percent(&label["score"]), text(&label["label"])));
            }
        }
        "embedding" => output::line(&format!("{which}{}", embedding(result))),
        "speech" => {
            let segments = list(result, "segments");
            let span = |segment: &Value| {
                format!("{:.2}–{:.2} s", number(&segment["start_seconds"]), number(&segment["end_seconds"]))
            };
            let spans = segments.iter().map(span).collect::<Vec<_>>().join(", ");
            let heard = if spans.is_empty() { "no speech".to_owned() } else { format!("speech at {spans}") };
            output::line(&format!("{heard}, of {:.2} s", number(&result["seconds"])));
            let probabilities: Vec<_> = list(result, "probabilities").iter().map(number).collect();
            let (bars, each) = bars(&probabilities, number(&result["step_seconds"]));
            output::line(&format!("{bars}  {each:.2} s each"));
        }
        "file_type" => {
            let mime_type = result["mime_type"].as_str().map(|kind| format!(", {kind}")).unwrap_or_default();
            let network = match &result["network"] {
                Value::Null => String::new(),
                label => {
                    let percent = percent(&label["score"]);
                    format!(" (the network: {}, {})", text(&label["label"]), percent.trim_start())
                }
            };
            output::line(&format!("{}{mime_type}{network}", text(&result["label"])));
        }
        "lines" => {
            let lines = list(result, "lines");
            for line in lines {
                let [x, y] = [0, 1].map(|axis| number(&line["corners"][0][axis]));
                output::line(&format!(
                    "{}  {x:4.0},{y:4.0}  {}",
                    percent(&line["score"]),
                    text(&line["text"])
                ));
            }
            if lines.is_empty() {
                output::line("no text");
            }
        }
        _ => output::line(&format!("{which}{result}")),
    }
}

fn embedding(result: &Value) -> String {
    let vector = list(result, "embedding");
    let first: Vec<_> = vector.iter().take(SHOWN).map(|value| format!("{:.5}", number(value))).collect();
    let tokens = match &result["tokens"] {
        Value::Null => String::new(),
        tokens => format!(", {tokens} tokens"),
    };
    let cut = if result["truncated"] == true { ", the text's end left out" } else { "" };
    format!("{} dimensions{tokens}{cut}: {}, …", vector.len(), first.join(", "))
}

/// Probabilities as a line of bars, each the greatest of those that it stands for, and how long that is.
fn bars(probabilities: &[f64], step: f64) -> (String, f64) {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let each = probabilities.len().div_ceil(BARS).max(1);
    let bar = |chunk: &[f64]| {
        let most = chunk.iter().copied().fold(0.0, f64::max).clamp(0.0, 1.0);
        HEIGHTS[(most * (HEIGHTS.len() - 1) as f64).round() as usize]
    };
    (probabilities.chunks(each).map(bar).collect(), step * each as f64)
}
