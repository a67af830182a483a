//! Converters of others, for weights that weft's own refuses by their architecture: `optimum-cli`, else PyTorch.
//!
//! Off unless the owner of the daemon wants it: a program of somebody else's then reads files that come from anywhere,
//! with the daemon's rights.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

use super::{
    Blobs, Entry, GateInputs, History, ModelError, Registry,
    convert::{Made, Weights},
    gate::compare,
};
use crate::{
    domain::{Batching, Digest, Model, ModelKind, Tolerance, Uses, VerdictStatus},
    driver::{
        errand::{Errand, ErrandError, Workshop},
        ledger::RunDir,
        recipe::on_path,
    },
    onnx::{self, convert::ConvertError},
    protocol::client::TensorJson,
    tasks::Tasks,
};

/// Exporting a model of a gigabyte takes minutes.
const WITHIN: Duration = Duration::from_secs(600);

/// Importing PyTorch does not.
const LOOK_WITHIN: Duration = Duration::from_secs(60);

/// Graphs of one model: more than any task has.
const PARTS_MAX: usize = 16;

const SCRIPT: &str = include_str!("export.py");
const CONFIG: &str = "config.json";

/// What optimum calls that which a class of `transformers` does, by how its name ends.
const TASKS: [(&str, &str); 12] = [
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForMaskedLM", "fill-mask"),
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForImageClassification", "image-classification"),
    ("ForObjectDetection", "object-detection"),
    ("ForSemanticSegmentation", "semantic-segmentation"),
    ("ForAudioClassification", "audio-classification"),
    ("ForCTC", "automatic-speech-recognition"),
    ("Model", "feature-extraction"),
];

#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    #[error(
        "{refused}; with `python = true` in [models] the daemon has optimum or PyTorch of this machine convert others"
    )]
    Off { refused: ConvertError },
    #[error(
        "{refused}, and neither optimum-cli nor a python3 with torch and transformers is on the daemon's PATH"
    )]
    Absent { refused: ConvertError },
    #[error("{refused}, and {file} is not given to other converters: only safetensors are")]
    Format { refused: ConvertError, file: String },
    #[error("{refused}, and optimum has no task for the class {class:?} that its config.json names")]
    Task { refused: ConvertError, class: String },
    #[error("{refused}, and another converter could not: {source}")]
    Errand { refused: ConvertError, source: ErrandError },
    #[error("{refused}, and what {converter} made is no model of it: {problem}")]
    Result { refused: ConvertError, converter: String, problem: String },
}

/// Whether others are asked, and where they work.
pub struct Foreign {
    pub wanted: bool,
    /// Where programs are searched.
    pub path: OsString,
    pub run: Arc<RunDir>,
    pub tasks: Tasks,
}

/// What `export.py` says of its work.
#[derive(Deserialize)]
struct Check {
    converter: String,
    inputs: Vec<BTreeMap<String, TensorJson>>,
    outputs: Vec<BTreeMap<String, TensorJson>>,
}

/// What is known of `config.json` here.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architectures: Vec<String>,
}

impl Foreign {
    /// Has another converter make a model of weights whose architecture `refused` names.
    pub async fn convert(
        &self,
        registry: &Registry,
        weights: Weights,
        architecture: String,
    ) -> Result<Vec<Made>, ModelError> {
        let refused = || ConvertError::Architecture { name: architecture.clone() };
        if !self.wanted {
            return Err(ForeignError::Off { refused: refused() }.into());
        }
        let file = weights.file.to_ascii_lowercase();
        if !file.ends_with(".safetensors") && !file.ends_with(".safetensors.index.json") {
            return Err(ForeignError::Format { refused: refused(), file: weights.file }.into());
        }
        let keep = |source| ModelError::Keep { path: self.run.path().to_owned(), source };
        let workshop = Arc::new(Workshop::open(&self.run, &self.tasks).map_err(keep)?);
        let (blobs, folder) = (registry.blobs.clone(), workshop.folder().to_owned());
        let laid = tokio::task::spawn_blocking(move || lay_out(&blobs, weights, &folder)).await;
        let (weights, class) = laid.expect("copying does not panic")?;
        let errand = |source| ForeignError::Errand { refused: refused(), source };
        let (converter, check) = if let Some(program) = on_path("optimum-cli", &self.path) {
            let task = TASKS.iter().find(|(end, _)| class.ends_with(end)).map(|(_, task)| *task);
            let task = task.ok_or_else(|| ForeignError::Task { refused: refused(), class })?;
            (optimum(&workshop, program, task).await.map_err(errand)?, None)
        } else if let Some(program) = python(&workshop, &self.path).await {
            let check = torch(&workshop, program).await.map_err(errand)?;
            let wrong = |problem: String| ForeignError::Result {
                refused: refused(),
                converter: "torch.onnx.export".to_owned(),
                problem,
            };
            let check: Check = serde_json::from_str(&check).map_err(|error| wrong(error.to_string()))?;
            (check.converter.clone(), Some(check))
        } else {
            return Err(ForeignError::Absent { refused: refused() }.into());
        };
        let wrong =
            |problem| ForeignError::Result { refused: refused(), converter: converter.clone(), problem };
        if let Some(check) = check {
            let model = workshop.folder().join("made/model.onnx");
            registry.same_answers(model, check).await.map_err(wrong)?;
        }
        let (blobs, folder) = (registry.blobs.clone(), workshop.folder().join("made"));
        let (architecture, exporter) = (architecture.clone(), converter.clone());
        let taken = tokio::task::spawn_blocking(move || {
            take(&blobs, &folder, &weights.files, &architecture, &exporter)
        });
        let made = taken.await.expect("reading files does not panic")?;
        if made.is_empty() {
            return Err(wrong("it wrote no ONNX file".to_owned()).into());
        }
        Ok(made)
    }
}

/// Copies of the model's files: what reads them may write, too. Answers with the class that its configuration names.
fn lay_out(blobs: &Blobs, weights: Weights, folder: &Path) -> Result<(Weights, String), ModelError> {
    let keep = |source| ModelError::Keep { path: folder.to_owned(), source };
    let model = folder.join("model");
    for folder in [&model, &folder.join("made")] {
        std::fs::create_dir_all(folder).map_err(keep)?;
    }
    let own = [(&weights.file, &weights.digest)];
    for (name, digest) in own.into_iter().chain(&weights.files) {
        if !blobs.has(*digest) {
            return Err(ModelError::NoFile { digest: *digest });
        }
        super::files::plain_path(name)?;
        let path = model.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&model)).map_err(keep)?;
        std::fs::copy(blobs.path(*digest), &path).map_err(keep)?;
    }
    std::fs::write(folder.join("export.py"), SCRIPT).map_err(keep)?;
    let config = std::fs::read(model.join(CONFIG)).map_err(|_| ModelError::NoConfig)?;
    let config: Config =
        serde_json::from_slice(&config).map_err(|source| ConvertError::ConfigJson { source })?;
    Ok((weights, config.architectures.into_iter().next().unwrap_or_else(|| "AutoModel".to_owned())))
}

fn errand(program: PathBuf, arguments: Vec<OsString>, within: Duration) -> Errand {
    let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"];
    let variables = offline.map(|name| (name, "1".into())).to_vec();
    Errand { program, arguments, variables, within }
}

/// Answers with its name and version.
async fn optimum(workshop: &Arc<Workshop>, program: PathBuf, task: &str) -> Result<String, ErrandError> {
    let told = workshop.run(errand(program.clone(), vec!["env".into()], LOOK_WITHIN)).await?;
    let version = told.stdout.lines().find_map(|line| line.split_once("`optimum` version:"));
    let version = version.map_or("of an unknown version", |(_, version)| version.trim()).to_owned();
    let (model, made) = (workshop.folder().join("model"), workshop.folder().join("made"));
    let words = ["export", "onnx", "--model"].map(OsString::from);
    let rest = ["--task".into(), task.into(), "--framework".into(), "pt".into(), made.into_os_string()];
    let arguments = words.into_iter().chain([model.into_os_string()]).chain(rest).collect();
    workshop.run(errand(program, arguments, WITHIN)).await?;
    Ok(format!("optimum {version}"))
}

/// A Python that has what the script needs.
async fn python(workshop: &Arc<Workshop>, path: &OsStr) -> Option<PathBuf> {
    let program = on_path("python3", path)?;
    let arguments = ["-I", "-c", "import torch, transformers"].map(OsString::from).to_vec();
    workshop.run(errand(program.clone(), arguments, LOOK_WITHIN)).await.ok().map(|_| program)
}

/// Answers with what PyTorch says of its work.
async fn torch(workshop: &Arc<Workshop>, program: PathBuf) -> Result<String, ErrandError> {
    let folder = workshop.folder();
    let (script, model, made) = (folder.join("export.py"), folder.join("model"), folder.join("made"));
    let arguments = ["-I".into(), script.into(), model.into(), made.clone().into()].to_vec();
    let name = program.display().to_string();
    workshop.run(errand(program, arguments, WITHIN)).await?;
    let check = tokio::fs::read_to_string(made.join("check.json")).await;
    check.map_err(|source| ErrandError::Start { program: name, source })
}

/// Takes the graphs that were written, with the files of their weights, among the blobs.
fn take(
    blobs: &Blobs,
    folder: &Path,
    companions: &BTreeMap<String, Digest>,
    architecture: &str,
    exporter: &str,
) -> Result<Vec<Made>, ModelError> {
    let keep = |source| ModelError::Keep { path: folder.to_owned(), source };
    let mut graphs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(keep)? {
        let path = entry.map_err(keep)?.path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            graphs.push(path);
        }
    }
    graphs.sort();
    let one = |path: &PathBuf| {
        let part = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        // A link would lead anywhere.
        if !path.symlink_metadata().map_err(keep)?.is_file() {
            return Err(ModelError::Files { problem: format!("{} is no file", path.display()) });
        }
        let (bytes, analysis) = onnx::open_whole(path)?;
        let mut files: BTreeMap<_, _> = companions.clone();
        files.retain(|name, _| !super::source::is_weights(name));
        for name in analysis.external {
            let beside = folder.join(&name);
            files.insert(name, blobs.adopt(&beside, Blobs::weigh(&beside)?)?.digest);
        }
        let notes = [
            ("architecture", architecture),
            ("part", part.as_str()),
            ("converter", onnx::CONVERTER),
            ("exporter", exporter),
        ];
        let upload = blobs.put(&onnx::annotate(&bytes, &notes)?)?;
        let (digest, bytes, kind) = (upload.digest, upload.bytes, ModelKind::default());
        Ok(Made { part, kind, digest, bytes, files, report: None, accuracy: None })
    };
    graphs.iter().take(PARTS_MAX).map(one).collect()
}

impl Registry {
    /// Whether a file answers natively what another program answered with the same weights; else how it does not.
    async fn same_answers(&self, path: PathBuf, check: Check) -> Result<(), String> {
        let (file, analysis) = onnx::open_whole(&path).map_err(|error| error.to_string())?;
        let model = Model {
            name: "export".parse().expect("a name"),
            digest: super::digest_of(std::iter::empty()),
            bytes: file.len() as u64,
            signature: analysis.signature,
            tolerance: Tolerance::FP32,
            source: String::new(),
            revision: None,
            licence: None,
            opset: analysis.opset,
            kind: ModelKind::default(),
            batching: Batching::barred("it is not served"),
            external: BTreeMap::new(),
            companions: BTreeMap::new(),
            conversion: None,
        };
        let tensors = |inputs| {
            let sets = GateInputs { inputs, shapes: Vec::new() };
            sets.tensors().map_err(|failure| failure.message)
        };
        let (inputs, expected) = (tensors(check.inputs)?, tensors(check.outputs)?);
        if inputs.is_empty() || inputs.len() != expected.len() {
            return Err("it told nothing to compare with".to_owned());
        }
        let entry = Entry::new(model, path, History::default(), Uses::default());
        let answers = self.reference.with(&entry, async |loaded, _| loaded.run_all(&inputs).await).await;
        let answers = answers.and_then(|answers| answers).map_err(|error| error.to_string())?;
        let verdict = compare(&expected, &answers, Tolerance::FP32);
        if verdict.status == VerdictStatus::Mismatch {
            return Err(format!("it does not answer what PyTorch does: {}", verdict.detail));
        }
        Ok(())
    }
}
