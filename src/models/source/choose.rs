//! Which of several files is the model.

use std::path::Path;

use super::SourceError;

/// What exporters call the one that is meant, the likeliest first.
const USUAL: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// Names in an error.
const LISTED: usize = 20;

fn is_model(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// The file at `wanted`, or the only model, or the one of a usual name.
pub(super) fn choose(place: &str, files: &[String], wanted: Option<&str>) -> Result<String, SourceError> {
    let mut models: Vec<_> = files.iter().filter(|file| is_model(file)).cloned().collect();
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
        (0, _) => Err(SourceError::NoModel { place }),
        (1, _) => Ok(models.swap_remove(0)),
        (_, Some(usual)) => Ok((*usual).to_owned()),
        _ => {
            models.truncate(LISTED);
            Err(SourceError::Several { place, there: models })
        }
    }
}
