//! The format's own checker, on every graph that the committed checkpoints become.

use std::path::Path;

use bytes::Bytes;
use weft::onnx::convert::{checkpoint::safetensors::Safetensors, convert};

use crate::{python, run};

#[tokio::test]
async fn converted_graphs_pass_the_formats_checker_with_full_shape_inference() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints");
    for family in std::fs::read_dir(checkpoints).unwrap().flatten().map(|entry| entry.path()) {
        // Beside the families lie files for the readers alone.
        let Ok(config) = std::fs::read(family.join("config.json")) else { continue };
        let weights = Bytes::from(std::fs::read(family.join("model.safetensors")).unwrap());
        let weights = Safetensors::new(&weights).unwrap();
        for part in convert(&config, &weights).unwrap() {
            let name = format!("{}-{}.onnx", family.file_name().unwrap().display(), part.name);
            part.write(&mut std::fs::File::create(folder.path().join(name)).unwrap()).unwrap();
        }
    }
    run(&python, "checker.py", &[folder.path().to_str().unwrap()]).await;
}
