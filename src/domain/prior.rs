//! What a step is thought to take before anything has been measured.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BackendKind;

/// What a model does, as whoever adds it says.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    Embedding,
    Generation,
    Vision,
    Audio,
    Multimodal,
    #[default]
    Other,
}

impl ModelKind {
    const ALL: [Self; 6] =
        [Self::Embedding, Self::Generation, Self::Vision, Self::Audio, Self::Multimodal, Self::Other];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Generation => "generation",
            Self::Vision => "vision",
            Self::Audio => "audio",
            Self::Multimodal => "multimodal",
            Self::Other => "other",
        }
    }
}

impl FromStr for ModelKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            format!("{text:?} is no kind of model: use {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

/// How long a step of a kind of model takes in one product, per backend.
pub type Priors = BTreeMap<ModelKind, BTreeMap<BackendKind, Duration>>;
