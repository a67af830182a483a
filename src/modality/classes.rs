//! Texts and images sorted into classes.

use std::sync::Arc;

use super::{
    Ask, Dialogue, Finding, ModalityError, Text, Turn,
    embedding::PER_TURN,
    labels::{self, Labels},
    preparation::Preparation,
    text::{Batch, Reader, Tokens},
    values,
};
use crate::domain::Tensor;

/// A classifier of texts.
#[derive(Debug)]
pub struct TextClasses {
    pub(super) reader: Reader,
    pub(super) labels: Labels,
}

/// A classifier of images.
#[derive(Debug)]
pub struct ImageClasses {
    pub(super) preparation: Preparation,
    pub(super) labels: Labels,
}

pub(super) struct TextDialogue {
    model: Arc<TextClasses>,
    tokens: Vec<Tokens>,
    /// The last ones first.
    batches: Vec<Batch>,
    asked: Vec<Batch>,
    findings: Vec<Option<Finding>>,
}

impl TextClasses {
    pub(super) fn begin(self: Arc<Self>, texts: &[Text]) -> Result<TextDialogue, ModalityError> {
        let tokens = self.reader.tokens(texts)?;
        let mut batches = self.reader.batches(&tokens);
        batches.reverse();
        let findings = tokens.iter().map(|_| None).collect();
        Ok(TextDialogue { model: self, tokens, batches, asked: Vec::new(), findings })
    }
}

impl Dialogue for TextDialogue {
    fn turn(&mut self, answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError> {
        let task = self.model.reader.task();
        let wrong = |problem| ModalityError::Answer { task, problem };
        for (batch, outputs) in self.asked.drain(..).zip(answers) {
            let rows = rows(&outputs, batch.rows).map_err(wrong)?;
            for (at, scores) in batch.at.iter().zip(rows) {
                let labels = self.model.labels.likeliest(&scores).map_err(wrong)?;
                self.findings[*at] = Some(Finding::Labels { labels });
            }
        }
        if self.batches.is_empty() {
            return Ok(Turn::Done(self.findings.drain(..).flatten().collect()));
        }
        let next = self.batches.split_off(self.batches.len().saturating_sub(PER_TURN));
        self.asked = next.into_iter().rev().collect();
        let ask = |batch| self.model.reader.ask(batch, &self.tokens, labels::OUTPUT);
        Ok(Turn::Ask(self.asked.iter().map(ask).collect()))
    }
}

/// An image that is asked about once.
pub(super) struct ImageDialogue {
    model: Arc<ImageClasses>,
    ask: Option<Ask>,
}

impl ImageClasses {
    pub(super) fn begin(self: Arc<Self>, image: &[u8]) -> Result<ImageDialogue, ModalityError> {
        let pixels = self.preparation.pixels(image)?;
        let ask = Some(Ask::one(vec![pixels], vec![labels::OUTPUT.to_owned()]));
        Ok(ImageDialogue { model: self, ask })
    }
}

impl Dialogue for ImageDialogue {
    fn turn(&mut self, answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError> {
        if let Some(ask) = self.ask.take() {
            return Ok(Turn::Ask(vec![ask]));
        }
        let wrong = |problem| ModalityError::Answer { task: self.model.preparation.task(), problem };
        let outputs = answers.first().map(Vec::as_slice).unwrap_or_default();
        let scores = rows(outputs, 1).map_err(wrong)?.swap_remove(0);
        let labels = self.model.labels.likeliest(&scores).map_err(wrong)?;
        Ok(Turn::Done(vec![Finding::Labels { labels }]))
    }
}

/// The rows of the one output that was asked for.
pub(super) fn rows(outputs: &[Tensor], wanted: usize) -> Result<Vec<Vec<f32>>, String> {
    let [output] = outputs else { return Err(format!("{} outputs for one", outputs.len())) };
    match values::shape(output).as_slice() {
        [rows, width] if *rows == wanted && *width > 0 => {
            Ok(values::read_floats(output)?.chunks_exact(*width).map(<[f32]>::to_vec).collect())
        }
        other => Err(format!("output {:?} has shape {other:?}, not [{wanted}, …]", output.name)),
    }
}
