//! Variants of lower precision, run by native ONNX Runtime and compared with what they were made of.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use weft::{
    domain::{Tensor, Tolerance, VerdictStatus},
    models::{GateInputs, gate::compare},
    onnx::precision::{Recipe, Variant, apply},
};

use crate::{
    native::{Loaded, floats, load, magika, read, silero},
    support::graphs,
};

fn variant(model: &[u8], recipe: &str) -> Variant {
    let recipe = if recipe.contains('=') && recipe.contains('"') {
        Recipe::from_toml(recipe).expect("a recipe")
    } else {
        Recipe::parse(recipe).expect("a recipe")
    };
    apply(&Bytes::copy_from_slice(model), &BTreeMap::new(), &recipe)
        .unwrap_or_else(|error| panic!("{recipe}: {error}"))
}

async fn loaded(model: &[u8]) -> Loaded {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), model).expect("space for it");
    load(file.path(), 1).await
}

/// Numbers from -1 to 1 without an order, the same each time.
pub(crate) fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn little(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// What `docs/models.md` says of one block.
fn rounded(block: &[f32], bits: u32, symmetric: bool) -> Vec<f32> {
    let last = (1 << bits) as f32 - 1.0;
    let middle = (1 << (bits - 1)) as f32;
    let largest =
        block.iter().copied().fold(0f32, |far, value| if value.abs() > far.abs() { value } else { far });
    let (least, most) =
        block.iter().copied().fold((0f32, 0f32), |(least, most), value| (least.min(value), most.max(value)));
    let (scale, zero) = if symmetric {
        (largest / -middle, middle)
    } else {
        let scale = (most - least) / last;
        (scale, (-least / scale).round())
    };
    block.iter().map(|value| ((value / scale + zero).round().clamp(0.0, last) - zero) * scale).collect()
}

#[tokio::test]
async fn products_of_blocks_compute_with_the_weights_that_the_rule_gives() {
    // No multiple of 32, and for the wider blocks not even one of them.
    const WIDTH: usize = 80;
    let weights = noise(1, WIDTH * WIDTH);
    let model = graphs::dense(WIDTH as u64, &[little(&weights)]);
    let identity = |sign: f32| {
        let values = (0..WIDTH * WIDTH).map(move |at| if at % (WIDTH + 1) == 0 { sign } else { 0.0 });
        vec![floats("x", &[WIDTH as u64, WIDTH as u64], values)]
    };
    for bits in [2, 4, 8] {
        for block in [16, 32, 64, 128, 256] {
            for symmetric in [true, false] {
                let kind = if symmetric { "symmetric" } else { "asymmetric" };
                let recipe = format!("int{bits},block={block},{kind}");
                let loaded = loaded(&variant(&model, &recipe).bytes).await;
                // The layer gives what is above zero, so it is asked for both signs.
                let above = read(&loaded.run(identity(1.0)).await.expect("an answer")[0]);
                let below = read(&loaded.run(identity(-1.0)).await.expect("an answer")[0]);
                for output in 0..WIDTH {
                    let column: Vec<f32> = (0..WIDTH).map(|input| weights[input * WIDTH + output]).collect();
                    let expected: Vec<f32> =
                        column.chunks(block).flat_map(|block| rounded(block, bits, symmetric)).collect();
                    for (input, expected) in expected.iter().enumerate() {
                        let at = input * WIDTH + output;
                        let computed = above[at] - below[at];
                        assert!(
                            (computed - expected).abs() < 1e-6,
                            "{recipe}: {computed} for {expected} at {at}"
                        );
                    }
                }
            }
        }
    }
}

/// Largest difference, over the largest value.
fn error(reference: &Tensor, answer: &Tensor) -> f32 {
    let (reference, answer) = (read(reference), read(answer));
    assert!(answer.iter().all(|value| value.is_finite()), "{answer:?}");
    let largest = reference.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let off = reference.iter().zip(&answer).map(|(wanted, got)| (wanted - got).abs());
    off.fold(0f32, f32::max) / largest
}

#[tokio::test]
async fn variants_are_as_near_as_their_bits_allow_and_as_small() {
    const WIDTH: usize = 80;
    let scale = (3.0 / WIDTH as f32).sqrt();
    let layer =
        |seed| little(&noise(seed, WIDTH * WIDTH).iter().map(|value| value * scale).collect::<Vec<_>>());
    let model = graphs::dense(WIDTH as u64, &[layer(1), layer(2), layer(3)]);
    let inputs = || vec![floats("x", &[5, WIDTH as u64], noise(9, 5 * WIDTH).into_iter())];
    let reference = loaded(&model).await.run(inputs()).await.expect("an answer");
    let mixed = "default = \"int4,block=16\"\n[[layer]]\nname = \"w1\"\nprecision = \"int8-dynamic\"\n\
                 [[layer]]\nname = \"w*\"\nprecision = \"int8\"\n";
    // Of 80 weights in a column: what they take, a scale of 32 bits for each block, its zero point, and what fills up.
    let cases = [
        ("fp16", 1e-3, 16.0),
        ("int8,block=16,asymmetric", 0.015, 8.0 + 32.0 / 16.0 + 8.0 / 16.0),
        ("int8", 0.012, (8.0 * 96.0 + 3.0 * 32.0) / 80.0),
        ("int8-dynamic", 0.02, 8.0 + 32.0 / 80.0),
        (mixed, 0.02, (8.4 + 10.8 + 10.8) / 3.0),
        ("int4,block=16,asymmetric", 0.2, 4.0 + 32.0 / 16.0 + 24.0 / 80.0),
        ("int4,block=16", 0.2, 4.0 + 32.0 / 16.0),
        ("int4,block=128", 0.3, (4.0 * 128.0 + 32.0) / 80.0),
        // No more than the sign of most sums.
        ("int2,block=16,asymmetric", 1.0, 2.0 + 32.0 / 16.0 + 16.0 / 80.0),
    ];
    for (recipe, bound, bits) in cases {
        let variant = variant(&model, recipe);
        let answer = loaded(&variant.bytes).await.run(inputs()).await.expect("an answer");
        let error = error(&reference[0], &answer[0]);
        assert!(error <= bound, "{recipe}: {error}");
        assert!(error > 0.0, "{recipe} changes something");
        let found = variant.report.bits_per_changed_weight;
        assert!((found - bits).abs() < 1e-9, "{recipe}: {found}");
        assert_eq!((variant.report.changed.len(), variant.report.left.len()), (3, 0), "{recipe}");
    }
    let small = variant(&model, "int4,block=16");
    let half = variant(&small.bytes, "fp16");
    assert!(half.bytes.len() < small.bytes.len(), "its scales take half as much");
    let answer = loaded(&half.bytes).await.run(inputs()).await.expect("an answer");
    assert!(error(&reference[0], &answer[0]) <= 0.2, "four bits, in half precision");
}

#[tokio::test]
async fn an_answer_of_int8_dynamic_depends_on_what_it_shares_a_step_with() {
    const WIDTH: usize = 80;
    let model = graphs::dense(WIDTH as u64, &[little(&noise(1, WIDTH * WIDTH))]);
    let small = noise(2, WIDTH);
    let large = noise(3, WIDTH).into_iter().map(|value| value * 100.0);
    let alone = vec![floats("x", &[1, WIDTH as u64], small.clone().into_iter())];
    let shared = vec![floats("x", &[2, WIDTH as u64], small.into_iter().chain(large))];
    // How far the row is from its answer alone, over the largest value of that.
    let mut apart = BTreeMap::new();
    for recipe in ["int8-dynamic", "int8", "fp16"] {
        let loaded = loaded(&variant(&model, recipe).bytes).await;
        let alone = read(&loaded.run(alone.clone()).await.expect("an answer")[0]);
        let shared = read(&loaded.run(shared.clone()).await.expect("an answer")[0]);
        let largest = alone.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let off = alone.iter().zip(&shared).map(|(alone, shared)| (alone - shared).abs());
        apart.insert(recipe, off.fold(0f32, f32::max) / largest);
    }
    assert!(apart["int8-dynamic"] > 0.1, "{apart:?}");
    assert!(apart["int8"] < 1e-5 && apart["fp16"] < 1e-3, "{apart:?}");
}

#[tokio::test]
async fn half_precision_norms_values_whose_squares_it_has_no_numbers_for() {
    let model = graphs::norm();
    let large = vec![floats("x", &[2, 4], [-900.0, 40.0, 700.0, 3.0, 0.5, -300.0, 800.0, 10.0].into_iter())];
    // All the same, so that the variance is nothing: in half precision the epsilon would be too.
    let same = vec![floats("x", &[2, 4], std::iter::repeat_n(0.5, 8))];
    let (reference, half) = (loaded(&model).await, loaded(&variant(&model, "fp16").bytes).await);
    let wanted = reference.run(large.clone()).await.expect("an answer");
    let answer = half.run(large).await.expect("an answer");
    assert!(error(&wanted[0], &answer[0]) < 1e-3);
    assert_eq!(read(&half.run(same).await.expect("an answer")[0]), [0.0; 8]);
}

/// The five inputs that the model's gate has, and the answers to them.
async fn answers(model: &[u8], inputs: &str) -> Vec<Vec<Tensor>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/inputs").join(inputs);
    let inputs: GateInputs =
        serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("gate inputs");
    let loaded = loaded(model).await;
    let mut answers = Vec::new();
    for inputs in inputs.tensors().expect("tensors") {
        answers.push(loaded.run(inputs).await.expect("an answer"));
    }
    answers
}

#[tokio::test]
async fn real_models_pass_the_gate_in_lower_precision() {
    let cases = [
        ("silero-vad.json", silero(), "fp16", 0.53),
        ("magika.json", magika(), "fp16", 0.51),
        ("magika.json", magika(), "int8-dynamic", 0.89),
        ("magika.json", magika(), "int8", 0.89),
        ("magika.json", magika(), "int4", 0.87),
    ];
    for (inputs, path, recipe, size) in cases {
        let case = format!("{} {recipe}", path.display());
        let model = std::fs::read(&path).expect("a model");
        let variant = variant(&model, recipe);
        assert!((variant.bytes.len() as f64) < model.len() as f64 * size, "{case}: {}", variant.bytes.len());
        let verdict =
            compare(&answers(&model, inputs).await, &answers(&variant.bytes, inputs).await, Tolerance::FP16);
        assert_eq!(verdict.status, VerdictStatus::Verified, "{case}: {}", verdict.detail);
    }
}
