//! What people have, as what models take and give: text, images, sound and files become tensors, outputs become
//! answers.
//!
//! [`Recipe::of`] tells from a model's files and signature what it does. A [`Dialogue`] then carries one input through:
//! it names the tensors to ask for, is told the outputs, and asks on or is done. Whoever holds it asks; this room knows
//! no lane, no file and no time.

mod audio;
mod classes;
mod companions;
mod dialogue;
mod embedding;
pub mod file_type;
mod labels;
mod ocr;
mod pixels;
mod pooling;
mod preparation;
mod recipe;
pub mod speech;
mod text;
mod values;

pub use companions::{COMPANION_BYTES_MAX, Companions, WANTED};
pub use dialogue::{Ask, Dialogue, Finding, Input, Label, Line, Part, Segment, Turn};
pub use embedding::TextEmbedding;
pub use pooling::Pooling;
pub use recipe::{Recipe, Subject, Task, speaks};
pub use text::{TEXTS_MAX, Text};

use crate::domain::{Code, Failure, Retry};

#[derive(Debug, thiserror::Error)]
pub enum ModalityError {
    #[error("the model has no {name}, which {needed_for} needs: add it from where that file lies beside it")]
    NoCompanion { name: &'static str, needed_for: &'static str },
    #[error("the model's {name} cannot be used: {problem}")]
    Companion { name: &'static str, problem: String },
    #[error("nothing tells what the model does with an input: {problem}")]
    NoTask { problem: String },
    #[error("the model's task is {does}, not {wanted}")]
    OtherTask { does: Task, wanted: Task },
    #[error("the model's task is {does}, which takes {takes}, not {given}")]
    OtherInput { does: Task, takes: &'static str, given: &'static str },
    #[error("the model's signature does not fit {task}: {problem}")]
    Signature { task: Task, problem: String },
    #[error("its answer does not fit {task}: {problem}")]
    Answer { task: Task, problem: String },
    #[error("{what} is over the limit of {limit}")]
    TooLarge { what: String, limit: String },
    #[error("{0}")]
    Input(String),
}

impl From<ModalityError> for Failure {
    fn from(error: ModalityError) -> Self {
        let code = match &error {
            ModalityError::TooLarge { .. } => Code::TooLarge,
            ModalityError::Answer { .. } => Code::Internal,
            _ => Code::InvalidRequest,
        };
        Failure::new(code, Retry::Never, error.to_string())
    }
}

#[cfg(test)]
mod tests;
