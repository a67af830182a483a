//! The native lane against the real engine, on hand-built models; the worker on states of its own.

use std::{collections::BTreeMap, path::Path, sync::mpsc};

use tokio_util::sync::CancellationToken;

use super::{OrtError, OrtLane, OrtLibrary, library};
use crate::{
    backend::{
        Backend, BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput,
        worker::{Dropped, QUEUE, Worker},
    },
    domain::{Body, Code, Datatype, Digest, DimBinding, Retry, Tensor},
    onnx::{
        build::{bytes, model, node, port, size, symbol},
        proto::{GraphProto, NodeProto, ValueInfoProto, element},
    },
};

const LIBRARY: &str = concat!(env!("WEFT_NATIVE_DIR"), "/libonnxruntime.so.1");

fn lane() -> OrtLane {
    let library = OrtLibrary::load(Path::new(LIBRARY)).expect("`make setup` has brought the library");
    OrtLane::start(&library, "cpu", 1).expect("the CPU is always there")
}

fn session(shapes: &[(&str, u64)]) -> SessionName {
    let shapes = shapes.iter().map(|(symbol, size)| ((*symbol).to_owned(), *size)).collect::<DimBinding>();
    SessionName { model: Digest::new([7; 32]), shapes }
}

/// Loads the file's bytes under the given name.
async fn load(lane: &OrtLane, session: SessionName, file: &[u8]) -> Result<Loaded, BackendError> {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("model.onnx");
    std::fs::write(&path, file).expect("writable");
    lane.load(LoadOrder { session, path, delivery: None }).await
}

async fn run(lane: &OrtLane, inputs: Vec<Tensor>, outputs: &[&str]) -> Result<StepOutput, BackendError> {
    let outputs = outputs.iter().map(|name| (*name).to_owned()).collect();
    lane.execute(Step {
        session: session(&[]),
        inputs,
        outputs,
        keeping: None,
        cancelled: CancellationToken::new(),
    })
    .await
}

fn tensor(name: &str, datatype: Datatype, shape: &[u64], body: impl Into<Body>) -> Tensor {
    Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), body: body.into() }
}

fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    tensor(
        name,
        Datatype::Fp32,
        shape,
        values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(),
    )
}

/// A model of the nodes, from `x` to the named outputs, all of the same type and shape.
fn graph(elem_type: i32, nodes: &[NodeProto], outputs: &[&str]) -> Vec<u8> {
    let dims = [symbol("batch"), size(2)];
    let graph = GraphProto {
        name: "test".to_owned(),
        node: nodes.to_vec(),
        input: vec![port("x", elem_type, &dims)],
        output: outputs.iter().map(|name| port(name, elem_type, &dims)).collect(),
        ..GraphProto::default()
    };
    bytes(&model(graph)).to_vec()
}

fn relu() -> Vec<u8> {
    graph(element::FLOAT, &[node("Relu", &["x"], &["y"]), node("Neg", &["x"], &["z"])], &["y", "z"])
}

#[test]
fn a_library_that_cannot_be_used_is_named() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert!(matches!(library::open(manifest.clone()), Err(OrtError::Library { .. })));

    let missing = OrtLibrary::load(Path::new("/nowhere/libonnxruntime.so.1")).expect_err("missing");
    assert_eq!(
        missing.to_string(),
        "ONNX Runtime's library /nowhere/libonnxruntime.so.1 is missing: `make setup` brings it"
    );
    assert_eq!(missing.retry(), Retry::Never);

    let library = OrtLibrary::load(Path::new(LIBRARY)).expect("`make setup` has brought the library");
    assert!(library.version().starts_with("1."), "{}", library.version());
    assert_eq!(library.engine(), format!("onnxruntime@{}/libonnxruntime.so.1", library.version()));
    assert!(OrtLibrary::load(Path::new(LIBRARY)).is_ok(), "the same file again");

    assert!(matches!(OrtLibrary::load(&manifest), Err(OrtError::AnotherLibrary { .. })));

    let provider = OrtLane::start(&library, "abacus", 1).err().expect("no such provider").to_string();
    assert!(
        provider.starts_with("this ONNX Runtime has no execution provider \"abacus\"; it has "),
        "{provider}"
    );
    assert!(provider.contains("cpu"), "{provider}");
    // Built in or not, it needs libraries of its own that the packages we use do not bring.
    let unusable = OrtLane::start(&library, "tensorrt", 1).err().expect("not usable").to_string();
    assert!(unusable.contains("execution provider \"tensorrt\""), "{unusable}");
}

#[tokio::test]
async fn every_datatype_goes_in_and_out_wherever_its_bytes_lie() {
    let text = b"\x02\0\0\0ab\0\0\0\0\x03\0\0\0\xe2\x82\xac\x01\0\0\0z".to_vec();
    let plain = |size: usize| (0..4 * size).map(|at| at as u8).collect::<Vec<u8>>();
    let cases = [
        (Datatype::Bool, element::BOOL, vec![0, 1, 1, 0]),
        (Datatype::Uint8, element::UINT8, plain(1)),
        (Datatype::Int8, element::INT8, plain(1)),
        (Datatype::Uint16, element::UINT16, plain(2)),
        (Datatype::Int16, element::INT16, plain(2)),
        (Datatype::Fp16, element::FLOAT16, plain(2)),
        (Datatype::Bf16, element::BFLOAT16, plain(2)),
        (Datatype::Uint32, element::UINT32, plain(4)),
        (Datatype::Int32, element::INT32, plain(4)),
        (Datatype::Fp32, element::FLOAT, plain(4)),
        (Datatype::Uint64, element::UINT64, plain(8)),
        (Datatype::Int64, element::INT64, plain(8)),
        (Datatype::Fp64, element::DOUBLE, plain(8)),
        (Datatype::Bytes, element::STRING, text),
    ];
    for (datatype, elem_type, bytes) in cases {
        let lane = lane();
        let file = graph(elem_type, &[node("Identity", &["x"], &["y"])], &["y"]);
        load(&lane, session(&[]), &file).await.unwrap_or_else(|error| panic!("{datatype}: {error}"));
        for shift in 0..9 {
            let shifted = bytes::Bytes::from([&vec![0; shift], bytes.as_slice()].concat()).slice(shift..);
            let mut parts = Body::from(shifted.slice(..1));
            parts.push(shifted.slice(1..));
            for body in [Body::from(shifted), parts] {
                let answer = run(&lane, vec![tensor("x", datatype, &[2, 2], body.clone())], &[]).await;
                let answer = answer.unwrap_or_else(|error| panic!("{datatype}: {error}"));
                assert_eq!(
                    answer.outputs,
                    [tensor("y", datatype, &[2, 2], body)],
                    "{datatype} shifted by {shift}"
                );
            }
        }
        if datatype != Datatype::Bytes {
            let none =
                run(&lane, vec![tensor("x", datatype, &[0, 2], vec![])], &[]).await.expect("an empty batch");
            assert_eq!(none.outputs, [tensor("y", datatype, &[0, 2], vec![])], "{datatype}");
        }
    }
}

#[tokio::test]
async fn outputs_come_as_asked_and_the_engine_says_who_computed() {
    let lane = lane();
    let loaded = load(&lane, session(&[]), &relu()).await.expect("a good model");
    assert_eq!(loaded.placement, BTreeMap::from([("cpu".to_owned(), 2)]));
    let again = load(&lane, session(&[]), b"not read").await.expect("loaded already");
    assert_eq!(again, loaded);

    let x = || vec![floats("x", &[1, 2], &[1.5, -2.0])];
    let (y, z) = (floats("y", &[1, 2], &[1.5, 0.0]), floats("z", &[1, 2], &[-1.5, 2.0]));
    let cases: [(&[&str], Vec<Tensor>); 4] = [
        (&[], vec![y.clone(), z.clone()]),
        (&["z"], vec![z.clone()]),
        (&["z", "y"], vec![z.clone(), y]),
        (&["z", "z"], vec![z]),
    ];
    for (asked, expected) in cases {
        assert_eq!(run(&lane, x(), asked).await.expect("a good request").outputs, expected, "{asked:?}");
    }
    lane.unload(session(&[])).await.expect("loaded");
    for error in [lane.unload(session(&[])).await.map(|()| None), run(&lane, x(), &[]).await.map(Some)] {
        assert!(matches!(error, Err(BackendError::NotLoaded { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn requests_that_do_not_fit_are_refused_and_the_next_one_is_served() {
    let lane = lane();
    load(&lane, session(&[]), &relu()).await.expect("a good model");
    let good = || floats("x", &[1, 2], &[1.0, 2.0]);
    let cases: Vec<(&str, Vec<Tensor>, Vec<&str>, &str)> = vec![
        ("no input", vec![], vec![], "Missing Input: x"),
        ("another name", vec![Tensor { name: "w".to_owned(), ..good() }], vec![], "w"),
        ("an input too many", vec![good(), Tensor { name: "w".to_owned(), ..good() }], vec![], "w"),
        ("another rank", vec![floats("x", &[2], &[1.0, 2.0])], vec![], "Invalid rank for input: x"),
        ("another size", vec![floats("x", &[1, 3], &[1.0; 3])], vec![], "invalid dimensions for input: x"),
        (
            "another datatype",
            vec![tensor("x", Datatype::Int32, &[1, 2], vec![0; 8])],
            vec![],
            "Unexpected input data type",
        ),
        (
            "fewer bytes",
            vec![tensor("x", Datatype::Fp32, &[1, 2], vec![0; 7])],
            vec![],
            "takes 8 bytes, 7 came",
        ),
        ("no such output", vec![good()], vec!["q"], "the model has no output \"q\""),
        ("a BOOL of 2", vec![tensor("x", Datatype::Bool, &[1, 2], vec![1, 2])], vec![], "a BOOL is 0 or 1"),
        (
            "no text",
            vec![tensor("x", Datatype::Bytes, &[1], b"\x01\0\0\0\xff".to_vec())],
            vec![],
            "element 0 is no text",
        ),
        (
            "text with a zero byte",
            vec![tensor("x", Datatype::Bytes, &[1], b"\x01\0\0\0\0".to_vec())],
            vec![],
            "input \"x\"",
        ),
        (
            "a huge shape",
            vec![tensor("x", Datatype::Fp32, &[u64::MAX, 2], vec![])],
            vec![],
            "more elements than",
        ),
        (
            "a large shape of nothing",
            vec![tensor("x", Datatype::Fp32, &[u64::MAX, 0], vec![])],
            vec![],
            "input \"x\"",
        ),
    ];
    for (case, inputs, outputs, expected) in cases {
        let error = run(&lane, inputs, &outputs).await.expect_err(case);
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert_eq!((error.code(), error.retry()), (Code::InvalidRequest, Retry::Never), "{case}: {error}");
        run(&lane, vec![good()], &[]).await.expect("the next request");
    }
}

#[tokio::test]
async fn fixed_dimensions_bind_a_session() {
    let lane = lane();
    let fixed = session(&[("batch", 3)]);
    load(&lane, fixed.clone(), &relu()).await.expect("a good model");
    let step = |batch: u64| Step {
        session: fixed.clone(),
        inputs: vec![floats("x", &[batch, 2], &vec![1.0; 2 * batch as usize])],
        outputs: vec![],
        keeping: None,
        cancelled: CancellationToken::new(),
    };
    assert_eq!(lane.execute(step(3)).await.expect("the fixed size").outputs[0].shape, [3, 2]);
    let error = lane.execute(step(1)).await.expect_err("another size");
    assert_eq!((error.code(), error.retry()), (Code::InvalidRequest, Retry::Never), "{error}");
}

#[tokio::test]
async fn models_that_cannot_be_loaded_are_refused() {
    let lane = lane();
    let unknown = graph(element::FLOAT, &[node("Abracadabra", &["x"], &["y"])], &["y"]);
    let dangling = graph(element::FLOAT, &[node("Relu", &["nothing"], &["y"])], &["y"]);
    for (case, file, expected) in [
        ("empty", Vec::new(), ""),
        ("text", b"<html>".to_vec(), "Protobuf parsing failed"),
        ("unknown operator", unknown, "Abracadabra"),
        ("dangling", dangling, "nothing"),
    ] {
        let error = load(&lane, session(&[]), &file).await.expect_err(case);
        assert!(
            matches!(error, BackendError::Load { .. }) && error.to_string().contains(expected),
            "{case}: {error}"
        );
        assert_eq!((error.code(), error.retry()), (Code::InvalidRequest, Retry::Never), "{case}: {error}");
    }
    load(&lane, session(&[]), &relu()).await.expect("the next model");
}

#[tokio::test]
async fn what_needs_more_memory_than_there_is_may_run_elsewhere() {
    let lane = lane();
    let graph = GraphProto {
        name: "test".to_owned(),
        node: vec![node("ConstantOfShape", &["shape"], &["y"])],
        input: vec![port("shape", element::INT64, &[size(1)])],
        output: vec![port("y", element::FLOAT, &[symbol("n")])],
        ..GraphProto::default()
    };
    load(&lane, session(&[]), &bytes(&model(graph))).await.expect("a good model");
    let shape = |elements: i64| vec![tensor("shape", Datatype::Int64, &[1], elements.to_le_bytes().to_vec())];
    let error = run(&lane, shape(1 << 48), &[]).await.expect_err("a pebibyte");
    assert_eq!((error.code(), error.retry()), (Code::OutOfMemory, Retry::Elsewhere), "{error}");
    assert_eq!(
        run(&lane, shape(3), &[]).await.expect("the next request").outputs,
        [floats("y", &[3], &[0.0; 3])]
    );
}

#[tokio::test]
async fn outputs_that_are_no_tensors_are_refused() {
    let lane = lane();
    let graph = GraphProto {
        name: "test".to_owned(),
        node: vec![node("SequenceConstruct", &["x"], &["y"])],
        input: vec![port("x", element::FLOAT, &[size(2)])],
        output: vec![ValueInfoProto { name: "y".to_owned(), r#type: None }],
        ..GraphProto::default()
    };
    load(&lane, session(&[]), &bytes(&model(graph))).await.expect("a good model");
    let error = run(&lane, vec![floats("x", &[2], &[1.0, 2.0])], &[]).await.expect_err("a sequence");
    assert!(error.to_string().starts_with("output \"y\" is a "), "{error}");
    assert_eq!((error.code(), error.retry()), (Code::Internal, Retry::Never), "{error}");
}

#[tokio::test]
async fn a_dropped_lane_says_when_it_is_gone() {
    let lane = lane();
    load(&lane, session(&[]), &relu()).await.expect("a good model");
    let lost = lane.lost();
    drop(lane);
    assert_eq!(lost.await, "the lane was closed");
}

/// A worker whose thread waits, so that what is queued meanwhile can be looked at; sending lets it go on.
fn held() -> (Worker<Vec<u32>>, mpsc::Sender<()>) {
    let worker = Worker::start("test".to_owned(), Vec::new()).expect("a thread");
    let (release, held) = mpsc::channel::<()>();
    let (started, start) = mpsc::channel();
    // The future may go: the job has begun by then.
    drop(worker.submit(Dropped::Runs, move |_| {
        started.send(()).expect("the test waits");
        held.recv().map_err(|_| BackendError::Lost { reason: "the test ended".to_owned() })
    }));
    start.recv().expect("the job begins");
    (worker, release)
}

fn note(
    worker: &Worker<Vec<u32>>,
    dropped: Dropped,
    number: u32,
) -> futures_util::future::BoxFuture<'static, Result<Vec<u32>, BackendError>> {
    worker.submit(dropped, move |seen| {
        seen.push(number);
        Ok(seen.clone())
    })
}

#[tokio::test]
async fn jobs_run_in_order_and_dropped_ones_are_skipped() {
    let (worker, release) = held();
    let first = note(&worker, Dropped::Skips, 1);
    drop(note(&worker, Dropped::Skips, 2));
    drop(note(&worker, Dropped::Runs, 3));
    let last = note(&worker, Dropped::Skips, 4);
    release.send(()).expect("the thread waits");
    assert_eq!(last.await.expect("an answer"), [1, 3, 4], "in the order of submission, not of waiting");
    assert_eq!(first.await.expect("an answer"), [1]);
}

#[tokio::test]
async fn a_full_queue_is_an_error_with_a_name() {
    let (worker, release) = held();
    let queued: Vec<_> = (0..QUEUE as u32).map(|number| note(&worker, Dropped::Skips, number)).collect();
    let error = note(&worker, Dropped::Skips, 99).await.expect_err("one too many");
    assert_eq!((error.code(), error.retry()), (Code::Overloaded, Retry::Same), "{error}");
    release.send(()).expect("the thread waits");
    for answer in queued {
        answer.await.expect("an answer");
    }
    note(&worker, Dropped::Skips, 100).await.expect("room again");
}

#[tokio::test]
async fn a_panic_loses_the_lane_with_its_words() {
    let (worker, release) = held();
    let panicking = worker.submit(Dropped::Skips, |_| -> Result<(), _> { panic!("planted") });
    let queued = note(&worker, Dropped::Skips, 1);
    release.send(()).expect("the thread waits");
    let reason = "the lane's thread panicked: planted";
    assert_eq!(worker.ended().await, reason);
    let later = note(&worker, Dropped::Skips, 2);
    for error in [panicking.await.map(|()| vec![]), queued.await, later.await] {
        let error = error.expect_err("the lane is lost");
        assert_eq!(error.to_string(), format!("lane lost: {reason}"));
        assert_eq!((error.code(), error.retry()), (Code::LaneLost, Retry::Elsewhere));
    }
}
