//! `weft models`.

mod addition;
mod convert;
mod download;
mod registry;
mod tune;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{
    Common,
    client::{Client, with_daemon},
    output,
};
use crate::{
    domain::{BackendKind, Conversion, Digest, ModelKind},
    models::{GateInputs, source::is_weights},
};
use addition::{Addition, Origin, Piece, additions};
pub(super) use registry::date;

/// Digits of a digest that tables have room for; any command takes them for a version.
const VERSION_SHOWN: usize = 12;

#[derive(Subcommand)]
pub(super) enum Models {
    /// Add a model from a file, an address, a hub, a package, another weft or a gateway
    ///
    /// What has no path is searched for its one model; `docs/models.md` has more.
    Add {
        /// FILE.onnx, FOLDER, https://…, hf:OWNER/NAME[@REVISION][/PATH], pypi:NAME==VERSION[/PATH],
        /// npm:NAME@VERSION[/PATH], weft:http://HOST:PORT/NAME[@DIGEST], ipfs:CID, or a catalogue: FILE.toml[#NAME]
        source: String,
        /// Download nothing: take what the daemon has of this source already
        #[arg(long)]
        offline: bool,
        /// What requests call it [default: the file's, repository's or package's name]
        #[arg(long)]
        name: Option<String>,
        /// How far outputs may be from native ONNX Runtime's, relative to the largest value
        #[arg(long)]
        tolerance: Option<f64>,
        /// What it does: embedding, generation, vision, audio, multimodal or other [default: other]
        #[arg(long)]
        kind: Option<ModelKind>,
        /// Gate inputs: {"inputs": [{NAME: {"datatype", "shape", "data"}, …}, …]}
        #[arg(long, value_name = "FILE")]
        inputs: Option<PathBuf>,
    },
    /// List the models and their versions
    List,
    /// Show a model's signature and what is proven about it
    Show {
        /// NAME, NAME@VERSION or a digest
        model: String,
    },
    /// Verify a model's file anew, then prove it in every lane, or in those named
    ///
    /// A file that fails, because it was changed on the disk or for any other reason, serves no more.
    Verify {
        /// NAME, NAME@VERSION or a digest
        model: String,
        #[arg(long, value_delimiter = ',')]
        backend: Vec<BackendKind>,
        #[arg(long, value_delimiter = ',')]
        browser: Vec<String>,
    },
    /// Make a variant of a model in another precision
    ///
    /// Weights need no command: `add` converts them.
    Convert {
        model: String,
        /// fp16, int8-dynamic, or int8, int4, int2 with `,block=N`, `,symmetric`, `,asymmetric`; @FILE.toml for a
        /// recipe by layer
        #[arg(long)]
        precision: String,
        /// What requests call the variant [default: MODEL-PRECISION]
        #[arg(long)]
        name: Option<String>,
        /// How far outputs may be from native ONNX Runtime's, relative to the largest value
        #[arg(long)]
        tolerance: Option<f64>,
        /// Inputs to measure its accuracy on, which become its gate inputs, as `add` takes them [default: the model's]
        #[arg(long, value_name = "FILE")]
        inputs: Option<PathBuf>,
    },
    /// Find a recipe by layer whose answers are off by no more than a budget
    ///
    /// Each layer is measured alone in each precision, then as many of them together as the budget bears. `convert` makes
    /// the variant.
    Tune {
        model: String,
        /// How far answers may be off, as a share of the largest value
        #[arg(long, value_name = "SHARE")]
        error: f64,
        /// What layers may be made, as `convert` takes it; may be said several times [default: int4 and int8]
        #[arg(long = "precision", value_name = "PRECISION")]
        precisions: Vec<String>,
        /// Inputs to measure on, as `add` takes them [default: the model's]
        #[arg(long, value_name = "FILE")]
        inputs: Option<PathBuf>,
        /// Write the recipe to this file
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
    },
    /// Load a model into every lane, or into those named, and keep it there
    Load {
        model: String,
        #[arg(long, value_delimiter = ',')]
        backend: Vec<BackendKind>,
        #[arg(long, value_delimiter = ',')]
        browser: Vec<String>,
    },
    /// Drop a model from every lane; requests for it are refused until it is loaded
    Unload { model: String },
    /// Keep a model's files, whatever room others need
    Pin {
        /// NAME, NAME@VERSION or a digest
        model: String,
    },
    /// Let a model's files make room for others again
    Unpin {
        /// NAME, NAME@VERSION or a digest
        model: String,
    },
    /// Forget a model: NAME with all its versions, or NAME@VERSION
    Remove { model: String },
}

impl Models {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        match self {
            Self::Add { source, offline, name, tolerance, kind, inputs } => {
                let additions = additions(&source, offline, name, tolerance, kind, inputs)?;
                additions.iter().try_for_each(Addition::check)?;
                let added = with_daemon(common, async |client| {
                    let mut added = Vec::new();
                    for addition in &additions {
                        added.extend(add(client, addition, None, common.json).await?);
                    }
                    Ok(added)
                })
                .await?;
                if common.json { output::json(&json!({"items": added})) } else { Ok(()) }
            }
            Self::List => list(common).await,
            Self::Show { model } => {
                let path = format!("/api/v1/models/{model}");
                let shown = with_daemon(common, async |client| client.get(&path).await).await?;
                show(common, &shown)
            }
            Self::Verify { model, backend, browser } => {
                let path = format!("/api/v1/models/{model}/verify");
                let body = json!({"backend": backend, "browser": browser});
                output::progress(&format!("proving {model}; a software adapter takes its time …"));
                let shown = with_daemon(common, async |client| client.post(&path, &body).await).await?;
                show(common, &shown)
            }
            Self::Convert { model, precision, name, tolerance, inputs } => {
                let order = convert::Order { model, precision, name, tolerance, inputs };
                order.run(common).await
            }
            Self::Tune { model, error, precisions, inputs, out } => {
                tune::Order { model, error, precisions, inputs, out }.run(common).await
            }
            Self::Load { model, backend, browser } => {
                let path = format!("/api/v1/models/{model}/load");
                let body = json!({"backend": backend, "browser": browser});
                output::progress(&format!("loading {model}; a software adapter takes its time …"));
                let shown = with_daemon(common, async |client| client.post(&path, &body).await).await?;
                show(common, &shown)
            }
            Self::Unload { model } => {
                let path = format!("/api/v1/models/{model}/unload");
                let shown = with_daemon(common, async |client| client.post(&path, &json!({})).await).await?;
                show(common, &shown)
            }
            Self::Pin { model } => pin(common, &model, "pin", "pinned").await,
            Self::Unpin { model } => pin(common, &model, "unpin", "no longer pinned").await,
            Self::Remove { model } => {
                let path = format!("/api/v1/models/{model}");
                let removed = with_daemon(common, async |client| client.delete(&path).await).await?;
                if common.json {
                    return output::json(&removed);
                }
                output::line(&format!("removed {model}"));
                Ok(())
            }
        }
    }
}

/// Adds what a source is, under this name; where it is one model and names no inputs of its own, `gate` are those that it
/// is judged by.
pub(super) async fn bring(
    client: &Client,
    source: &str,
    name: &str,
    gate: &GateInputs,
) -> anyhow::Result<()> {
    for mut addition in additions(source, false, None, None, None, None)? {
        name.clone_into(&mut addition.name);
        addition.check()?;
        add(client, &addition, Some(gate), true).await?;
    }
    Ok(())
}

/// The variant of a model in a precision, under the name that `weft models convert` gives it; made unless it is there.
pub(super) async fn variant(client: &Client, model: &str, precision: &str) -> anyhow::Result<Value> {
    let (model, precision) = (model.to_owned(), precision.to_owned());
    let order = convert::Order { model, precision, name: None, tolerance: None, inputs: None };
    let called = order.called()?;
    let path = format!("/api/v1/models/{called}");
    let list = client.get("/api/v1/models").await?;
    let there = list["items"].as_array().into_iter().flatten().any(|item| item["name"] == called.as_str());
    if !there {
        order.make(client).await?;
    }
    client.get(&path).await
}

async fn add(
    client: &Client,
    addition: &Addition,
    otherwise: Option<&GateInputs>,
    quiet: bool,
) -> anyhow::Result<Vec<Value>> {
    let Addition { name, file, licence, kind, tolerance, inputs, batch } = addition;
    let gate = gate(inputs.as_deref())?;
    let pieces = match file {
        Origin::Disk { model, files, source } => disk(client, model, files, source).await?,
        Origin::Elsewhere { source, offline, digest } => {
            elsewhere(client, source, *offline, digest.as_ref()).await?
        }
    };
    if inputs.is_some() && pieces.len() > 1 {
        bail!("{name} has {} parts, and gate inputs are for one model", pieces.len());
    }
    let otherwise = otherwise.filter(|_| inputs.is_none() && pieces.len() == 1);
    let gate = otherwise.map_or(gate, |inputs| json!(inputs));
    let common = json!({"licence": licence, "tolerance": tolerance, "gate": gate, "batch": batch});
    let mut added = Vec::new();
    for mut piece in pieces {
        let part = piece.remove("part").filter(|part| part != "model");
        let called = part.map_or(name.clone(), |part| format!("{name}-{}", part.as_str().unwrap_or("part")));
        let mut body = common.clone();
        let body_map = body.as_object_mut().expect("made above");
        body_map.insert("name".to_owned(), json!(called));
        body_map.insert("kind".to_owned(), json!(kind.unwrap_or_default()));
        body_map.extend(piece.into_iter().filter(|(key, _)| key != "kind" || kind.is_none()));
        let model = client.post("/api/v1/models", &body).await.with_context(|| format!("adding {called}"))?;
        if !quiet {
            output::line(&told(&model));
        }
        added.push(model);
    }
    Ok(added)
}

/// Gate inputs as the daemon takes them.
fn gate(file: Option<&Path>) -> anyhow::Result<Value> {
    let Some(file) = file else { return Ok(json!({"inputs": []})) };
    let described = || format!("the inputs {}", file.display());
    let text = std::fs::read_to_string(file).with_context(described)?;
    serde_json::from_str(&text).with_context(described)
}

fn told(model: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let line =
        format!("added {} ({} bytes, {})", text(&model["name"]), model["bytes"], text(&model["digest"]));
    match conversion(model) {
        Some(made) => format!("{line}: made by weft, {made}"),
        None => line,
    }
}

/// How weft made a model, in words.
fn conversion(model: &Value) -> Option<String> {
    let made: Conversion = serde_json::from_value(model["conversion"].clone()).ok()?;
    Some(made.to_string())
}

/// What makes models of this machine's files, one object per model as the daemon takes it.
async fn disk(
    client: &Client,
    model: &Piece,
    files: &BTreeMap<String, Piece>,
    source: &str,
) -> anyhow::Result<Vec<Map<String, Value>>> {
    let digest = upload(client, model).await?;
    let mut uploaded = Map::new();
    for (name, piece) in files {
        uploaded.insert(name.clone(), upload(client, piece).await?);
    }
    let file = model.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !is_weights(&file) {
        let piece = json!({"digest": digest, "files": uploaded, "source": source});
        return Ok(vec![object(piece)]);
    }
    output::progress(&format!("converting {file} …"));
    let order = json!({"digest": digest, "file": file, "files": uploaded});
    let made = client.post("/api/v1/conversions", &order).await?;
    Ok(converted(&made, &json!(source)))
}

/// The same of what the daemon downloads.
async fn elsewhere(
    client: &Client,
    source: &str,
    offline: bool,
    wanted: Option<&Digest>,
) -> anyhow::Result<Vec<Map<String, Value>>> {
    let download = download::bring(client, source, offline).await?;
    if let Some(wanted) = wanted.filter(|wanted| download["digest"] != wanted.to_string()) {
        bail!("{source} has the digest {}, and the catalogue says {wanted}", download["digest"]);
    }
    let file = download["file"].as_str().unwrap_or_default();
    if !is_weights(file) {
        return Ok(vec![object(json!({"download": download["id"]}))]);
    }
    output::progress(&format!("converting {file} …"));
    let made = client.post("/api/v1/conversions", &json!({"download": download["id"]})).await?;
    Ok(converted(&made, &made["source"]))
}

fn converted(made: &Value, source: &Value) -> Vec<Map<String, Value>> {
    let one = |item: &Value| {
        object(json!({
            "part": item["part"], "kind": item["kind"], "digest": item["digest"], "files": item["files"],
            "source": source, "revision": made["revision"],
        }))
    };
    made["items"].as_array().into_iter().flatten().map(one).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The digest of an uploaded file, which is what the catalogue says where there is one.
async fn upload(client: &Client, piece: &Piece) -> anyhow::Result<Value> {
    let Piece { path, digest } = piece;
    let described = || format!("{}", path.display());
    let file = tokio::fs::File::open(path).await.with_context(described)?;
    let upload = client.upload(file).await.with_context(described)?;
    if let Some(digest) = digest
        && upload["digest"] != json!(digest)
    {
        bail!("{} has digest {}, the catalogue says {digest}", path.display(), upload["digest"]);
    }
    Ok(upload["digest"].clone())
}

async fn pin(common: &Common, model: &str, how: &str, done: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/models/{model}/{how}");
    let listed = with_daemon(common, async |client| client.post(&path, &json!({})).await).await?;
    if common.json {
        return output::json(&listed);
    }
    output::line(&format!("{model} is {done}"));
    Ok(())
}

async fn list(common: &Common) -> anyhow::Result<()> {
    let page = with_daemon(common, async |client| client.get("/api/v1/models").await).await?;
    if common.json {
        return output::json(&page);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows: Vec<_> = page["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|model| {
            let digest = text(&model["digest"]).chars().take(VERSION_SHOWN).collect();
            let latest = if model["latest"] == true { "" } else { " (older)" };
            let verified = match (model["unusable"].is_null(), model["verified_at_us"].as_i64()) {
                (false, _) => "unusable".to_owned(),
                (true, Some(us)) => date(us),
                (true, None) => "-".to_owned(),
            };
            let files = match (model["evicted"] == true, model["pinned"] == true) {
                (true, true) => "pinned, evicted",
                (true, false) => "evicted",
                (false, true) => "pinned",
                (false, false) => "here",
            };
            vec![
                text(&model["name"]) + latest,
                digest,
                text(&model["kind"]),
                verified,
                model["uses"].to_string(),
                model["bytes"].to_string(),
                files.to_owned(),
                text(&model["licence"]),
                text(&model["source"]),
            ]
        })
        .collect();
    if rows.is_empty() {
        output::line("no models yet: `weft models add FILE.onnx` adds one");
    } else {
        let head = ["name", "version", "kind", "verified", "uses", "bytes", "files", "licence", "source"];
        output::table(&head, &rows);
    }
    Ok(())
}

fn show(common: &Common, model: &Value) -> anyhow::Result<()> {
    if common.json {
        return output::json(model);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    output::line(&format!("{}  {}", text(&model["name"]), text(&model["digest"])));
    output::line(&format!(
        "{} bytes, opset {}, from {}",
        model["bytes"],
        model["opset"],
        text(&model["source"])
    ));
    if let Some(made) = conversion(model) {
        output::line(&format!("made by weft: {made}"));
    }
    if let Some(revision) = model["revision"].as_str() {
        output::line(&format!("revision {revision}"));
    }
    if let Some(cid) = model["cid"].as_str() {
        output::line(&format!("ipfs:{cid}"));
    }

    convert::shown(&model["variant"])?;
    registry::show(model);
    for (role, ports) in
        [("input", &model["signature"]["inputs"]), ("output", &model["signature"]["outputs"])]
    {
        for port in ports.as_array().into_iter().flatten() {
            output::line(&format!(
                "{role} {} {} {}",
                text(&port["name"]),
                text(&port["datatype"]),
                port["shape"]
            ));
        }
    }
    for lane in model["lanes"].as_array().into_iter().flatten() {
        let outcome = lane["refused"]["message"].as_str().or(lane["verdict"].as_str());
        output::line(&format!("{}: {}", text(&lane["lane"]), outcome.unwrap_or("-")));
    }
    output::line(&match model["batching"]["barred"].as_str() {
        Some(barred) => format!("requests do not share steps: {barred}"),
        None => format!(
            "up to {} rows share a step, after waiting up to {}",
            model["batching"]["max"],
            text(&model["batching"]["delay"])
        ),
    });
    output::line(&format!("residence: {}", text(&model["residence"]["stay"])));
    let seats: Vec<_> = model["residence"]["lanes"].as_array().into_iter().flatten().map(seat).collect();
    if !seats.is_empty() {
        output::table(&["lane", "state", "WASM bytes", "GPU bytes"], &seats);
    }
    let rows: Vec<_> = model["verdicts"].as_array().into_iter().flatten().map(verdict).collect();
    if rows.is_empty() {
        output::line("nothing is proven yet: `weft models verify` proves it in every lane");
    } else {
        output::line(&format!(
            "tolerance {}, {} gate inputs given",
            model["tolerance"], model["gate_inputs"]
        ));
        output::table(
            &["verdict", "browser", "version", "backend", "adapter", "error", "what was seen"],
            &rows,
        );
    }
    Ok(())
}

fn seat(seat: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let bytes = |value: &Value| value.as_u64().map_or("-".to_owned(), |bytes| bytes.to_string());
    let memory = &seat["memory"];
    vec![text(&seat["lane"]), text(&seat["state"]), bytes(&memory["wasm_bytes"]), bytes(&memory["gpu_bytes"])]
}

fn verdict(stored: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (key, verdict) = (&stored["key"], &stored["verdict"]);
    vec![
        text(&verdict["status"]),
        text(&key["browser"]),
        text(&key["browser_version"]),
        text(&key["backend"]),
        text(&key["adapter"]).trim().to_owned(),
        verdict["error"].as_f64().map_or("-".to_owned(), |error| format!("{error:.1e}")),
        text(&verdict["detail"]),
    ]
}
