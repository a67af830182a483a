//! Scores as labels: what a classifier's `config.json` calls its classes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Companions, Label, ModalityError, companions::CONFIG};
use crate::domain::{Dim, Signature};

/// Labels that an answer tells, of which the first is what was asked for.
const TOLD: usize = 5;

#[derive(Debug)]
pub(super) struct Labels {
    names: Vec<String>,
    /// Each class by itself instead of one of all.
    several: bool,
}

#[derive(Deserialize)]
struct Config {
    id2label: Option<BTreeMap<String, String>>,
    problem_type: Option<String>,
}

impl Labels {
    /// The classes of a classifier; `None` where nothing names as many as the output has.
    pub(super) fn read(
        companions: &Companions,
        signature: &Signature,
    ) -> Result<Option<Self>, ModalityError> {
        let Some(output) = signature.outputs.iter().find(|port| port.name == OUTPUT) else { return Ok(None) };
        let Some(config) = companions.json::<Config>(CONFIG)? else { return Ok(None) };
        let Some(names) = config.id2label else { return Ok(None) };
        let names: Option<Vec<String>> =
            (0..names.len()).map(|at| names.get(&at.to_string()).cloned()).collect();
        let wrong = |problem: &str| ModalityError::Companion { name: CONFIG, problem: problem.to_owned() };
        let names = names.ok_or_else(|| wrong("id2label does not count from 0"))?;
        if let [_, Dim::Fixed(classes)] = output.shape.as_slice()
            && *classes != names.len() as u64
        {
            return Err(wrong("id2label has not as many labels as the output has classes"));
        }
        let several =
            config.problem_type.as_deref() == Some("multi_label_classification") || names.len() == 1;
        Ok(Some(Self { names, several }))
    }

    /// The likeliest, from a row of scores without bounds.
    pub(super) fn likeliest(&self, scores: &[f32]) -> Result<Vec<Label>, String> {
        if scores.len() != self.names.len() {
            return Err(format!("{} scores for {} labels", scores.len(), self.names.len()));
        }
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - most).exp()).sum();
        let probability = |score: &f32| {
            if self.several { 1.0 / (1.0 + (-score).exp()) } else { (score - most).exp() / sum }
        };
        let named = self.names.iter().zip(scores);
        let mut labels: Vec<_> =
            named.map(|(label, score)| Label { label: label.clone(), score: probability(score) }).collect();
        labels.sort_by(|a, b| b.score.total_cmp(&a.score));
        labels.truncate(TOLD);
        Ok(labels)
    }
}

/// What converters call a classifier's scores.
pub(super) const OUTPUT: &str = "logits";
