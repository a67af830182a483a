//! A model whose rows gain by sharing a step: dense layers, whose weights are read once for all rows of a step.

use std::path::Path;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use weft::domain::{Datatype, Tensor};

use crate::{
    graphs,
    requests::{BROWSER, Model},
};

/// 32 MiB of weights: more than a core's caches hold, so that a step of one row waits for memory, and some
/// milliseconds for one of sixteen.
const WIDTH: u64 = 1024;
const LAYERS: usize = 8;

/// Different inputs that requests go round.
const SETS: usize = 4;

const SEED: u64 = 11;

/// What the table says of it.
pub(super) const DESCRIBED: &str = "8 dense layers of 1024";

/// The model in `folder` under this name, with requests of so many rows.
pub(super) fn model(folder: &Path, name: &str, rows: usize) -> anyhow::Result<Model> {
    let file = folder.join("dense.onnx");
    let mut random = StdRng::seed_from_u64(SEED);
    if !file.exists() {
        // Of a spread that keeps the numbers of all layers about as large as the input's.
        let most = (6.0 / WIDTH as f32).sqrt();
        let mut layer = || {
            let values = (0..WIDTH * WIDTH).flat_map(|_| random.random_range(-most..most).to_le_bytes());
            values.collect::<Vec<_>>()
        };
        let layers: Vec<_> = (0..LAYERS).map(|_| layer()).collect();
        std::fs::write(&file, graphs::dense(WIDTH, &layers))?;
    }
    let mut set = || {
        let values = (0..rows * WIDTH as usize).flat_map(|_| random.random_range(-1.0f32..1.0).to_le_bytes());
        vec![Tensor {
            name: "x".to_owned(),
            datatype: Datatype::Fp32,
            shape: vec![rows as u64, WIDTH],
            body: values.collect::<Vec<_>>().into(),
        }]
    };
    let sets = (0..SETS).map(|_| set()).collect();
    Ok(Model { name: name.to_owned(), browser: BROWSER, file, sets, written: Vec::new() })
}
