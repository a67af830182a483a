//! Texts and images as vectors.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Ask, Companions, Dialogue, Finding, ModalityError, Task, Text, Turn,
    classes::rows,
    companions::CONFIG,
    pooling::{self, Ending},
    preparation::Preparation,
    text::{Batch, Reader, Tokens},
    values,
};
use crate::domain::{Signature, Tensor};

/// Requests of one turn: enough for several lanes, and few enough that the vectors of all their tokens, 8,192 each,
/// take some 130 MiB with the widest models.
pub(super) const PER_TURN: usize = 4;

/// What exporters call one vector per text.
const POOLED: [&str; 3] = ["sentence_embedding", "text_embeds", "embeddings"];

/// What they call one per token.
const TOKENS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// What they call one per image.
const IMAGE: [&str; 3] = ["image_embeds", "pooler_output", "embeddings"];

/// A model that makes a vector of a text.
#[derive(Debug)]
pub struct TextEmbedding {
    reader: Reader,
    ending: Ending,
    output: String,
    /// Lengths that the model's vectors may be cut to.
    cuts: Vec<usize>,
}

/// A model that makes a vector of an image.
#[derive(Debug)]
pub struct ImageEmbedding {
    preparation: Preparation,
    output: String,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    matryoshka_dimensions: Vec<usize>,
}

impl TextEmbedding {
    pub(super) fn new(companions: &Companions, signature: &Signature) -> Result<Self, ModalityError> {
        let task = Task::Embedding;
        let reader = Reader::new(task, companions, signature)?;
        let known = POOLED.iter().chain(&TOKENS);
        let output = output(task, signature, known)?;
        let config: Config = companions.json(CONFIG)?.unwrap_or_default();
        let (ending, cuts) = (pooling::ending(companions)?, config.matryoshka_dimensions);
        Ok(Self { reader, ending, output, cuts })
    }

    /// Begins with some texts; `dimensions` is the length that the vectors are wanted in.
    pub fn begin(
        self: Arc<Self>,
        texts: &[Text],
        dimensions: Option<usize>,
    ) -> Result<Box<dyn Dialogue>, ModalityError> {
        let tokens = self.reader.tokens(texts)?;
        let mut batches = self.reader.batches(&tokens);
        batches.reverse();
        let findings = tokens.iter().map(|_| None).collect();
        Ok(Box::new(TextDialogue { model: self, tokens, batches, asked: Vec::new(), findings, dimensions }))
    }

    /// The vectors of a batch's texts.
    fn vectors(&self, batch: &Batch, tokens: &[Tokens], outputs: &[Tensor]) -> Result<Vec<Vec<f32>>, String> {
        let [output] = outputs else { return Err(format!("{} outputs for one", outputs.len())) };
        let mut vectors = match values::shape(output).as_slice() {
            [_, _] => rows(outputs, batch.rows)?,
            [rows, length, width] if (*rows, *length) == (batch.rows, batch.length) && *width > 0 => {
                let all = values::read_floats(output)?;
                let of_rows = all.chunks_exact(length * width).zip(&batch.at);
                let pooled = of_rows.map(|(vectors, at)| {
                    let real = self.reader.real(&tokens[*at], batch.length);
                    pooling::pool(self.ending.pooling, vectors, *width, &real)
                });
                pooled.collect()
            }
            other => {
                let (rows, length) = (batch.rows, batch.length);
                return Err(format!(
                    "output {:?} has shape {other:?}, not [{rows}, {length}, …]",
                    output.name
                ));
            }
        };
        vectors.truncate(batch.at.len());
        Ok(vectors)
    }

    fn end(&self, mut vector: Vec<f32>, dimensions: Option<usize>) -> Result<Vec<f32>, ModalityError> {
        match dimensions {
            Some(wanted) if wanted != vector.len() => {
                if !self.cuts.contains(&wanted) || wanted > vector.len() {
                    let lengths = std::iter::once(vector.len()).chain(self.cuts.iter().copied());
                    let lengths: Vec<_> = lengths.map(|length| length.to_string()).collect();
                    let lengths = lengths.join(" or ");
                    let message = format!("the model's vectors have {lengths} dimensions, not {wanted}");
                    return Err(ModalityError::Input(message));
                }
                vector.truncate(wanted);
                pooling::normalise(&mut vector);
            }
            _ if self.ending.normalise => pooling::normalise(&mut vector),
            _ => {}
        }
        Ok(vector)
    }
}

struct TextDialogue {
    model: Arc<TextEmbedding>,
    tokens: Vec<Tokens>,
    /// The last ones first.
    batches: Vec<Batch>,
    asked: Vec<Batch>,
    findings: Vec<Option<Finding>>,
    dimensions: Option<usize>,
}

impl Dialogue for TextDialogue {
    fn turn(&mut self, answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError> {
        let wrong = |problem| ModalityError::Answer { task: Task::Embedding, problem };
        for (batch, outputs) in std::mem::take(&mut self.asked).iter().zip(answers) {
            let vectors = self.model.vectors(batch, &self.tokens, &outputs).map_err(wrong)?;
            for (at, vector) in batch.at.iter().zip(vectors) {
                let Tokens { ids, truncated, .. } = &self.tokens[*at];
                self.findings[*at] = Some(Finding::Embedding {
                    embedding: self.model.end(vector, self.dimensions)?,
                    tokens: Some(ids.len()),
                    truncated: *truncated,
                });
            }
        }
        if self.batches.is_empty() {
            return Ok(Turn::Done(self.findings.drain(..).flatten().collect()));
        }
        let next = self.batches.split_off(self.batches.len().saturating_sub(PER_TURN));
        self.asked = next.into_iter().rev().collect();
        let ask = |batch| self.model.reader.ask(batch, &self.tokens, &self.model.output);
        Ok(Turn::Ask(self.asked.iter().map(ask).collect()))
    }
}

impl ImageEmbedding {
    pub(super) fn new(companions: &Companions, signature: &Signature) -> Result<Self, ModalityError> {
        let task = Task::ImageEmbedding;
        let preparation = Preparation::new(task, companions, signature)?;
        Ok(Self { preparation, output: output(task, signature, IMAGE.iter())? })
    }

    pub(super) fn begin(self: Arc<Self>, image: &[u8]) -> Result<Box<dyn Dialogue>, ModalityError> {
        let pixels = self.preparation.pixels(image)?;
        let ask = Some(Ask::one(vec![pixels], vec![self.output.clone()]));
        Ok(Box::new(ImageDialogue { ask }))
    }
}

struct ImageDialogue {
    ask: Option<Ask>,
}

impl Dialogue for ImageDialogue {
    fn turn(&mut self, answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError> {
        if let Some(ask) = self.ask.take() {
            return Ok(Turn::Ask(vec![ask]));
        }
        let wrong = |problem| ModalityError::Answer { task: Task::ImageEmbedding, problem };
        let outputs = answers.first().map(Vec::as_slice).unwrap_or_default();
        let embedding = rows(outputs, 1).map_err(wrong)?.swap_remove(0);
        Ok(Turn::Done(vec![Finding::Embedding { embedding, tokens: None, truncated: false }]))
    }
}

/// The first of the known outputs that the model has, else its only one.
fn output<'n>(
    task: Task,
    signature: &Signature,
    mut known: impl Iterator<Item = &'n &'n str>,
) -> Result<String, ModalityError> {
    let has = |name: &&&str| signature.outputs.iter().any(|port| port.name == ***name);
    if let Some(name) = known.find(has) {
        return Ok((*name).to_owned());
    }
    match signature.outputs.as_slice() {
        [only] => Ok(only.name.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|port| port.name.as_str()).collect();
            let problem = format!("which of the outputs {} is the vector is not known", names.join(", "));
            Err(ModalityError::Signature { task, problem })
        }
    }
}
