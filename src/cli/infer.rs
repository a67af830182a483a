//! `weft infer`: one request with tensors over the daemon's WebSocket, or one about a text, an image, a recording or a
//! file, which the daemon reads.

mod input;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{
    Common, Misuse,
    client::{Client, with_daemon},
    output,
};
use crate::{
    domain::{BackendKind, Datatype},
    modality::Task,
};

/// Elements of an output that a person is shown.
const SHOWN: usize = 8;

#[derive(Args)]
pub(super) struct Infer {
    /// The name under which the model was added; for ocr the models that find, turn and read lines
    #[arg(required = true)]
    model: Vec<String>,
    /// A text, or @FILE that holds one; several times for several
    #[arg(long, value_name = "TEXT|@FILE", group = "given")]
    text: Vec<String>,
    /// A PNG, JPEG or WebP file
    #[arg(long, value_name = "FILE", group = "given")]
    image: Option<PathBuf>,
    /// A WAV, FLAC, MP3 or Ogg Vorbis file
    #[arg(long, value_name = "FILE", group = "given")]
    audio: Option<PathBuf>,
    /// Any file, whose type is asked for
    #[arg(long, value_name = "FILE", group = "given")]
    file: Option<PathBuf>,
    /// What to do, where the models' files leave it open: ocr, embedding, text-classification, image-embedding,
    /// image-classification, speech-detection or file-type
    #[arg(long, requires = "given")]
    task: Option<Task>,
    /// NAME=JSON with nested lists, NAME=@FILE.json, or NAME=@FILE with raw little-endian bytes; once per input
    #[arg(long, value_name = "NAME=@FILE|JSON", conflicts_with = "given")]
    input: Vec<String>,
    /// Backends to accept, as webgpu,wasm [default: any]
    #[arg(long, value_delimiter = ',')]
    backend: Vec<BackendKind>,
    /// Browsers to accept, as chromium [default: any]
    #[arg(long, value_delimiter = ',')]
    browser: Vec<String>,
    /// What may answer when those cannot: native or none [default: native, or none when they are named]
    #[arg(long, value_parser = ["native", "none"])]
    fallback: Option<String>,
    /// Refuse sessions that spread over several execution providers
    #[arg(long)]
    strict: bool,
    /// Seconds until the request is given up [default: the daemon's]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
}

impl Infer {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        if let Some(given) = input::Given::of(&self)? {
            let found = with_daemon(common, async |client| given.ask(&self, client).await).await?;
            if common.json {
                return output::json(&found);
            }
            input::print(&found);
            return Ok(());
        }
        if self.model.len() > 1 {
            return Err(Misuse("tensors are for one model".to_owned()).into());
        }
        let answer = with_daemon(common, async |client| self.ask(client).await).await?;
        if answer["type"] == "error" {
            let error = &answer["error"];
            if common.json {
                output::json(&answer)?;
            }
            let said = |key: &str| error[key].as_str().unwrap_or("?").to_owned();
            bail!("{}: {} (retry: {})", said("code"), said("message"), said("retry"));
        }
        if common.json {
            return output::json(&answer);
        }
        print(&answer);
        Ok(())
    }

    async fn ask(&self, client: &Client) -> anyhow::Result<Value> {
        let name = &self.model[0];
        let model = client.get(&format!("/api/v1/models/{name}")).await?;
        let inputs = self.input.iter().map(|text| input(text, &model)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut parameters = json!({"strict": self.strict});
        if !self.backend.is_empty() {
            parameters["backend"] = json!(self.backend);
        }
        if !self.browser.is_empty() {
            parameters["browser"] = json!(self.browser);
        }
        if let Some(fallback) = &self.fallback {
            parameters["fallback"] = json!(fallback);
        }
        if let Some(seconds) = self.timeout {
            parameters["timeout"] = json!((seconds * 1e6) as u64);
        }
        let request = json!({
            "type": "infer", "id": "cli", "model_name": name, "inputs": inputs, "parameters": parameters,
        });
        exchange(client, &request).await
    }
}

async fn exchange(client: &Client, request: &Value) -> anyhow::Result<Value> {
    let mut socket = client.socket().await?;
    socket.send(Message::text(request.to_string())).await.context("sending the request")?;
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message.context("the answer")? {
            return Ok(serde_json::from_str(&text)?);
        }
    }
    Err(anyhow!("the daemon closed the connection without an answer"))
}

/// One `--input` as the protocol wants it, its datatype taken from the model's signature.
fn input(text: &str, model: &Value) -> anyhow::Result<Value> {
    let misuse = |message: String| anyhow::Error::new(Misuse(message));
    let (name, value) = text.split_once('=').ok_or_else(|| misuse(format!("{text:?} is not NAME=VALUE")))?;
    let ports = model["signature"]["inputs"].as_array().into_iter().flatten();
    let port = ports.clone().find(|port| port["name"] == name).ok_or_else(|| {
        let known: Vec<_> = ports.map(|port| port["name"].to_string()).collect();
        misuse(format!("the model has no input {name:?}; it has {}", known.join(", ")))
    })?;
    let datatype: Datatype = serde_json::from_value(port["datatype"].clone())?;
    let (shape, data) = match value.strip_prefix('@') {
        Some(file) if Path::new(file).extension().is_none_or(|extension| extension != "json") => {
            let bytes = std::fs::read(file).with_context(|| format!("input {name}: {file}"))?;
            raw(&bytes, datatype, &port["shape"])
                .map_err(|problem| misuse(format!("input {name}: {problem}")))?
        }
        file => {
            let text = match file {
                Some(file) => {
                    std::fs::read_to_string(file).with_context(|| format!("input {name}: {file}"))?
                }
                None => value.to_owned(),
            };
            let data: Value =
                serde_json::from_str(&text).map_err(|error| misuse(format!("input {name}: {error}")))?;
            (nested_shape(&data), data)
        }
    };
    // A scalar is a list of one element without dimensions.
    let data = if data.is_array() { data } else { json!([data]) };
    Ok(json!({"name": name, "datatype": datatype, "shape": shape, "data": data}))
}

fn nested_shape(data: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut level = data;
    while let Value::Array(list) = level {
        shape.push(list.len());
        level = list.first().unwrap_or(&Value::Null);
    }
    shape
}

/// Raw bytes with the port's shape; one dimension may be open.
fn raw(bytes: &[u8], datatype: Datatype, port: &Value) -> Result<(Vec<usize>, Value), String> {
    let size = datatype.size().ok_or("BYTES comes as JSON")?;
    let elements = bytes.len() / size;
    let dims: Vec<_> = port.as_array().into_iter().flatten().map(Value::as_u64).collect();
    let fixed = dims.iter().flatten().product::<u64>().max(1) as usize;
    let open = dims.iter().filter(|dim| dim.is_none()).count();
    let whole = bytes.len().is_multiple_of(size) && elements.is_multiple_of(fixed);
    if !whole || open > 1 || (open == 0 && elements != fixed) {
        return Err(format!("{} bytes do not fit {datatype} {port}; JSON states its shape", bytes.len()));
    }
    let shape = dims.iter().map(|dim| dim.map_or(elements / fixed, |dim| dim as usize)).collect();
    let tensor = crate::domain::Tensor {
        name: String::new(),
        datatype,
        shape: vec![elements as u64],
        body: bytes.to_vec().into(),
    };
    Ok((shape, crate::protocol::client::elements(&tensor)))
}

fn print(answer: &Value) {
    for output in answer["outputs"].as_array().into_iter().flatten() {
        let data: Vec<_> = output["data"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        let more = if data.len() > SHOWN { format!(", … ({} in all)", data.len()) } else { String::new() };
        let shown = data[..data.len().min(SHOWN)].join(", ");
        output::line(&format!(
            "{} {} {}: {shown}{more}",
            text(&output["name"]),
            text(&output["datatype"]),
            output["shape"]
        ));
    }
    let (provenance, timing) = (&answer["parameters"]["provenance"], &answer["parameters"]["timing_us"]);
    print_provenance(provenance, "");
    output::line(&format!(
        "{timing} µs, attempt {}, run {}",
        provenance["attempt"],
        text(&answer["parameters"]["run"])
    ));
}

/// Where it was computed, `by` whom if that is not plain.
fn print_provenance(provenance: &Value, by: &str) {
    let adapter = match &provenance["adapter"] {
        Value::Null => String::new(),
        adapter => format!(
            ", {}{}",
            if adapter["software"] == true { "software adapter " } else { "" },
            text(&adapter["description"])
        ),
    };
    output::line(&format!(
        "{by}computed by {} {} on {}{adapter}, nodes {}, verdict {}",
        text(&provenance["browser"]),
        text(&provenance["browser_version"]),
        text(&provenance["backend"]),
        provenance["placement"],
        text(&provenance["verdict"]),
    ));
    if let Some(reason) = provenance["fallback"]["reason"].as_str() {
        output::line(&format!("fallback from {}: {reason}", text(&provenance["fallback"]["wanted"])));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
