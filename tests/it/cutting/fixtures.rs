//! The models that the fixtures have, and those that are converted.

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus, seq::index};
use serde_json::Value;
use weft::domain::{Datatype, Share};

use super::*;
use crate::{
    checkpoints::{FAMILIES, Original, TOLERANCE, complete, difference, written},
    native::cached,
    support::graphs::{self, FLOAT, enclosed, field, graph, node, number, port, text},
};

/// The inputs of a file of the fixtures, one set each.
fn inputs(name: &str) -> Vec<Vec<Tensor>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/inputs").join(name);
    let text = std::fs::read_to_string(path).expect("a committed file");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    let sets = read["inputs"].as_array().expect("sets");
    sets.iter().map(|set| set.as_object().expect("a set").iter().map(read_tensor).collect()).collect()
}

fn read_tensor((name, value): (&String, &Value)) -> Tensor {
    let datatype: Datatype = value["datatype"].as_str().expect("a datatype").parse().expect("a datatype");
    let shape = value["shape"].as_array().expect("a shape").iter().map(|size| size.as_u64().expect("a size"));
    let numbers =
        value["data"].as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number"));
    let bytes: Vec<u8> = match datatype {
        Datatype::Fp32 => numbers.flat_map(|number| (number as f32).to_le_bytes()).collect(),
        Datatype::Int32 => numbers.flat_map(|number| (number as i32).to_le_bytes()).collect(),
        Datatype::Int64 => numbers.flat_map(|number| (number as i64).to_le_bytes()).collect(),
        other => panic!("{name} is of {other}"),
    };
    Tensor { name: name.clone(), datatype, shape: shape.collect(), body: bytes.into() }
}

/// Cuts at each of these sets of boundaries and compares with the whole.
async fn compare(engine: &Engine, name: &str, file: &Bytes, inputs: &[Tensor], cuts: &[Vec<usize>]) {
    let whole = read(file, inputs);
    let wanted = engine.run(file, inputs.to_vec()).await.expect("the whole runs");
    for cut in cuts {
        let shards = whole.at(cut).unwrap_or_else(|error| panic!("{name} at {cut:?}: {error}"));
        same(&wanted, &engine.chained(&shards, inputs).await, &format!("{name} at {cut:?}"));
    }
}

/// Every single frontier, and every unit alone.
fn all(units: usize) -> Vec<Vec<usize>> {
    (1..units).map(|at| vec![at]).chain([(1..units).collect()]).collect()
}

/// Some frontiers alone, some in twos, threes and more.
fn some(units: usize, seed: u64, cuts: usize) -> Vec<Vec<usize>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut cut = |at: usize| {
        let many = (1 + at % 4).min(units - 1);
        let mut cut: Vec<_> = index::sample(&mut random, units - 1, many).iter().map(|at| at + 1).collect();
        cut.sort_unstable();
        cut
    };
    (0..cuts).map(&mut cut).collect()
}

#[tokio::test]
async fn every_frontier_of_the_small_models() {
    for (path, set) in [
        ("silero-vad-6.2.3/silero_vad_16k_op15.onnx", "silero-vad.json"),
        ("magika-1.0.3/model.onnx", "magika.json"),
    ] {
        let file = Bytes::from(std::fs::read(cached(path)).expect("readable"));
        let sets = inputs(set);
        let units = read(&file, &sets[0]).chain().units.len();
        assert!(units > 10, "{path} has {units} units");
        compare(&Engine::new(), path, &file, &sets[0], &all(units)).await;
        for set in &sets[1..] {
            compare(&Engine::new(), path, &file, set, &some(units, 1, 2)).await;
        }
    }
}

#[tokio::test]
async fn frontiers_of_the_models_that_read_images() {
    for (path, set) in [
        ("rapidocr-1.4.4/ch_PP-OCRv4_det_infer.onnx", "ocr-detection.json"),
        ("rapidocr-1.4.4/ch_PP-OCRv4_rec_infer.onnx", "ocr-recognition.json"),
        ("rapidocr-1.4.4/ch_ppocr_mobile_v2.0_cls_infer.onnx", "ocr-direction.json"),
    ] {
        let file = Bytes::from(std::fs::read(cached(path)).expect("readable"));
        let sets = inputs(set);
        let units = read(&file, &sets[0]).chain().units.len();
        assert!(units > 100, "{path} has {units} units");
        compare(&Engine::new(), path, &file, &sets[0], &some(units, 2, 6)).await;
    }
}

#[tokio::test]
async fn frontiers_of_converted_models() {
    let engine = Engine::new();
    for family in FAMILIES {
        let original = Original::read(family);
        let mut encoded = Vec::new();
        for part in original.parts() {
            let file = Bytes::from(written(&part));
            let signature = onnx::analyse(&file).expect("a good graph").signature;
            let cases = original.cases(part.name);
            let (inputs, _) = cases.get("two").or(cases.values().next()).expect("a case");
            let inputs = complete(&signature, inputs.clone(), &encoded);
            let name = format!("{family}/{}", part.name);
            let whole = read(&file, &inputs);
            assert!(whole.bonds().is_empty(), "{name}: {:?}", whole.bonds());
            let units = whole.chain().units.len();
            compare(&engine, &name, &file, &inputs, &some(units, 3, 4)).await;
            if part.name == "encoder" {
                encoded = engine.run(&file, inputs).await.expect("it runs");
            }
        }
    }
}

/// Each way of a split product is a stage of its own; only the order of their sum differs. Says how many frontiers there are.
async fn dealt_out(engine: &Engine, name: &str, file: &Bytes, inputs: &[Tensor], ways: usize) -> usize {
    let wanted = engine.run(file, inputs.to_vec()).await.expect("the whole runs");
    let whole = Whole::read_split(file, digest(), &sizes(file, inputs), ways)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let units = &whole.chain().units;
    let told = |share| units.iter().filter(|unit| unit.share == Some(share)).count();
    let numbers = 0..ways as u32;
    assert!(numbers.clone().all(|way| told(Share::Way(way)) > 1 && told(Share::Sum) > 0), "{name}");
    assert_eq!(told(Share::Way(ways as u32)), 0, "{name}");
    let boundaries = (1..units.len()).filter(|at| units[*at].share != units[at - 1].share);
    let shards = whole.at(&boundaries.collect::<Vec<_>>()).expect("frontiers");
    let values = engine.chained(&shards, inputs).await;
    for output in &wanted {
        let off = difference(output, &values[&output.name]);
        assert!(off < TOLERANCE, "{name} in {ways} ways: {} is off by {off:.1e}", output.name);
    }
    shards.len() - 1
}

#[tokio::test]
async fn products_split_several_ways_add_up() {
    let engine = Engine::new();
    let mut split = 0;
    for family in ["bert", "llama", "t5-gated", "vit"] {
        let original = Original::read(family);
        let part = original.parts().into_iter().next().expect("a part");
        let file = Bytes::from(written(&part));
        let signature = onnx::analyse(&file).expect("a good graph").signature;
        let cases = original.cases(part.name);
        let (inputs, _) = cases.values().next().expect("a case");
        let inputs = complete(&signature, inputs.clone(), &[]);
        for ways in [2, 4] {
            split += dealt_out(&engine, family, &file, &inputs, ways).await;
        }
    }
    assert!(split > 40, "{split} frontiers");
}

/// `Gemm` adds its bias itself: the first one's is dealt out, the second one's added once.
#[tokio::test]
async fn products_with_a_bias_of_their_own_add_up() {
    let engine = Engine::new();
    let values = |many: usize, step: usize| -> Vec<u8> {
        (0..many).flat_map(|at| ((at * step % 11) as f32 / 10.0 - 0.5).to_le_bytes()).collect()
    };
    let tensor = |name: &str, dims: &[u64], step| {
        let many = dims.iter().product::<u64>() as usize;
        let dims: Vec<u8> = dims.iter().flat_map(|size| number(1, *size)).collect();
        [dims, number(2, FLOAT), text(8, name), field(9, &values(many, step))].concat()
    };
    for turned in [false, true] {
        let gemm = |inputs: &[&str], output| {
            let attribute = [text(1, "transB"), number(3, u64::from(turned)), number(20, 2)].concat();
            [node("Gemm", inputs, &[output]), field(5, &attribute)].concat()
        };
        let dims = |rows, columns| if turned { [columns, rows] } else { [rows, columns] };
        let nodes = [gemm(&["x", "u", "c"], "a"), node("Relu", &["a"], &["b"]), gemm(&["b", "v", "d"], "y")];
        let port = |name| port(name, FLOAT, &[graphs::Dim::Symbol("n"), graphs::Dim::Size(4)]);
        let weights = [
            tensor("u", &dims(4, 8), 3),
            tensor("c", &[8], 5),
            tensor("v", &dims(8, 4), 7),
            tensor("d", &[4], 9),
        ];
        let file = Bytes::from(enclosed(&graph(&nodes, &[port("x")], &[port("y")], &weights)));
        let inputs = [Tensor {
            name: "x".to_owned(),
            datatype: Datatype::Fp32,
            shape: vec![3, 4],
            body: values(12, 2).into(),
        }];
        for ways in [2, 4] {
            assert_eq!(dealt_out(&engine, "two of Gemm", &file, &inputs, ways).await, ways, "{turned}");
        }
    }
}

/// What passes in half precision is rounded on the way, and nothing else differs.
#[tokio::test]
async fn values_pass_in_half_precision() {
    let engine = Engine::new();
    for family in ["bert", "llama", "vit"] {
        let original = Original::read(family);
        let part = original.parts().into_iter().next().expect("a part");
        let file = Bytes::from(written(&part));
        let signature = onnx::analyse(&file).expect("a good graph").signature;
        let cases = original.cases(part.name);
        let (inputs, _) = cases.values().next().expect("a case");
        let inputs = complete(&signature, inputs.clone(), &[]);
        let wanted = engine.run(&file, inputs.clone()).await.expect("the whole runs");
        let whole = read(&file, &inputs).in_half();
        let units = whole.chain().units.len();
        let shards = whole.at(&[units / 3, units / 2, units * 2 / 3]).expect("frontiers");
        let values = engine.chained(&shards, &inputs).await;
        assert!(values.values().any(|value| value.datatype == Datatype::Fp16), "{family}");
        let off = wanted.iter().map(|output| difference(output, &values[&output.name])).fold(0.0, f64::max);
        assert!((1e-7..1e-2).contains(&off), "{family}: {off:.1e}");
    }
}

/// Weights beside a graph are read where they lie, and out of a file of each shard's own.
#[tokio::test]
async fn weights_beside_a_graph_serve_its_shards() {
    let engine = Engine::new();
    let original = Original::read("bert");
    let part = original.parts().into_iter().next().expect("a part");
    let (mut file, mut weights) = (Vec::new(), Vec::new());
    part.write_external(&mut file, &mut weights, "weights.bin").expect("memory takes it");
    std::fs::write(engine.home.path().join("weights.bin"), &weights).expect("writable");
    let file = Bytes::from(file);
    let cases = original.cases(part.name);
    let (inputs, _) = cases.values().next().expect("a case");
    let wanted = engine.run(&file, inputs.clone()).await.expect("the whole runs");
    let whole = read(&file, inputs);
    let units = whole.chain().units.len();
    let shards = whole.at(&[units / 3, units / 2]).expect("frontiers");
    same(&wanted, &engine.chained(&shards, inputs).await, "in place");

    let together = |shard: &Shard<'_>| {
        let mut own = Vec::new();
        for piece in shard.pieces() {
            own.resize(piece.to as usize, 0);
            own.extend_from_slice(&weights[piece.from as usize..(piece.from + piece.bytes) as usize]);
        }
        assert!((own.len() as u64) < weights.len() as u64, "its own weights alone");
        std::fs::write(engine.home.path().join("own.bin"), own).expect("writable");
        let mut file = Vec::new();
        shard.write_beside("own.bin", &mut file).expect("memory takes it");
        file.into()
    };
    same(&wanted, &engine.chained_as(&together, &shards, inputs).await, "together");
}
