//! ONNX's own tests of single operators, by the plain interpreter of our kernels.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::Value;
use weft::{
    domain::{Datatype, Tensor},
    kernels::lower::LowerError,
};

use crate::{
    lowered::{computed, lower, wrong},
    python, run,
};

/// What operators that are covered refuse, and in how many tests.
const REFUSED: [(&str, usize); 22] = [
    ("Attention", 27),
    ("AveragePool", 6),
    ("BatchNormalization", 2),
    ("Cast", 2),
    ("ConvTranspose", 1),
    ("Dropout", 6),
    ("Einsum", 2),
    ("EyeLike", 1),
    ("GatherElements", 2),
    ("LSTM", 1),
    ("LayerNormalization", 19),
    ("MaxPool", 7),
    ("Mod", 4),
    ("OneHot", 6),
    ("Pow", 2),
    ("Range", 3),
    ("ReduceMax", 1),
    ("Resize", 29),
    ("ScatterElements", 4),
    ("ScatterND", 6),
    ("Tile", 1),
    ("Upsample", 1),
];

/// Tests that pass at least: more operators make more of them, and none may be lost unseen.
const PASSED: usize = 1_109;

/// A query that may see no key: the newest text wants zeros there, ONNX Runtime's kernels and ours give the mean.
const MEAN_OF_NONE: [&str; 2] = [
    "test_attention_23_boolmask_fullymasked_row_nan_robustness",
    "test_attention_causal_boolmask_nan_robustness",
];

fn tensors(told: &Value) -> Vec<Tensor> {
    let tensor = |told: &Value| Tensor {
        name: told["name"].as_str().unwrap().to_owned(),
        datatype: told["datatype"].as_str().unwrap().parse().unwrap(),
        shape: told["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect(),
        body: BASE64_STANDARD.decode(told["data"].as_str().unwrap()).unwrap().into(),
    };
    told.as_array().unwrap().iter().map(tensor).collect()
}

/// How a test ended.
enum Ended {
    Passed,
    /// The operator is not among those that kernels cover.
    Uncovered(String),
    /// By what it says, an operator that is covered.
    Refused(String),
    Wrong(String),
}

fn tried(folder: &Path, name: &str) -> Ended {
    let read = |kind: &str| std::fs::read(folder.join(format!("{name}.{kind}"))).unwrap();
    let case: Value = serde_json::from_slice(&read("json")).unwrap();
    let file: Bytes = read("onnx").into();
    let (inputs, outputs) = (tensors(&case["inputs"]), tensors(&case["outputs"]));
    let routine = match lower(&file, &inputs) {
        Ok(routine) => routine,
        Err(LowerError::Unsupported { operator, why, .. }) if why.starts_with("is not among") => {
            return Ended::Uncovered(operator);
        }
        Err(LowerError::Unsupported { operator, .. }) => return Ended::Refused(operator),
        Err(LowerError::Datatype { datatype, .. } | LowerError::Computed { datatype }) => {
            return Ended::Uncovered(datatype.to_string());
        }
        Err(LowerError::Weight { problem, .. }) => return Ended::Uncovered(problem.to_owned()),
        Err(LowerError::Onnx(error)) => return Ended::Uncovered(error.to_string()),
        Err(error) => return Ended::Refused(error.to_string()),
    };
    let found = match computed(&routine, &file, &BTreeMap::new(), &inputs) {
        Ok(found) => found,
        Err(error) => return Ended::Wrong(error),
    };
    let [told, absolute] = ["rtol", "atol"].map(|name| case[name].as_f64().unwrap());
    // Kernels compute halves in 32 bits and round at the end, where the tests round on the way.
    let relative = |tensor: &Tensor| match tensor.datatype {
        Datatype::Bf16 => 0.016,
        Datatype::Fp16 => 0.002,
        _ => told,
    };
    let wrong = found
        .iter()
        .zip(&outputs)
        .find_map(|(found, wanted)| wrong(found, wanted, relative(found), absolute));
    match wrong {
        Some(wrong) => Ended::Wrong(wrong),
        None if found.len() < outputs.len() => Ended::Wrong(format!("{} outputs", found.len())),
        None => Ended::Passed,
    }
}

#[tokio::test]
async fn onnx_s_own_tests_of_operators() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    run(&python, "nodes.py", &[folder.path().to_str().unwrap()]).await;
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.filter_map(|name| name.to_str()?.strip_suffix(".onnx").map(str::to_owned));
    let (mut passed, mut uneven, mut wrong) = (0, 0, Vec::new());
    let mut uncovered: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        match tried(folder.path(), &name) {
            Ended::Passed => passed += 1,
            Ended::Uncovered(why) => *uncovered.entry(why).or_default() += 1,
            Ended::Refused(why) => *refused.entry(why).or_default() += 1,
            Ended::Wrong(_) if MEAN_OF_NONE.contains(&name.as_str()) => uneven += 1,
            Ended::Wrong(what) => wrong.push(format!("{name}: {what}")),
        }
    }
    eprintln!("passed {passed}, refused {refused:?}, not covered {uncovered:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let told: BTreeMap<String, usize> =
        REFUSED.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
    assert_eq!(refused, told, "what covered operators refuse");
    assert_eq!(uneven, MEAN_OF_NONE.len(), "what sees no key");
    assert!(passed >= PASSED, "{passed} passed");
}
