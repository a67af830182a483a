//! Whole models: real ones against native ONNX Runtime, and one of every architecture that weft converts against `PyTorch`.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft::{
    domain::{Datatype, Tensor, VerdictStatus},
    models::gate::{compare, seeded},
    onnx::{analyse, open},
};

use crate::{
    checkpoints::{FAMILIES, Original, TOLERANCE, cases, committed, complete, difference, named, written},
    lowered::{computed, lower},
    native::{floats, load, magika, silero},
    precision::noise,
};

fn interpreted(file: &Bytes, inputs: &[Tensor]) -> Vec<Tensor> {
    let routine = lower(file, inputs).unwrap_or_else(|error| panic!("{error}"));
    computed(&routine, file, &BTreeMap::new(), inputs).expect("good inputs")
}

fn rate(value: i64) -> Tensor {
    let body = value.to_le_bytes().to_vec().into();
    Tensor { name: "sr".to_owned(), datatype: Datatype::Int64, shape: Vec::new(), body }
}

fn spoken(batch: u64, seed: u32) -> Vec<Tensor> {
    let audio = noise(seed, 576 * batch as usize);
    let state = noise(seed + 1, 256 * batch as usize);
    vec![
        floats("input", &[batch, 576], audio.into_iter()),
        floats("state", &[2, batch, 128], state.into_iter()),
        rate(16_000),
    ]
}

#[tokio::test]
async fn silero_takes_one_of_its_branches() {
    let (file, analysis) = open(&silero()).expect("a good model");
    let loaded = load(&silero(), 1).await;
    for batch in [1, 3] {
        let sets: Vec<_> = (0..3).map(|seed| spoken(batch, seed)).collect();
        let (mut wanted, mut found) = (Vec::new(), Vec::new());
        for inputs in sets {
            found.push(interpreted(&file, &inputs));
            wanted.push(loaded.run(inputs).await.expect("a good request"));
        }
        let verdict = compare(&wanted, &found, analysis.tolerance);
        assert_eq!(verdict.status, VerdictStatus::Verified, "{batch}: {}", verdict.detail);
    }
}

#[tokio::test]
async fn magika_tells_types_apart() {
    let (file, analysis) = open(&magika()).expect("a good model");
    let inputs = seeded(&analysis.signature, &analysis.ranges, &[vec![1, 2048]], 42, 1).remove(0);
    let found = interpreted(&file, &inputs);
    let wanted = load(&magika(), 1).await.run(inputs).await.expect("a good request");
    let off = difference(&wanted[0], &found[0]);
    assert!(off <= TOLERANCE, "off by {off:.1e}");
}

#[test]
fn every_architecture_computes_what_pytorch_does() {
    let mut wrong = Vec::new();
    for family in FAMILIES {
        let original = Original::read(family);
        let mut encoded = Vec::new();
        for part in original.parts() {
            let file: Bytes = written(&part).into();
            let signature = analyse(&file).expect("a good graph").signature;
            for (name, (inputs, outputs)) in original.cases(part.name) {
                let title = format!("{family}/{}/{name}", part.name);
                let inputs = complete(&signature, inputs, &encoded);
                let routine = match lower(&file, &inputs) {
                    Ok(routine) => routine,
                    Err(error) => {
                        wrong.push(format!("{title}: {error}"));
                        continue;
                    }
                };
                let found = match computed(&routine, &file, &BTreeMap::new(), &inputs) {
                    Ok(found) => found,
                    Err(error) => {
                        wrong.push(format!("{title}: {error}"));
                        continue;
                    }
                };
                let off = outputs.iter().map(|wanted| difference(wanted, named(&found, &wanted.name)));
                let worst = off.fold(0.0, f64::max);
                if worst.is_nan() || worst > TOLERANCE {
                    wrong.push(format!("{title}: off by {worst:.1e}"));
                }
                if part.name == "encoder" && name == "two" {
                    encoded = found;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of the kinds that weft does not convert.
#[test]
fn what_pytorch_exported_computes_what_pytorch_does() {
    for name in ["detr", "xclip", "clap"] {
        let file = committed(name, "model.onnx");
        for (inputs, outputs) in cases(&Original::outputs(name), "model").into_values() {
            let found = interpreted(&file, &inputs);
            for wanted in outputs {
                let off = difference(&wanted, named(&found, &wanted.name));
                assert!(off <= TOLERANCE, "{name}: {} is off by {off:.1e}", wanted.name);
            }
        }
    }
}
