//! What is said between an input and its answer.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ModalityError, text::Text};
use crate::domain::Tensor;

/// What somebody gives.
#[derive(Clone, Debug)]
pub enum Input {
    Texts(Vec<Text>),
    Image(Bytes),
    Audio(Bytes),
    File(Bytes),
}

impl Input {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Texts(_) => "text",
            Self::Image(_) => "an image",
            Self::Audio(_) => "sound",
            Self::File(_) => "a file",
        }
    }
}

/// Which model of several one is asked; a task of one model has only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part(pub usize);

/// One request to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub part: Part,
    pub inputs: Vec<Tensor>,
    /// Names of the wanted outputs, which come in this order.
    pub outputs: Vec<String>,
}

impl Ask {
    pub(super) fn one(inputs: Vec<Tensor>, outputs: Vec<String>) -> Self {
        Self { part: Part(0), inputs, outputs }
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Turn {
    /// All of these, whose answers are wanted in this order.
    Ask(Vec<Ask>),
    Done(Vec<Finding>),
}

/// One input on its way. Turns compute for as long as decoding and searching take.
pub trait Dialogue: Send {
    /// Goes on with the outputs of what the last turn asked; none at first.
    fn turn(&mut self, answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError>;
}

/// What was found in an input.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Finding {
    /// The likeliest labels, the first one first.
    Labels {
        labels: Vec<Label>,
    },
    Embedding {
        embedding: Vec<f32>,
        /// Of a text, those of the model's own included.
        #[serde(skip_serializing_if = "Option::is_none")]
        tokens: Option<usize>,
        /// Whether the text was longer than the model takes, and its end was left out.
        truncated: bool,
    },
    Speech {
        /// How long the recording is.
        seconds: f64,
        /// How much of it each probability is for.
        step_seconds: f64,
        probabilities: Vec<f32>,
        segments: Vec<Segment>,
    },
    FileType {
        label: String,
        /// As the model's own table has it.
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
        /// What the network says; absent for a file that it is not asked about.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Label>,
    },
    Lines {
        lines: Vec<Line>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Label {
    pub label: String,
    /// Between 0 and 1.
    pub score: f32,
}

/// A stretch of speech.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Segment {
    pub start_seconds: f64,
    pub end_seconds: f64,
}

/// A line of text in an image.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Line {
    pub text: String,
    /// The mean of its characters' probabilities.
    pub score: f32,
    /// Its corners in the image's pixels, from the upper left one clockwise.
    #[schema(value_type = Vec<Vec<f32>>)]
    pub corners: [[f32; 2]; 4],
    /// Whether it was read turned by half a turn.
    pub upside_down: bool,
}

impl fmt::Debug for dyn Dialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dialogue")
    }
}
