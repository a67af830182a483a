//! How far off a variant is: it and what it was made of answer the same inputs, natively.

mod perplexity;
pub mod tune;

use std::{collections::BTreeMap, sync::Arc};

use self::perplexity::perplexity;
use super::{
    Entry, GateInputs, History, ModelError, Registry,
    convert::{Made, at_precision},
    digest_of,
    gate::floats,
};
use crate::{
    backend::BackendError,
    domain::{
        Accuracy, Digest, DimBinding, FirstClass, MeasuredOn, Model, ModelName, OutputAccuracy, Tensor, Uses,
    },
    modality::Task,
    onnx::precision::{Recipe, Report},
    store::StoredVariant,
    tasks,
};

/// What exporters call scores of classes, before they are made probabilities.
const SCORES: &str = "logits";

/// Variants of variants, as far as anybody goes.
const GENERATIONS_MAX: usize = 8;

impl Registry {
    /// Makes a variant of a model, and measures how far off it is: on the order's own inputs, else on those that came
    /// with the model, else on made-up ones.
    pub async fn variant(
        &self,
        of: Arc<Entry>,
        recipe: Recipe,
        own: &GateInputs,
    ) -> Result<Made, ModelError> {
        let (data, sets) = measured_on(&of, own)?;
        let (blobs, model, name) = (self.blobs.clone(), of.model.clone(), recipe.to_string());
        let made = tokio::task::spawn_blocking(move || at_precision(&blobs, &model, &recipe)).await;
        let (mut made, report) = made.expect("a conversion does not panic")?;
        let accuracy = self.measure(&of, made.digest, (data, sets)).await?;
        let stored = stored(&of.model, &made, name, &report, accuracy.clone());
        self.store.put_variant(stored).await?;
        (made.report, made.accuracy) = (Some(report), Some(accuracy));
        Ok(made)
    }

    /// The inputs that came with the model which a file was made of; none where it is no variant or that is gone.
    pub async fn inputs_of_original(&self, variant: Digest) -> Result<GateInputs, ModelError> {
        let Some(stored) = self.store.variant(variant).await? else { return Ok(GateInputs::default()) };
        let Some(original) = self.by_digest(stored.original) else { return Ok(GateInputs::default()) };
        let Model { name, digest, .. } = &original.model;
        let kept = self.store.model_inputs(name.clone(), *digest).await?;
        let inputs = self.inputs.read(kept.as_deref())?;
        // Shapes are found anew: they are of inputs that were made up.
        Ok(GateInputs { inputs: inputs.inputs, shapes: Vec::new() })
    }

    fn by_digest(&self, digest: Digest) -> Option<Arc<Entry>> {
        let name: ModelName = digest.to_string().parse().ok()?;
        self.find(&name, None).ok()
    }

    async fn measure(
        &self,
        of: &Arc<Entry>,
        variant: Digest,
        (data, sets): (MeasuredOn, Vec<Vec<Tensor>>),
    ) -> Result<Accuracy, ModelError> {
        let reference = self.origin(of.clone()).await?;
        let wanted = self.answers(&reference, &sets).await.map_err(unanswered("what it was made of"))?;
        let candidate = Model { digest: variant, external: BTreeMap::new(), ..of.model.clone() };
        let path = self.blobs.path(variant);
        let candidate = Entry::new(candidate, path, History::default(), Uses::default());
        let got = self.answers(&candidate, &sets).await.map_err(unanswered("the variant"))?;
        let scores = scores(of).await;
        let outputs = compare(&wanted, &got, &scores);
        let mut outputs = outputs.map_err(|problem| ModelError::Accuracy { problem })?;
        for output in outputs.iter_mut().filter(|output| output.name == SCORES) {
            output.perplexity = perplexity(&sets, &wanted, &got, SCORES);
        }
        Ok(Accuracy {
            reference: reference.model.digest,
            reference_precision: reference.model.conversion.as_ref().and_then(|made| made.precision.clone()),
            data,
            inputs: digest_of(sets.iter()),
            sets: u32::try_from(sets.len()).unwrap_or(u32::MAX),
            outputs,
        })
    }

    /// The model that a variant of a variant was made of first, or the earliest that is still here.
    async fn origin(&self, mut entry: Arc<Entry>) -> Result<Arc<Entry>, ModelError> {
        for _ in 0..GENERATIONS_MAX {
            let Some(stored) = self.store.variant(entry.model.digest).await? else { break };
            let usable = |original: &Arc<Entry>| original.unusable().is_none();
            let Some(original) = self.by_digest(stored.original).filter(usable) else { break };
            entry = original;
        }
        Ok(entry)
    }

    async fn answers(&self, entry: &Entry, sets: &[Vec<Tensor>]) -> Result<Vec<Vec<Tensor>>, BackendError> {
        self.reference.with(entry, async |loaded, _| loaded.run_all(sets).await).await?
    }
}

/// The order's own inputs, else those that came with the model, else made-up ones.
fn measured_on(of: &Entry, own: &GateInputs) -> Result<(MeasuredOn, Vec<Vec<Tensor>>), ModelError> {
    let own = own.tensors().map_err(ModelError::Inputs)?;
    for inputs in &own {
        of.model.signature.bind(inputs).map_err(ModelError::Inputs)?;
    }
    Ok(if !own.is_empty() {
        (MeasuredOn::Own, own)
    } else if !of.given.is_empty() {
        (MeasuredOn::Given, of.given.clone())
    } else {
        (MeasuredOn::Seeded, of.gate_inputs(&DimBinding::new()))
    })
}

fn unanswered(who: &'static str) -> impl FnOnce(BackendError) -> ModelError {
    move |source| ModelError::Measure { who, source }
}

fn stored(of: &Model, made: &Made, recipe: String, report: &Report, accuracy: Accuracy) -> StoredVariant {
    StoredVariant {
        digest: made.digest,
        original: of.digest,
        recipe,
        original_bytes: of.whole_bytes(),
        bytes: made.bytes,
        bits_per_changed_weight: report.bits_per_changed_weight,
        bits_per_weight: report.bits_per_weight,
        accuracy,
        made_at_us: tasks::now_us(),
    }
}

/// The outputs whose last axis has a score for each class: by their name, and of what tells types of files apart.
async fn scores(entry: &Arc<Entry>) -> Vec<String> {
    let outputs = entry.model.signature.outputs.iter().map(|output| output.name.clone());
    match entry.recipe().await.map(|recipe| recipe.task()) {
        Ok(Task::FileType) => outputs.collect(),
        _ => outputs.filter(|name| name == SCORES).collect(),
    }
}

/// Compares all answers output by output; an error where they cannot be compared.
fn compare(
    wanted: &[Vec<Tensor>],
    got: &[Vec<Tensor>],
    scores: &[String],
) -> Result<Vec<OutputAccuracy>, String> {
    let names = wanted.first().into_iter().flatten().map(|output| &output.name);
    let one = |name: &String| {
        let mut sums = Sums::default();
        for (at, (wanted, got)) in wanted.iter().zip(got).enumerate() {
            let (wanted, got) = (named(wanted, name), named(got, name));
            let (Some(wanted), Some(got)) = (wanted, got) else {
                return Err(format!("{name} is missing for input {}", at + 1));
            };
            let problem = |problem: String| format!("{name} for input {}: {problem}", at + 1);
            sums.add(wanted, got, scores.contains(name)).map_err(problem)?;
        }
        Ok(sums.told(name))
    };
    names.map(one).collect()
}

fn named<'t>(outputs: &'t [Tensor], name: &str) -> Option<&'t Tensor> {
    outputs.iter().find(|output| output.name == name)
}

/// Of one output, over all inputs.
#[derive(Default)]
struct Sums {
    elements: u64,
    farthest: f64,
    largest: f64,
    /// Squares of the differences, the reference's values and the variant's, and products of both.
    errors: f64,
    wanted: f64,
    got: f64,
    products: f64,
    equal: Option<u64>,
    first_class: Option<FirstClass>,
}

impl Sums {
    fn add(&mut self, wanted: &Tensor, got: &Tensor, scores: bool) -> Result<(), String> {
        if (wanted.datatype, &wanted.shape) != (got.datatype, &got.shape) {
            let (a, b) = ((got.datatype, &got.shape), (wanted.datatype, &wanted.shape));
            return Err(format!("{}{:?} for {}{:?}", a.0, a.1, b.0, b.1));
        }
        wanted.check().and(got.check()).map_err(|error| error.to_string())?;
        if !wanted.datatype.is_float() {
            self.add_exact(wanted, got);
            return Ok(());
        }
        let classes =
            wanted.shape.last().and_then(|size| usize::try_from(*size).ok()).filter(|size| *size > 1);
        let (wanted, got) = (floats(wanted), floats(got));
        if let Some(at) = got.iter().position(|value| !value.is_finite()) {
            return Err(format!("element {at} is {} for {}", got[at], wanted[at]));
        }
        if let Some(at) = wanted.iter().position(|value| !value.is_finite()) {
            return Err(format!("element {at} of the reference is {}", wanted[at]));
        }
        self.elements += wanted.len() as u64;
        for (wanted, got) in wanted.iter().zip(&got) {
            self.farthest = self.farthest.max((wanted - got).abs());
            self.largest = self.largest.max(wanted.abs());
            self.errors += (wanted - got).powi(2);
            self.wanted += wanted.powi(2);
            self.got += got.powi(2);
            self.products += wanted * got;
        }
        if let Some(classes) = classes.filter(|_| scores) {
            let counts = self.first_class.get_or_insert(FirstClass { rows: 0, same: 0 });
            for (wanted, got) in wanted.chunks(classes).zip(got.chunks(classes)) {
                counts.rows += 1;
                counts.same += u64::from(first(wanted) == first(got));
            }
        }
        Ok(())
    }

    fn add_exact(&mut self, wanted: &Tensor, got: &Tensor) {
        let (a, b) = (wanted.body.contiguous(), got.body.contiguous());
        let elements: u64 = wanted.shape.iter().product();
        let equal = match wanted.datatype.size() {
            Some(size) => a.chunks(size).zip(b.chunks(size)).filter(|(a, b)| a == b).count() as u64,
            // Texts are equal together or not at all.
            None if a == b => elements,
            None => 0,
        };
        self.elements += elements;
        self.equal = Some(self.equal.unwrap_or(0) + equal);
    }

    fn told(self, name: &str) -> OutputAccuracy {
        let share = |part: f64, whole: f64| match (part, whole) {
            _ if self.equal.is_some() => None,
            (0.0, _) => Some(0.0),
            (_, 0.0) => None,
            (part, whole) => Some(part / whole),
        };
        let norms = (self.wanted * self.got).sqrt();
        OutputAccuracy {
            name: name.to_owned(),
            elements: self.elements,
            error: share(self.farthest, self.largest),
            rms_error: share(self.errors.sqrt(), self.wanted.sqrt()),
            cosine: (norms > 0.0).then(|| self.products / norms),
            equal: self.equal,
            first_class: self.first_class,
            perplexity: None,
        }
    }
}

/// Where the largest of the scores is; the first of several.
fn first(scores: &[f64]) -> usize {
    let better = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).fold(0, better)
}

#[cfg(test)]
mod tests;
