//! Which of several files is the model, and which belong to it.

use std::path::Path;

use super::SourceError;

/// What exporters call the one that is meant, the likeliest first.
const USUAL: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// What weights are called that a model can be made of, the likeliest first. An index names the files of its weights.
const WEIGHTS: [&str; 4] = [
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

/// How single files of weights end, where no usual name is there.
const WEIGHTS_END: [&str; 2] = ["safetensors", "gguf"];

/// What belongs to a model where it lies beside it or in a folder above: what its inputs and outputs are read by.
const COMPANIONS: [&str; 13] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "config.min.json",
];

/// Names in an error.
const LISTED: usize = 20;

fn ends(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// The file at `wanted`, or the only model, or the one of a usual name; where there is none, the weights to make one of.
pub(super) fn choose(place: &str, files: &[String], wanted: Option<&str>) -> Result<String, SourceError> {
    let mut models: Vec<_> = files.iter().filter(|file| ends(file, "onnx")).cloned().collect();
    models.sort();
    let place = place.to_owned();
    if let Some(wanted) = wanted {
        if files.iter().any(|file| file == wanted) {
            return Ok(wanted.to_owned());
        }
        models.truncate(LISTED);
        return Err(SourceError::NoFile { place, path: wanted.to_owned(), there: models });
    }
    let usual = USUAL.iter().find(|usual| models.iter().any(|model| model == *usual));
    match (models.len(), usual) {
        (0, _) => weights(place, files),
        (1, _) => Ok(models.swap_remove(0)),
        (_, Some(usual)) => Ok((*usual).to_owned()),
        _ => {
            models.truncate(LISTED);
            Err(SourceError::Several { place, there: models })
        }
    }
}

fn weights(place: String, files: &[String]) -> Result<String, SourceError> {
    for usual in WEIGHTS {
        let called = |file: &&String| file.rsplit('/').next() == Some(usual);
        // The one that lies highest, where copies lie deeper.
        if let Some(found) = files.iter().filter(called).min_by_key(|file| (file.matches('/').count(), *file))
        {
            return Ok(found.clone());
        }
    }
    let is = |file: &&String| WEIGHTS_END.iter().any(|end| ends(file, end));
    let mut there: Vec<_> = files.iter().filter(is).cloned().collect();
    there.sort();
    match there.len() {
        0 => Err(SourceError::NoModel { place }),
        1 => Ok(there.swap_remove(0)),
        _ => {
            there.truncate(LISTED);
            Err(SourceError::Several { place, there })
        }
    }
}

/// The folder of a file, with its slash; empty at the top.
pub(super) fn folder(file: &str) -> &str {
    file.rfind('/').map_or("", |slash| &file[..=slash])
}

/// What belongs to a model, as names and where they lie: beside it, or else in the nearest folder above.
pub(super) fn companions(files: &[String], model: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in COMPANIONS {
        let mut above = folder(model);
        let at = loop {
            let at = format!("{above}{name}");
            if files.contains(&at) {
                break Some(at);
            }
            if above.is_empty() {
                break None;
            }
            above = folder(above.trim_end_matches('/'));
        };
        found.extend(at.map(|at| (name.to_owned(), at)));
    }
    found
}
