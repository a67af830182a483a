//! `make prove`: models in several precisions on every backend. Each lane and model is a slice with a file of its own, as
//! in `matrix`; the table of `docs/models.md` is made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    checkpoints::{MINILM, minilm},
    daemon::{FIXTURES, served},
    proof,
    serve::{Client, Lane, Served},
    webkit,
};

const MODELS: [&str; 3] = ["silero-vad", "magika", MINILM];
const RECIPES: [&str; 6] = ["fp32", "fp16", "int8-dynamic", "int8", "int4", "int2"];
const LANES: [Lane; 8] = [
    Lane { browser: "native", backend: "ort-cpu" },
    Lane { browser: "chromium", backend: "wasm" },
    Lane { browser: "firefox", backend: "wasm" },
    Lane { browser: "webkitgtk", backend: "wasm" },
    Lane { browser: "chromium-webnn", backend: "wasm" },
    Lane { browser: "chromium-webnn", backend: "webnn" },
    Lane { browser: "chromium", backend: "webgpu" },
    Lane { browser: "firefox", backend: "webgpu" },
];

/// Rounds over all inputs, the first of which warms up; no more begin once they have taken this long.
const ROUNDS: usize = 7;
const ROUNDS_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "a full matrix: run by `make prove`"]
async fn every_precision_on_every_backend() {
    let commit = proof::commit();
    let wanted = LANES.iter().flat_map(|lane| MODELS.map(|model| (*lane, model)));
    let wanted: Vec<_> = wanted.filter(|(lane, model)| known(*lane, model).is_none()).collect();
    let browsers: BTreeSet<_> = wanted.iter().map(|(lane, _)| lane.browser).collect();
    if browsers.is_empty() || minilm().is_none() || (browsers.contains("webkitgtk") && !webkit::here()) {
        return;
    }
    let launched: Vec<_> =
        browsers.iter().filter(|name| **name != "native").map(|name| format!("{name}=1")).collect();
    let Some(served) = served(&launched.join(",")).await else { return };
    served.weft(&["models", "add", &format!("{FIXTURES}/precision.toml")]).await.unwrap();
    let mut bench = Bench { client: served.connect().await.unwrap(), http: reqwest::Client::new(), served };
    let (mut variants, mut wanted_answers) = (BTreeMap::new(), BTreeMap::new());
    for model in MODELS {
        wanted_answers.insert(model, bench.answers(model).await);
        for recipe in RECIPES {
            variants.insert((model, recipe), bench.variant(model, recipe).await);
        }
    }
    for (lane, model) in wanted {
        let mut slice = json!({
            "commit": commit, "machine": proof::machine(), "command": proof::COMMAND,
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "model": model, "browser": lane.browser, "backend": lane.backend, "recipes": {},
        });
        for recipe in RECIPES {
            let measured = match &variants[&(model, recipe)] {
                Ok(variant) => bench.measure((model, recipe), variant, lane, &wanted_answers[model]).await,
                Err(refused) => json!({"no_variant": refused}),
            };
            eprintln!("{lane:?} {model} {recipe}: {}", cell(&measured));
            slice["recipes"][recipe] = measured;
        }
        let file = file(lane, model);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{slice}\n")).unwrap();
    }
    bench.served.stop().await.unwrap();
}

fn file(lane: Lane, model: &str) -> PathBuf {
    let name = format!("{}-{}-{model}.json", lane.browser, lane.backend);
    PathBuf::from(FIXTURES).join("measurements/precision").join(name)
}

fn known(lane: Lane, model: &str) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(file(lane, model)).ok()?).ok()
}

struct Bench {
    served: Served,
    client: Client,
    http: reqwest::Client,
}

impl Bench {
    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.served.url)).body(body.to_string());
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path} answered {text:?}"))
    }

    /// Makes a variant and names it; answers with what is told of it, or why there is none.
    async fn variant(&self, model: &str, recipe: &str) -> Result<Value, String> {
        if recipe == "fp32" {
            return Ok(Value::Null);
        }
        let made = self.post("/api/v1/conversions", &json!({"model": model, "precision": recipe})).await;
        let Some(item) = made["items"].get(0) else {
            return Err(made["detail"].as_str().unwrap_or_default().to_owned());
        };
        let name = format!("{model}-{recipe}");
        let body =
            json!({"name": name, "digest": item["digest"], "files": item["files"], "source": made["source"]});
        let added = self.post("/api/v1/models", &body).await;
        assert_eq!(added["name"], name, "{added}");
        Ok(self.shown(&name).await["variant"].clone())
    }

    async fn shown(&self, name: &str) -> Value {
        let url = format!("{}/api/v1/models/{name}", self.served.url);
        serde_json::from_str(&self.http.get(url).send().await.unwrap().text().await.unwrap()).unwrap()
    }

    /// Loads the variant into the lane, which proves it there, and asks for it with all inputs of the model.
    async fn measure(
        &mut self,
        (model, recipe): (&str, &str),
        variant: &Value,
        lane: Lane,
        wanted: &[Value],
    ) -> Value {
        let name = if recipe == "fp32" { model.to_owned() } else { format!("{model}-{recipe}") };
        let place = json!({"browser": [lane.browser], "backend": [lane.backend]});
        // What a lane refuses is told as an error; its verdict is kept all the same.
        let loaded = self.post(&format!("/api/v1/models/{name}/load"), &place).await;
        let shown = self.shown(&name).await;
        let sets = inputs(model);
        let (mut compute_us, mut answers, mut provenance, mut refused) =
            (Vec::new(), Vec::new(), Value::Null, Value::Null);
        let begun = Instant::now();
        'rounds: for round in 0..ROUNDS {
            if round > 1 && begun.elapsed() > ROUNDS_WITHIN {
                break;
            }
            for set in &sets {
                let answer = self.client.ask(&name, set.clone(), lane).await.unwrap();
                if answer.get("error").is_some() {
                    refused = answer["error"].clone();
                    break 'rounds;
                }
                provenance = answer["parameters"]["provenance"].clone();
                if round == 0 {
                    answers.push(answer["outputs"].clone());
                } else {
                    compute_us.push(answer["parameters"]["timing_us"]["compute"].clone());
                }
            }
        }
        let error = if refused.is_null() { json!(worst(wanted, &answers)) } else { Value::Null };
        self.post(&format!("/api/v1/models/{name}/unload"), &json!({})).await;
        let of_lane = |judged: &&Value| {
            judged["key"]["browser"] == lane.browser && judged["key"]["backend"] == lane.backend
        };
        // Native ONNX Runtime has no verdict: it is what others are compared with.
        let verdict = shown["verdicts"].as_array().into_iter().flatten().find(of_lane);
        json!({
            "variant": variant, "verdict": verdict.map(|judged| &judged["verdict"]), "lanes": loaded["lanes"],
            "not_loaded": loaded["detail"],
            "refused": refused, "error": error, "compute_us": compute_us, "provenance": provenance,
        })
    }

    /// What the model itself answers natively.
    async fn answers(&mut self, model: &str) -> Vec<Value> {
        let mut answers = Vec::new();
        for set in inputs(model) {
            let answer = self.client.ask(model, set, LANES[0]).await.unwrap();
            assert!(answer["outputs"].is_array(), "{answer}");
            answers.push(answer["outputs"].clone());
        }
        answers
    }
}

/// The largest difference of any output, over the largest value.
pub(crate) fn worst(wanted: &[Value], answers: &[Value]) -> f64 {
    let mut worst = 0.0f64;
    for (wanted, answer) in wanted.iter().zip(answers) {
        for output in wanted.as_array().unwrap() {
            let named = |other: &&Value| other["name"] == output["name"];
            let (wanted, got) =
                (values(output), values(answer.as_array().unwrap().iter().find(named).unwrap()));
            assert_eq!(wanted.len(), got.len(), "{output}");
            let largest = wanted.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            let off = wanted.iter().zip(&got).map(|(wanted, got)| (wanted - got).abs()).fold(0.0, f64::max);
            worst = worst.max(off / largest);
        }
    }
    worst
}

fn values(output: &Value) -> Vec<f64> {
    output["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
}

/// The model's gate inputs as requests have them.
pub(crate) fn inputs(model: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(format!("{FIXTURES}/inputs/{model}.json")).unwrap();
    let gate: Value = serde_json::from_str(&text).unwrap();
    let named = |set: &Value| {
        let tensors = set.as_object().unwrap().iter().map(|(name, tensor)| {
            let mut tensor = tensor.clone();
            tensor["name"] = json!(name);
            tensor
        });
        Value::Array(tensors.collect())
    };
    gate["inputs"].as_array().unwrap().iter().map(named).collect()
}

fn rows() -> Vec<String> {
    let row = |model: &str, recipe: &str| {
        let cells = LANES.map(|lane| {
            known(lane, model).map_or("not run".to_owned(), |slice| cell(&slice["recipes"][recipe]))
        });
        format!("| {model} | `{recipe}` | {} |", cells.join(" | "))
    };
    let rows = MODELS.iter().flat_map(|model| RECIPES.map(|recipe| row(model, recipe)));
    // A model that a recipe finds nothing to change in has no line.
    rows.filter(|row| !row.contains("no variant")).collect()
}

/// Prints the table of all slices that there are.
#[test]
#[ignore = "prints what `make prove` has measured"]
fn precision_table() {
    let heads: Vec<_> = LANES.iter().map(|lane| format!("{} {}", lane.browser, lane.backend)).collect();
    println(&format!("| model | recipe | {} |", heads.join(" | ")));
    println(&format!("|---|---|{}", "---|".repeat(LANES.len())));
    for row in rows() {
        println(&row);
    }
}

#[test]
fn the_page_has_the_table_that_was_measured() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md")).unwrap();
    for row in rows() {
        assert!(page.contains(&row), "docs/models.md lacks: {row}");
    }
}

#[allow(clippy::print_stdout, reason = "a table for whoever asks for it")]
fn println(line: &str) {
    println!("{line}");
}

/// The error, the median time and the shortest, or why there is none.
fn cell(measured: &Value) -> String {
    if measured.get("no_variant").is_some() {
        return "no variant".to_owned();
    }
    let mut times: Vec<_> =
        measured["compute_us"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    times.sort_by(f64::total_cmp);
    match (measured["error"].as_f64(), times.get(times.len() / 2)) {
        (Some(error), Some(median)) => {
            let error = if error == 0.0 { "0".to_owned() } else { format!("{error:.1e}") };
            format!("{error}, {:.1} ms ({:.1})", median / 1e3, times[0] / 1e3)
        }
        _ => match measured["verdict"]["status"].as_str() {
            Some(status) if status != "verified" => status.to_owned(),
            _ => "refused".to_owned(),
        },
    }
}
