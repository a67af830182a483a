//! The format's own checker, and ONNX Runtime's Python package, on every kind of graph that weft writes: from
//! checkpoints and GGUF files, with weights in the file and beside it, in every precision, and cut.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::process::Command;
use weft::{
    domain::{Datatype, Digest, Tensor},
    onnx::{
        self,
        convert::{checkpoint::GgufCheckpoint, checkpoint::safetensors::Safetensors, convert},
        cut::Whole,
        precision::{Recipe, apply},
    },
};

use crate::{
    FOLDER,
    checkpoints::{FAMILIES, Original, cases, committed, complete, values, written},
    conversion::{load, load_bytes},
    python, run,
};

const RECIPES: [&str; 5] = ["fp16", "int8-dynamic", "int8", "int4", "int2"];
/// Tried on one family, beside those of all.
const MORE: [&str; 4] =
    ["int8,block=16,asymmetric", "int4,block=16,asymmetric", "int2,block=16,asymmetric", "int4,block=128"];

type Cases = Vec<(Vec<Tensor>, Vec<Tensor>)>;

fn told(tensor: &Tensor) -> Value {
    let bytes = tensor.body.contiguous();
    let data = match tensor.datatype {
        Datatype::Fp32 => json!(values(tensor)),
        Datatype::Int64 => {
            let numbers = bytes.as_chunks::<8>().0.iter().map(|number| i64::from_le_bytes(*number));
            json!(numbers.collect::<Vec<_>>())
        }
        other => panic!("{} is of {other}", tensor.name),
    };
    json!({"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "data": data})
}

/// What the checker is given: graphs, and for each what weft's native lane answers.
struct Given {
    folder: tempfile::TempDir,
}

impl Given {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.onnx"))
    }

    async fn file(&self, name: &str, file: &[u8], inputs: &[Vec<Tensor>]) -> Cases {
        fs::write(self.path(name), file).unwrap();
        self.answered(name, file, inputs).await
    }

    /// The graph is there already; `whole` tells its signature.
    async fn answered(&self, name: &str, whole: &[u8], inputs: &[Vec<Tensor>]) -> Cases {
        let analysis = onnx::analyse(&Bytes::copy_from_slice(whole)).unwrap();
        let loaded = load(self.path(name), analysis).await;
        let mut cases = Vec::new();
        for inputs in inputs {
            cases.push((inputs.clone(), loaded.run(inputs.clone()).await));
        }
        let all = |tensors: &[Tensor]| tensors.iter().map(told).collect::<Vec<_>>();
        let said: Vec<_> = cases
            .iter()
            .map(|(inputs, outputs)| json!({"inputs": all(inputs), "outputs": all(outputs)}))
            .collect();
        fs::write(self.path(name).with_extension("json"), json!(said).to_string()).unwrap();
        cases
    }

    /// The variants of a graph that its weights allow.
    async fn variants(&self, name: &str, file: &[u8], inputs: &[Vec<Tensor>], recipes: &[&str]) {
        for recipe in recipes {
            let made =
                apply(&Bytes::copy_from_slice(file), &BTreeMap::new(), &Recipe::parse(recipe).unwrap());
            let made = made.unwrap_or_else(|error| panic!("{name} {recipe}: {error}"));
            self.file(&format!("{name}-{recipe}"), &made.bytes, inputs).await;
        }
    }

    /// With its weights in a file beside it.
    async fn beside(&self, name: &str, part: &onnx::convert::Part<'_>, inputs: &[Vec<Tensor>]) {
        let name = format!("{name}-beside");
        let weights = format!("{name}.weights");
        let mut graph = File::create(self.path(&name)).unwrap();
        let mut data = File::create(self.folder.path().join(&weights)).unwrap();
        part.write_external(&mut graph, &mut data, &weights).unwrap();
        self.answered(&name, &written(part), inputs).await;
    }

    /// Two shards, cut in the middle, and those of products split in two ways.
    async fn shards(&self, name: &str, file: &[u8], inputs: &[Tensor]) {
        let (file, digest) = (Bytes::copy_from_slice(file), Digest::new([7; 32]));
        let sizes = onnx::analyse(&file).unwrap().signature.bind(inputs).unwrap();
        let whole = Whole::read(&file, digest, &sizes).unwrap();
        let split = Whole::read_split(&file, digest, &sizes, 2).unwrap();
        for (how, whole) in [("cut", &whole), ("split", &split)] {
            let middle = whole.chain().units.len() / 2;
            let mut values: BTreeMap<_, _> =
                inputs.iter().map(|input| (input.name.clone(), input.clone())).collect();
            for (at, shard) in whole.at(&[middle]).unwrap().iter().enumerate() {
                let taken: Vec<_> = shard.inputs().map(|name| values[name].clone()).collect();
                let cases = self.file(&format!("{name}-{how}-{at}"), &shard.bytes(), &[taken]).await;
                let (_, outputs) = &cases[0];
                values.extend(outputs.iter().map(|output| (output.name.clone(), output.clone())));
            }
        }
    }

    async fn family(&self, family: &str) {
        let original = Original::read(family);
        let mut encoded = Vec::new();
        for part in original.parts() {
            let (name, file) = (format!("{family}-{}", part.name), written(&part));
            let loaded = load_bytes(file.clone()).await;
            let signature = &loaded.analysis.signature;
            let cases = original.cases(part.name).into_values();
            let inputs: Vec<_> = cases.map(|(inputs, _)| complete(signature, inputs, &encoded)).collect();
            let answered = self.file(&name, &file, &inputs).await;
            self.beside(&name, &part, &inputs).await;
            self.variants(&name, &file, &inputs, &RECIPES).await;
            if family == "bert" {
                self.variants(&name, &file, &inputs, &MORE).await;
                self.shards(&name, &file, &inputs[0]).await;
            }
            if part.name == "encoder" {
                // The case that its decoder goes on from is the last by name.
                encoded.clone_from(&answered.last().unwrap().1);
            }
        }
    }

    async fn gguf(&self, file: &str) {
        let checkpoint = GgufCheckpoint::open(&committed("gguf/models", &format!("{file}.gguf"))).unwrap();
        let stored = Safetensors::new(&committed("gguf/models", &format!("{file}.safetensors"))).unwrap();
        for part in convert(checkpoint.config().as_bytes(), &checkpoint).unwrap() {
            let graph = written(&part);
            let signature = onnx::analyse(&Bytes::copy_from_slice(&graph)).unwrap().signature;
            let inputs = cases(&stored, part.name).into_values();
            let inputs: Vec<_> = inputs.map(|(inputs, _)| complete(&signature, inputs, &[])).collect();
            self.file(&format!("{file}-gguf"), &graph, &inputs).await;
        }
    }
}

#[tokio::test]
async fn what_weft_writes_passes_the_formats_checker_and_answers_elsewhere_as_here() {
    let Some(python) = python() else { return };
    let given = Given { folder: tempfile::tempdir().unwrap() };
    for family in FAMILIES {
        given.family(family).await;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints/gguf/models");
    let names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    for file in names.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")) {
        given.gguf(file.file_stem().unwrap().to_str().unwrap()).await;
    }
    let said = run(&python, "checker.py", &[given.folder.path().to_str().unwrap()]).await;
    eprint!("{said}");
    let (counted, _) = said.split_once(';').unwrap();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/conformance.md")).unwrap();
    assert!(page.contains(counted), "docs/conformance.md does not say {counted}");

    // One number that is off by a thousandth is seen.
    let altered = tempfile::tempdir().unwrap();
    let within = |name: &str| altered.path().join(name);
    fs::copy(given.path("bert-model"), within("bert-model.onnx")).unwrap();
    let said = fs::read(given.path("bert-model").with_extension("json")).unwrap();
    let mut said: Value = serde_json::from_slice(&said).unwrap();
    let data = said[0]["outputs"][0]["data"].as_array_mut().unwrap();
    let largest = data.iter().map(|value| value.as_f64().unwrap().abs()).fold(0.0, f64::max);
    data[0] = json!(data[0].as_f64().unwrap() + largest / 1e3);
    fs::write(within("bert-model.json"), said.to_string()).unwrap();
    let script = Command::new(&python).arg(format!("{FOLDER}/checker.py")).arg(altered.path()).output();
    let told = script.await.unwrap().stderr;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("AssertionError: bert-model.onnx: 1.0e-03"), "{told}");
}
