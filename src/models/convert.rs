//! From weights, or from a model of another precision, to models' files among the blobs.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Blobs, ModelError};
use crate::{
    domain::{Accuracy, Digest, Model, ModelKind},
    onnx::{
        FILE_BYTES_MAX,
        convert::{
            ConvertError, Part,
            checkpoint::{
                Checkpoint, GgufCheckpoint, TorchCheckpoint,
                safetensors::{Safetensors, shards},
            },
            convert,
        },
        precision::{self, PrecisionError, Recipe, Report},
    },
};

/// What says how to make a model of weights.
const CONFIG: &str = "config.json";

/// What a graph calls the file of its weights until that has a digest.
const WEIGHTS: &str = "weights";

/// Weights, as they came.
#[derive(Clone)]
pub struct Weights {
    pub digest: Digest,
    /// What the source calls the file, which tells its format.
    pub file: String,
    pub files: BTreeMap<String, Digest>,
}

/// A file that was made; a name makes a model of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Made {
    /// Which of the model's graphs it is: `model` where there is one.
    pub part: String,
    pub kind: ModelKind,
    pub digest: Digest,
    pub bytes: u64,
    /// What belongs to it, by name.
    #[schema(value_type = BTreeMap<String, String>)]
    pub files: BTreeMap<String, Digest>,
    /// Of a variant: what it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// Of a variant: how far its answers are from those of what it was made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
}

/// Makes a model of weights, part by part. Blocks for as long as that takes.
pub fn from_weights(blobs: &Blobs, weights: &Weights) -> Result<Vec<Made>, ModelError> {
    let file = weights.file.to_ascii_lowercase();
    let ends = |end: &str| file.ends_with(end);
    let (own, mut files) = (read(blobs, weights.digest)?, weights.files.clone());
    let mut take = |names: Vec<String>| {
        let one = |name: String| {
            let digest =
                files.remove(&name).ok_or_else(|| ModelError::WeightsMissing { file: name.clone() })?;
            Ok((name, read(blobs, digest)?))
        };
        names.into_iter().map(one).collect::<Result<BTreeMap<_, _>, ModelError>>()
    };
    let checkpoint: Box<dyn Checkpoint> = if ends(".gguf") {
        let gguf = GgufCheckpoint::open(&own).map_err(ConvertError::from)?;
        let config = gguf.config().to_owned();
        return made(blobs, convert(config.as_bytes(), &gguf)?, &files);
    } else if ends(".safetensors") {
        Box::new(Safetensors::new(&own)?)
    } else if ends(".safetensors.index.json") {
        Box::new(Safetensors::sharded(&own, &take(shards(&own)?)?)?)
    } else if ends(".index.json") {
        let opened = take(shards(&own)?)?.into_values().map(|file| TorchCheckpoint::open(&file));
        let opened = opened.collect::<Result<Vec<_>, _>>().map_err(ConvertError::from)?;
        Box::new(TorchCheckpoint::join(opened).map_err(ConvertError::from)?)
    } else {
        Box::new(TorchCheckpoint::open(&own).map_err(ConvertError::from)?)
    };
    let config = files.get(CONFIG).ok_or(ModelError::NoConfig)?;
    let config = read(blobs, *config)?;
    made(blobs, convert(&config, &*checkpoint)?, &files)
}

fn made(
    blobs: &Blobs,
    parts: Vec<Part<'_>>,
    files: &BTreeMap<String, Digest>,
) -> Result<Vec<Made>, ModelError> {
    let one = |part: Part<'_>| {
        let mut files = files.clone();
        let upload = if part.file_bytes() <= FILE_BYTES_MAX {
            blobs.write(|out| part.write(out).map_err(ModelError::from))?
        } else {
            let mut graph = Vec::new();
            let weights =
                blobs.write(|out| part.write_external(&mut graph, out, WEIGHTS).map_err(ModelError::from))?;
            files.insert(WEIGHTS.to_owned(), weights.digest);
            blobs.put(&graph)?
        };
        let (digest, bytes) = (upload.digest, upload.bytes);
        // Each of what was made is named for itself.
        files.values().try_for_each(|file| blobs.lease(*file))?;
        let (part, kind) = (part.name.to_owned(), part.kind);
        Ok(Made { part, kind, digest, bytes, files, report: None, accuracy: None })
    };
    parts.into_iter().map(one).collect()
}

/// Makes a variant of a model, and says what it changed. Blocks for as long as that takes.
pub(super) fn at_precision(
    blobs: &Blobs,
    model: &Model,
    recipe: &Recipe,
) -> Result<(Made, Report), ModelError> {
    let bytes = recipe.bytes_least(model.external.values().sum());
    if bytes > FILE_BYTES_MAX {
        return Err(PrecisionError::TooLarge { bytes }.into());
    }
    let (file, beside) = whole(blobs, model)?;
    let variant = precision::apply(&file, &beside, recipe)?;
    let upload = blobs.put(&variant.bytes)?;
    model.companions.values().try_for_each(|file| blobs.lease(*file))?;
    let made = Made {
        part: "model".to_owned(),
        kind: model.kind,
        digest: upload.digest,
        bytes: upload.bytes,
        files: model.companions.clone(),
        report: None,
        accuracy: None,
    };
    Ok((made, variant.report))
}

/// A model's own file, and those beside it by the names that it has for them. Blocks for as long as the disk takes.
pub(super) fn whole(blobs: &Blobs, model: &Model) -> Result<(Bytes, BTreeMap<String, Bytes>), ModelError> {
    let beside = model.external.keys().map(|file| Ok((file.to_string(), read(blobs, *file)?)));
    Ok((read(blobs, model.digest)?, beside.collect::<Result<_, ModelError>>()?))
}

fn read(blobs: &Blobs, digest: Digest) -> Result<Bytes, ModelError> {
    if !blobs.has(digest) {
        return Err(ModelError::NoFile { digest });
    }
    let path = blobs.path(digest);
    std::fs::read(&path).map(Bytes::from).map_err(|source| ModelError::Keep { path, source })
}
