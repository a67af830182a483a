//! A recipe by layer within a budget of error: each layer alone in fewer bits, then as many of them together as the
//! budget bears, all measured on given inputs.

use std::{collections::BTreeMap, io::Write as _, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{compare, measured_on, scores, unanswered};
use crate::{
    domain::{Digest, MeasuredOn, Model, OutputAccuracy, Tensor, Uses},
    models::{Entry, GateInputs, History, ModelError, Registry, convert},
    onnx::precision::{self, Precision, PrecisionError, Recipe, Report},
};

/// What is wanted of a recipe.
pub struct Tuning {
    /// How far answers may be off, as a share of the largest value.
    pub error_max: f64,
    /// What layers may be made; the others stay as they are.
    pub precisions: Vec<Precision>,
}

/// What was found.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tuned {
    /// In TOML, as `models convert` takes it; none where not even one layer is within the budget.
    pub recipe: Option<String>,
    /// How far answers are off by it.
    pub error: Option<f64>,
    pub data: MeasuredOn,
    /// How many sets of inputs it was measured on.
    pub sets: usize,
    /// The layers that can be made of fewer bits, in the graph's order.
    pub layers: Vec<Layer>,
    /// Whole models that were measured: all layers in one precision, and the recipes on the way.
    pub tried: Vec<Tried>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Layer {
    pub name: String,
    pub elements: u64,
    /// What it is when nothing else is changed.
    pub alone: Vec<Alone>,
    /// As the recipe has it; none where it stays.
    #[schema(value_type = Option<String>)]
    pub chosen: Option<Precision>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Alone {
    #[schema(value_type = String)]
    pub precision: Precision,
    /// With scales and zero points.
    pub bytes: u64,
    /// How far answers are off by it.
    pub error: f64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Tried {
    pub what: String,
    /// Of the file.
    pub bytes: u64,
    pub bits_per_weight: f64,
    pub error: f64,
}

/// A layer in fewer bits than before.
#[derive(Clone, Copy)]
struct Move {
    layer: usize,
    to: usize,
}

/// The model that is tuned, and what it answers.
struct Subject<'r> {
    registry: &'r Registry,
    of: Arc<Entry>,
    file: Bytes,
    beside: Arc<BTreeMap<String, Bytes>>,
    sets: Vec<Vec<Tensor>>,
    wanted: Vec<Vec<Tensor>>,
    scores: Vec<String>,
}

impl Registry {
    /// Finds the recipe with the fewest bytes that it can whose answers are off by no more than the budget.
    pub async fn tune(&self, of: Arc<Entry>, tuning: &Tuning, own: &GateInputs) -> Result<Tuned, ModelError> {
        let (data, sets) = measured_on(&of, own)?;
        let (blobs, model) = (self.blobs.clone(), of.model.clone());
        let read = tokio::task::spawn_blocking(move || convert::whole(&blobs, &model)).await;
        let (file, beside) = read.expect("reading does not panic")?;
        let wanted = self.answers(&of, &sets).await.map_err(unanswered("the model"))?;
        let scores = scores(&of).await;
        let count = sets.len();
        let subject = Subject { registry: self, of, file, beside: Arc::new(beside), sets, wanted, scores };
        let mut tried = Vec::new();
        let mut layers = subject.layers(tuning, &mut tried).await?;
        // Too many for a recipe are refused before each is measured.
        Recipe::by_layer(layers.iter().map(|layer| (layer.name.clone(), Precision::Fp32)).collect())?;
        subject.alone(&mut layers, tuning).await?;
        let moves = moves(&layers);
        let found = subject.most(&mut layers, &moves, tuning, &mut tried).await?;
        let (recipe, error) =
            found.map_or((None, None), |(recipe, error)| (Some(recipe.to_toml()), Some(error)));
        Ok(Tuned { recipe, error, data, sets: count, layers, tried })
    }
}

impl Subject<'_> {
    /// What a recipe makes of the model, and how far that is off; none where nothing is fit for it.
    async fn try_measure(&self, recipe: Recipe) -> Result<Option<(Report, f64)>, ModelError> {
        match self.measure(recipe).await {
            Err(ModelError::Precision(PrecisionError::Nothing { .. })) => Ok(None),
            measured => measured.map(Some),
        }
    }

    async fn measure(&self, recipe: Recipe) -> Result<(Report, f64), ModelError> {
        let (file, beside) = (self.file.clone(), self.beside.clone());
        let made = tokio::task::spawn_blocking(move || {
            let variant = precision::apply(&file, &beside, &recipe)?;
            let unwritten = |source| ModelError::Keep { path: "a temporary file".into(), source };
            let mut lying = tempfile::NamedTempFile::new().map_err(unwritten)?;
            lying.write_all(&variant.bytes).map_err(unwritten)?;
            Ok::<_, ModelError>((variant, lying))
        });
        let (variant, lying) = made.await.expect("a conversion does not panic")?;
        let model = Model {
            digest: Digest::new(Sha256::digest(&variant.bytes).into()),
            external: BTreeMap::new(),
            ..self.of.model.clone()
        };
        let entry = Entry::new(model, lying.path().to_owned(), History::default(), Uses::default());
        let got = self.registry.answers(&entry, &self.sets).await.map_err(unanswered("the variant"))?;
        let outputs = compare(&self.wanted, &got, &self.scores);
        let outputs = outputs.map_err(|problem| ModelError::Accuracy { problem })?;
        Ok((variant.report, outputs.iter().map(off).fold(0.0, f64::max)))
    }

    /// The layers that any of the precisions is for, by making all of them in each.
    async fn layers(&self, tuning: &Tuning, tried: &mut Vec<Tried>) -> Result<Vec<Layer>, ModelError> {
        let mut layers: Vec<Layer> = Vec::new();
        for precision in &tuning.precisions {
            let Some((report, error)) = self.try_measure(Recipe::of_all(*precision)).await? else { continue };
            tried.push(Tried::of(&format!("all {precision}"), &report, error));
            for changed in report.changed {
                if !layers.iter().any(|layer| layer.name == changed.name) {
                    let (name, elements) = (changed.name, changed.elements);
                    layers.push(Layer { name, elements, alone: Vec::new(), chosen: None });
                }
            }
        }
        Ok(layers)
    }

    /// Measures each layer in each precision when nothing else is changed.
    async fn alone(&self, layers: &mut [Layer], tuning: &Tuning) -> Result<(), ModelError> {
        for layer in layers {
            for precision in &tuning.precisions {
                let recipe = Recipe::by_layer(vec![(layer.name.clone(), *precision)])?;
                let Some((report, error)) = self.try_measure(recipe).await? else { continue };
                let bytes = report.changed.iter().map(|changed| changed.bytes).sum();
                layer.alone.push(Alone { precision: *precision, bytes, error });
            }
        }
        Ok(())
    }

    /// As many of the moves, from the first on, as the budget bears when they are measured together.
    async fn most(
        &self,
        layers: &mut [Layer],
        moves: &[Move],
        tuning: &Tuning,
        tried: &mut Vec<Tried>,
    ) -> Result<Option<(Recipe, f64)>, ModelError> {
        let mut found = None;
        let (mut within, mut beyond) = (0, moves.len() + 1);
        while within + 1 < beyond {
            let count = usize::midpoint(within, beyond);
            let recipe = Recipe::by_layer(made(layers, &moves[..count]))?;
            let (report, error) = self.measure(recipe.clone()).await?;
            tried.push(Tried::of(&format!("{} layers", report.changed.len()), &report, error));
            if error <= tuning.error_max {
                (within, found) = (count, Some((recipe, error)));
            } else {
                beyond = count;
            }
        }
        for Move { layer, to } in &moves[..within] {
            layers[*layer].chosen = Some(layers[*layer].alone[*to].precision);
        }
        Ok(found)
    }
}

impl Tried {
    fn of(what: &str, report: &Report, error: f64) -> Self {
        let Report { bytes_after: bytes, bits_per_weight, .. } = *report;
        Self { what: what.to_owned(), bytes, bits_per_weight, error }
    }
}

/// How far an output is off; of whole numbers, how many are others.
fn off(output: &OutputAccuracy) -> f64 {
    match (output.error, output.equal) {
        (Some(error), _) => error,
        (None, Some(equal)) => 1.0 - equal as f64 / output.elements.max(1) as f64,
        // Where zeros are wanted something else came.
        (None, None) => 1.0,
    }
}

/// Layers in fewer and fewer bits, those first that save the most bytes for what they add to the error, as if errors of
/// layers were independent of each other.
fn moves(layers: &[Layer]) -> Vec<Move> {
    let mut at: Vec<Option<usize>> = vec![None; layers.len()];
    let mut moves = Vec::new();
    let cost = |layer: &Layer, from: Option<usize>, to: usize| {
        let (bytes, error) =
            from.map_or((layer.elements * 4, 0.0), |from| (layer.alone[from].bytes, layer.alone[from].error));
        let saved = bytes.checked_sub(layer.alone[to].bytes).filter(|saved| *saved > 0)?;
        Some((layer.alone[to].error.powi(2) - error.powi(2)) / saved as f64)
    };
    loop {
        let all = layers.iter().enumerate().flat_map(|(layer, of)| {
            let from = at[layer];
            (0..of.alone.len()).filter_map(move |to| Some((cost(of, from, to)?, Move { layer, to })))
        });
        let Some((_, next)) = all.min_by(|one, other| one.0.total_cmp(&other.0)) else { return moves };
        at[next.layer] = Some(next.to);
        moves.push(next);
    }
}

/// What each layer is after these moves.
fn made(layers: &[Layer], moves: &[Move]) -> Vec<(String, Precision)> {
    let last: BTreeMap<usize, usize> = moves.iter().map(|Move { layer, to }| (*layer, *to)).collect();
    last.into_iter()
        .map(|(layer, to)| (layers[layer].name.clone(), layers[layer].alone[to].precision))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::precision::Bits;

    fn blocks(bits: Bits) -> Precision {
        Precision::Blocks { bits, block: 32, symmetric: true }
    }

    fn layer(name: &str, elements: u64, errors: [f64; 2]) -> Layer {
        let alone = [(Bits::Eight, elements * 9 / 8), (Bits::Four, elements * 5 / 8)].into_iter().zip(errors);
        let alone = alone.map(|((bits, bytes), error)| Alone { precision: blocks(bits), bytes, error });
        Layer { name: name.to_owned(), elements, alone: alone.collect(), chosen: None }
    }

    #[test]
    fn what_costs_least_for_what_it_saves_comes_first() {
        let layers = [
            layer("small", 800, [1e-3, 0.1]),
            layer("large", 8000, [1e-3, 0.02]),
            layer("odd", 800, [0.5, 0.4]),
        ];
        let order: Vec<(&str, Precision)> = moves(&layers)
            .into_iter()
            .map(|Move { layer, to }| (layers[layer].name.as_str(), layers[layer].alone[to].precision))
            .collect();
        let wanted = [
            ("large", blocks(Bits::Eight)),
            ("small", blocks(Bits::Eight)),
            ("large", blocks(Bits::Four)),
            ("small", blocks(Bits::Four)),
            // Eight bits are worse here, and larger.
            ("odd", blocks(Bits::Four)),
        ];
        assert_eq!(order, wanted);
        let both = made(&layers, &moves(&layers)[..3]);
        let wanted = [("small".to_owned(), blocks(Bits::Eight)), ("large".to_owned(), blocks(Bits::Four))];
        assert_eq!(both, wanted);
    }
}
