//! How far the answers of a variant are from those of the model that it was made of.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Digest;

/// A comparison of two models on the same inputs, both run by native ONNX Runtime on the CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Accuracy {
    /// What it was compared with: of a variant of a variant, the model that the first was made of while that is here.
    pub reference: Digest,
    /// The recipe of what it was compared with, where that is a variant itself.
    pub reference_precision: Option<String>,
    pub data: MeasuredOn,
    /// Of those inputs.
    pub inputs: Digest,
    /// How many sets of inputs.
    pub sets: u32,
    pub outputs: Vec<OutputAccuracy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredOn {
    /// Inputs that came with the order.
    Own,
    /// The gate inputs that came with the model.
    Given,
    /// Made-up inputs, since none came: they tell of sizes of errors, and nothing of what the model is for.
    Seeded,
}

impl MeasuredOn {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Given => "given",
            Self::Seeded => "seeded",
        }
    }
}

/// One output over all inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutputAccuracy {
    pub name: String,
    /// Values that were compared.
    pub elements: u64,
    /// The largest difference over the largest value; like the next two, absent for what is not of floats, and where the
    /// reference is zero throughout.
    pub error: Option<f64>,
    /// Root mean square of the differences, over that of the values.
    pub rms_error: Option<f64>,
    pub cosine: Option<f64>,
    /// Of what is not of floats: values that are equal.
    pub equal: Option<u64>,
    /// Of scores of classes: in how many rows the same class is first.
    pub first_class: Option<FirstClass>,
    /// Of scores of tokens, where the inputs have the tokens that came next.
    #[serde(default)]
    pub perplexity: Option<Perplexity>,
}

/// How many tokens a model as good as this one hesitates between, by what it gives the token that came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Perplexity {
    /// Over so many tokens.
    pub tokens: u64,
    pub reference: f64,
    pub variant: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FirstClass {
    pub rows: u64,
    pub same: u64,
}
