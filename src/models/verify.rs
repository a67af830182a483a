//! Tries a model's file, stage by stage, before it may serve: digest, structure, load, run, finite, repeatable, batching.
//!
//! Each stage is noted with its time and what was seen; the first that fails is the last.
//! It keeps nothing and names nothing: that is the registry's.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Blobs, Entry, ModelError, Reference, blobs::Soundness, entry::SEED, gate, reference::Loaded};
use crate::{
    domain::{Digest, DimBinding, Port, StageKind, Tensor, Verification},
    onnx::{self, Analysis, OnnxError, Total},
};

/// Why the requests of most models cannot be joined.
const NO_BATCH_AXIS: &str = "its inputs and outputs do not all begin with one dimension that requests choose";

/// Operators that take one scale for all that comes in one step: how exactly one request is answered depends on the
/// others, however near the answers to the inputs of a proof may be.
const ONE_SCALE: [&str; 3] = ["DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"];

/// What is in a file.
pub(super) struct Contents {
    pub(super) bytes: u64,
    pub(super) analysis: Analysis,
    pub(super) cost: Total,
}

/// Opens a file, whatever its digest. Blocks for as long as the disk takes.
fn open(path: &Path) -> Result<Contents, OnnxError> {
    let (file, analysis) = onnx::open_whole(path)?;
    let cost = onnx::costs(&file)?.total();
    Ok(Contents { bytes: file.len() as u64, analysis, cost })
}

/// What the runs have shown.
pub(super) struct Proven {
    pub(super) shapes: Vec<Vec<u64>>,
    /// Why requests may not share a step.
    pub(super) barred: Option<String>,
}

/// Reads a model's files, the first of which is its own, and which are to be of these digests.
pub(super) async fn read(
    blobs: &Blobs,
    files: &[Digest],
    log: &mut Verification,
) -> Result<Contents, ModelError> {
    let path = blobs.path(*files.first().expect("a model has a file"));
    let (blobs, files) = (blobs.clone(), files.to_vec());
    let (same, took) = blocking(move || unchanged(&blobs, &files)).await;
    noted(log, StageKind::Digest, took, same.map(|detail| ((), detail)))?;
    let (opened, took) = blocking(move || Ok(open(&path)?)).await;
    let seen = opened.map(|contents| {
        let analysis = &contents.analysis;
        let nodes: u64 = analysis.operators.values().sum();
        let detail =
            format!("{nodes} nodes of {} operators, version {}", analysis.operators.len(), analysis.opset);
        (contents, detail)
    });
    noted(log, StageKind::Structure, took, seen)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> (Result<T, ModelError>, Duration) {
    let begun = Instant::now();
    let done = tokio::task::spawn_blocking(work).await;
    (done.expect("reading a file does not panic"), begun.elapsed())
}

/// How much there is, when every file is what its digest says.
fn unchanged(blobs: &Blobs, files: &[Digest]) -> Result<String, ModelError> {
    let mut all = 0;
    for digest in files {
        match blobs.check(*digest)? {
            Soundness::Whole => all += blobs.bytes(*digest)?,
            Soundness::Absent => return Err(ModelError::Gone { digest: *digest }),
            Soundness::Damaged(found) => return Err(ModelError::Changed { digest: *digest, found }),
        }
    }
    let beside = if files.len() > 1 { format!(" in {} files", files.len()) } else { String::new() };
    Ok(format!("{all} bytes{beside}"))
}

/// Loads the model natively and runs it on the inputs that it is judged by.
pub(super) async fn run(
    reference: &Reference,
    entry: &Entry,
    analysis: &Analysis,
    log: &mut Verification,
) -> Result<Proven, ModelError> {
    let begun = Instant::now();
    let tried = reference
        .with(entry, async |loaded, load_us| {
            let detail = "native ONNX Runtime takes it".to_owned();
            log.note(StageKind::Load, Duration::from_micros(load_us), Ok(detail));
            trials(entry, analysis, loaded, log).await
        })
        .await;
    match tried {
        Ok(proven) => proven,
        // A load that fails, or runs that take too long.
        Err(error) => {
            let loaded = log.stages.iter().any(|stage| stage.stage == StageKind::Load);
            let (stage, error) = if loaded {
                (StageKind::Run, ModelError::Run(error))
            } else {
                (StageKind::Load, ModelError::Load(error))
            };
            noted(log, stage, begun.elapsed(), Err(error))
        }
    }
}

async fn trials(
    entry: &Entry,
    analysis: &Analysis,
    loaded: &Loaded<'_>,
    log: &mut Verification,
) -> Result<Proven, ModelError> {
    let begun = Instant::now();
    let ran = answers(entry, loaded).await.map(|answers| {
        let (given, all) = (entry.given.len(), answers.sets.len());
        let detail = format!("{all} inputs: {given} given, {} made up", all.saturating_sub(given));
        (answers, detail)
    });
    let Answers { shapes, sets, outputs } = noted(log, StageKind::Run, begun.elapsed(), ran)?;

    let begun = Instant::now();
    let finite = finite(&outputs, entry.given.len()).map(|tensors| ((), format!("{tensors} outputs")));
    noted(log, StageKind::Finite, begun.elapsed(), finite)?;

    let begun = Instant::now();
    let again = loaded.run(sets[0].clone()).await.map_err(ModelError::Run).and_then(|again| {
        let differ = ModelError::Outputs { problem: "two runs on the same inputs differ".to_owned() };
        if again == outputs[0] { Ok(((), "two runs are equal".to_owned())) } else { Err(differ) }
    });
    noted(log, StageKind::Repeatable, begun.elapsed(), again)?;

    let begun = Instant::now();
    let barred = match one_scale(analysis) {
        Some(reason) => Some(reason),
        None => barred(entry, loaded, &sets, &outputs).await,
    };
    let shared = "requests in one step are answered as each alone".to_owned();
    let detail = barred.clone().unwrap_or(shared);
    log.note(StageKind::Batching, begun.elapsed(), Ok(detail));
    Ok(Proven { shapes, barred })
}

struct Answers {
    shapes: Vec<Vec<u64>>,
    sets: Vec<Vec<Tensor>>,
    outputs: Vec<Vec<Tensor>>,
}

async fn answers(entry: &Entry, loaded: &Loaded<'_>) -> Result<Answers, ModelError> {
    let shapes = known_shapes(entry, loaded).await?;
    let sets = entry.inputs_of(&shapes, &DimBinding::new());
    let outputs = loaded.run_all(&sets).await.map_err(ModelError::Run)?;
    Ok(Answers { shapes, sets, outputs })
}

/// Shapes of the given inputs; without any, the first candidates that the model accepts.
async fn known_shapes(entry: &Entry, loaded: &Loaded<'_>) -> Result<Vec<Vec<u64>>, ModelError> {
    let signature = &entry.model.signature;
    if let Some(inputs) = entry.given.first() {
        let shape = |port: &Port| {
            let tensor = inputs.iter().find(|tensor| tensor.name == port.name);
            tensor.expect("bind found every input").shape.clone()
        };
        return Ok(signature.inputs.iter().map(shape).collect());
    }
    let mut refused = None;
    for shapes in gate::shape_candidates(signature) {
        let inputs = gate::seeded(signature, entry.ranges(), &shapes, SEED, 1).swap_remove(0);
        match loaded.run(inputs).await {
            Ok(_) => return Ok(shapes),
            Err(error) => refused = refused.or(Some(ModelError::Run(error))),
        }
    }
    let problem = "its inputs are too large to make any up; add it with inputs".to_owned();
    Err(refused.unwrap_or(ModelError::Outputs { problem }))
}

/// Counts the outputs, none of which may hold anything but finite numbers; the first so many answers are to given inputs.
fn finite(answers: &[Vec<Tensor>], given: usize) -> Result<usize, ModelError> {
    for (at, outputs) in answers.iter().enumerate() {
        for output in outputs {
            let Some(odd) = gate::not_finite(output) else { continue };
            let of = if at < given {
                "was given with it".to_owned()
            } else {
                "was made up; add it with inputs that it is meant for".to_owned()
            };
            let problem = format!("{:?} is {odd} for input {}, which {of}", output.name, at + 1);
            return Err(ModelError::Outputs { problem });
        }
    }
    Ok(answers.iter().map(Vec::len).sum())
}

/// Why requests may not share a step whatever a proof shows.
fn one_scale(analysis: &Analysis) -> Option<String> {
    let name = |operator: &String| operator.rsplit('.').next().map(str::to_owned);
    let mut names = analysis.operators.keys().filter_map(name);
    let operator = names.find(|name| ONE_SCALE.contains(&name.as_str()))?;
    Some(format!(
        "{operator} takes one scale for a whole step, so that an answer depends on what it shares the step with"
    ))
}

/// Why requests of this model may not share a step; nothing once a shared one gave what each gave alone.
async fn barred(
    entry: &Entry,
    loaded: &Loaded<'_>,
    sets: &[Vec<Tensor>],
    outputs: &[Vec<Tensor>],
) -> Option<String> {
    let Some(alike) = gate::alike(&entry.model.signature, sets) else {
        return Some(NO_BATCH_AXIS.to_owned());
    };
    let pick = |from: &[Vec<Tensor>]| alike.iter().map(|at| from[*at].clone()).collect::<Vec<_>>();
    let (sets, alone) = (pick(sets), pick(outputs));
    match loaded.run_joined(&sets).await {
        Ok(shared) => {
            let barred = gate::shared_barred(&sets, &alone, &shared, entry.model.tolerance);
            barred.map(|detail| format!("requests in one step are not answered as they are alone: {detail}"))
        }
        Err(error) => Some(format!("a shared step fails: {error}")),
    }
}

/// Notes how a stage ended.
fn noted<T>(
    log: &mut Verification,
    stage: StageKind,
    took: Duration,
    outcome: Result<(T, String), ModelError>,
) -> Result<T, ModelError> {
    match outcome {
        Ok((value, detail)) => {
            log.note(stage, took, Ok(detail));
            Ok(value)
        }
        Err(error) => {
            log.note(stage, took, Err(error.to_string()));
            Err(error)
        }
    }
}
