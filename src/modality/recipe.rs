//! What a model does with an input, told from what came with it, its signature and its kind, and never from its name.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Companions, Dialogue, Input, ModalityError,
    classes::{ImageClasses, TextClasses},
    companions::{FILE_TYPES, MODULES, POOLING, PREPROCESSOR},
    embedding::{ImageEmbedding, TextEmbedding},
    file_type::FileTypes,
    labels::Labels,
    ocr::Ocr,
    preparation::{self, Preparation},
    speech,
    text::{self, Reader},
};
use crate::domain::{ModelKind, Signature};

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    Embedding,
    TextClassification,
    ImageEmbedding,
    ImageClassification,
    SpeechDetection,
    FileType,
    Ocr,
}

pub(super) const TASKS: [(Task, &str); 7] = [
    (Task::Embedding, "embedding"),
    (Task::TextClassification, "text-classification"),
    (Task::ImageEmbedding, "image-embedding"),
    (Task::ImageClassification, "image-classification"),
    (Task::SpeechDetection, "speech-detection"),
    (Task::FileType, "file-type"),
    (Task::Ocr, "ocr"),
];

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TASKS.iter().find(|(task, _)| task == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TASKS
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(task, _)| *task)
            .ok_or_else(|| format!("{text:?} is no task: use {}", TASKS.map(|(_, name)| name).join(", ")))
    }
}

/// What is known of a model.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub signature: &'a Signature,
    pub kind: ModelKind,
    /// What its file says of itself.
    pub metadata: &'a BTreeMap<String, String>,
    pub companions: &'a Companions,
}

/// How inputs become a model's, and its outputs answers. Clones share it.
#[derive(Clone, Debug)]
pub enum Recipe {
    Embedding(Arc<TextEmbedding>),
    TextClassification(Arc<TextClasses>),
    ImageEmbedding(Arc<ImageEmbedding>),
    ImageClassification(Arc<ImageClasses>),
    SpeechDetection,
    FileType(Arc<FileTypes>),
    Ocr(Arc<Ocr>),
}

/// Whether a model's metadata tells more of it than its signature: what takes pixels may read lines of text.
pub fn speaks(signature: &Signature) -> bool {
    preparation::port(signature).is_some()
}

impl Recipe {
    /// What one model does, or several together; `wanted` says it where the model's files leave it open.
    pub fn of(subjects: &[Subject<'_>], wanted: Option<Task>) -> Result<Self, ModalityError> {
        let subject = match subjects {
            [subject] if wanted != Some(Task::Ocr) => subject,
            [] => return Err(ModalityError::NoTask { problem: "no model is named".to_owned() }),
            _ if matches!(wanted, None | Some(Task::Ocr)) => {
                return Ok(Self::Ocr(Arc::new(Ocr::new(subjects)?)));
            }
            _ => return Err(ModalityError::Input("only ocr takes several models".to_owned())),
        };
        let task = match (wanted, served(subject)?) {
            (Some(wanted), None) => wanted,
            (None, Some(served)) => served,
            (Some(wanted), Some(served)) if alike(wanted, served) => wanted,
            (Some(wanted), Some(does)) => return Err(ModalityError::OtherTask { does, wanted }),
            (None, None) => return Err(ModalityError::NoTask { problem: untold(subject).to_owned() }),
        };
        Self::for_task(task, subject)
    }

    fn for_task(task: Task, subject: &Subject<'_>) -> Result<Self, ModalityError> {
        let Subject { signature, companions, .. } = *subject;
        let labels = || {
            Labels::read(companions, signature)?.ok_or_else(|| ModalityError::Signature {
                task,
                problem: "config.json names no labels for an output logits".to_owned(),
            })
        };
        Ok(match task {
            Task::Embedding => Self::Embedding(Arc::new(TextEmbedding::new(companions, signature)?)),
            Task::TextClassification => {
                let reader = Reader::new(task, companions, signature)?;
                Self::TextClassification(Arc::new(TextClasses { reader, labels: labels()? }))
            }
            Task::ImageEmbedding => {
                Self::ImageEmbedding(Arc::new(ImageEmbedding::new(companions, signature)?))
            }
            Task::ImageClassification => {
                let preparation = Preparation::new(task, companions, signature)?;
                Self::ImageClassification(Arc::new(ImageClasses { preparation, labels: labels()? }))
            }
            Task::SpeechDetection if speech::fits(signature) => Self::SpeechDetection,
            Task::SpeechDetection => {
                let problem = "it has not silero-VAD's inputs input, state and sr".to_owned();
                return Err(ModalityError::Signature { task, problem });
            }
            Task::FileType => Self::FileType(Arc::new(FileTypes::new(companions, signature)?)),
            Task::Ocr => return Err(ModalityError::Input("ocr takes several models".to_owned())),
        })
    }

    pub fn task(&self) -> Task {
        match self {
            Self::Embedding(_) => Task::Embedding,
            Self::TextClassification(_) => Task::TextClassification,
            Self::ImageEmbedding(_) => Task::ImageEmbedding,
            Self::ImageClassification(_) => Task::ImageClassification,
            Self::SpeechDetection => Task::SpeechDetection,
            Self::FileType(_) => Task::FileType,
            Self::Ocr(_) => Task::Ocr,
        }
    }

    /// Begins with an input: reads, cuts and splits it, which takes as long as it is large.
    pub fn begin(&self, input: &Input) -> Result<Box<dyn Dialogue>, ModalityError> {
        Ok(match (self, input) {
            (Self::Embedding(model), Input::Texts(texts)) => model.clone().begin(texts, None)?,
            (Self::TextClassification(model), Input::Texts(texts)) => Box::new(model.clone().begin(texts)?),
            (Self::ImageEmbedding(model), Input::Image(image)) => model.clone().begin(image)?,
            (Self::ImageClassification(model), Input::Image(image)) => Box::new(model.clone().begin(image)?),
            (Self::Ocr(models), Input::Image(image)) => models.clone().begin(image)?,
            (Self::SpeechDetection, Input::Audio(sound)) => Box::new(speech::begin(sound)?),
            // Whatever is in it, a file is a file.
            (Self::FileType(types), Input::File(file) | Input::Image(file) | Input::Audio(file)) => {
                Box::new(types.clone().begin(file))
            }
            _ => {
                let (does, given) = (self.task(), input.kind());
                return Err(ModalityError::OtherInput { does, takes: self.takes(), given });
            }
        })
    }

    fn takes(&self) -> &'static str {
        match self {
            Self::Embedding(_) | Self::TextClassification(_) => "text",
            Self::ImageEmbedding(_) | Self::ImageClassification(_) | Self::Ocr(_) => "an image",
            Self::SpeechDetection => "sound",
            Self::FileType(_) => "a file",
        }
    }
}

/// Tasks of one kind of input are the caller's to choose between.
fn alike(wanted: Task, served: Task) -> bool {
    let texts = [Task::Embedding, Task::TextClassification];
    let images = [Task::ImageEmbedding, Task::ImageClassification];
    wanted == served || [texts, images].iter().any(|tasks| tasks.contains(&wanted) && tasks.contains(&served))
}

/// What a model does, as far as its files and signature tell.
fn served(subject: &Subject<'_>) -> Result<Option<Task>, ModalityError> {
    let Subject { signature, kind, companions, .. } = *subject;
    let output = |names: &[&str]| signature.outputs.iter().any(|port| names.contains(&port.name.as_str()));
    if speech::fits(signature) {
        return Ok(Some(Task::SpeechDetection));
    }
    if companions.has(FILE_TYPES) {
        return Ok(Some(Task::FileType));
    }
    if text::takes_tokens(signature) {
        let sentences = companions.has(MODULES) || companions.has(POOLING) || output(&["sentence_embedding"]);
        if kind == ModelKind::Embedding || sentences {
            return Ok(Some(Task::Embedding));
        }
        return Ok(Labels::read(companions, signature)?.map(|_| Task::TextClassification));
    }
    if preparation::port(signature).is_some() && companions.has(PREPROCESSOR) {
        if Labels::read(companions, signature)?.is_some() {
            return Ok(Some(Task::ImageClassification));
        }
        let vectors =
            matches!(kind, ModelKind::Embedding | ModelKind::Multimodal) || output(&["image_embeds"]);
        return Ok(vectors.then_some(Task::ImageEmbedding));
    }
    Ok(None)
}

/// What is missing where nothing tells.
fn untold(subject: &Subject<'_>) -> &'static str {
    if Recipe::is_for_ocr(subject) {
        "it reads lines of text, which ocr does together with a model that finds them: name both"
    } else if text::takes_tokens(subject.signature) {
        "it takes tokens, but is not of the kind embedding, and neither sentence-transformers' files nor labels came with it"
    } else if preparation::port(subject.signature).is_some() {
        "it may take images, but no preprocessor_config.json came with it, or neither labels nor the kind embedding"
    } else {
        "no file that says so came with it, and its inputs are none that are known; give tensors instead"
    }
}
