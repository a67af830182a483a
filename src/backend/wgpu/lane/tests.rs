//! What a lane's engine does when its device is lost, and how much it keeps.

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    domain::{Datatype, DimBinding},
    onnx::{
        build::{bytes, model, node, port, size, symbol},
        proto::{GraphProto, element},
    },
};

fn session() -> SessionName {
    SessionName { model: Digest::new([7; 32]), shapes: DimBinding::new() }
}

/// With `y = -x` loaded. No adapter at all is a skip; in CI, which brings one, it is a failure.
#[allow(clippy::print_stderr, reason = "a skip is said")]
fn loaded() -> Option<(Sessions, watch::Receiver<LaneMemory>, TempDir)> {
    let Some(info) = Device::list().into_iter().next() else {
        let message = "skipped: no adapter; Debian's mesa-vulkan-drivers brings one";
        assert!(std::env::var_os("CI").is_none(), "{message}");
        eprintln!("{message}");
        return None;
    };
    let dims = [symbol("n"), size(4)];
    let graph = GraphProto {
        name: "test".to_owned(),
        node: vec![node("Neg", &["x"], &["y"])],
        input: vec![port("x", element::FLOAT, &dims)],
        output: vec![port("y", element::FLOAT, &dims)],
        ..GraphProto::default()
    };
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = home.path().join("model.onnx");
    std::fs::write(&path, bytes(&model(graph))).expect("writable");
    let (memory, told) = watch::channel(LaneMemory::default());
    let mut sessions = Sessions::new(Device::open(&info).expect("a listed adapter opens"), memory);
    let order = LoadOrder { session: session(), path, delivery: None };
    let placement = sessions.load(order).expect("a good model").placement;
    assert_eq!(placement, BTreeMap::from([("wgpu".to_owned(), 1)]));
    Some((sessions, told, home))
}

fn run(sessions: &mut Sessions, rows: usize) -> Result<Vec<f32>, BackendError> {
    let values: Vec<u8> = (0..rows * 4).flat_map(|at| (at as f32).to_le_bytes()).collect();
    let shape = vec![rows as u64, 4];
    let x = Tensor { name: "x".to_owned(), datatype: Datatype::Fp32, shape, body: values.into() };
    let cancelled = CancellationToken::new();
    let step = Step { session: session(), inputs: vec![x], outputs: Vec::new(), keeping: None, cancelled };
    let y = sessions.execute(step)?.outputs.remove(0).body.contiguous();
    Ok(y.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
}

fn negated(rows: usize) -> Vec<f32> {
    (0..rows * 4).map(|at| -(at as f32)).collect()
}

#[test]
fn a_lost_device_costs_one_step_and_is_opened_again() {
    let Some((mut sessions, told, _home)) = loaded() else { return };
    assert_eq!(run(&mut sessions, 3).expect("an answer"), negated(3));
    assert!(told.borrow().gpu_bytes > 0);
    drop(sessions.device.as_ref().expect("it is there").lose("the driver was reset".to_owned()));
    let lost = run(&mut sessions, 3).expect_err("nobody computes");
    assert_eq!((lost.code(), lost.retry()), (Code::LaneLost, Retry::Elsewhere), "{lost}");
    assert!(lost.to_string().contains("the driver was reset"), "{lost}");
    assert_eq!(told.borrow().gpu_bytes, 0);
    assert_eq!(run(&mut sessions, 3).expect("another device"), negated(3));
}

#[test]
fn a_session_keeps_few_programs_and_frees_all() {
    let Some((mut sessions, told, _home)) = loaded() else { return };
    for rows in 1..=PROGRAMS_MAX + 2 {
        assert_eq!(run(&mut sessions, rows).expect("an answer"), negated(rows));
    }
    assert_eq!(sessions.loaded[&session()].programs.len(), PROGRAMS_MAX);
    let held = told.borrow().gpu_bytes;
    assert_eq!(run(&mut sessions, PROGRAMS_MAX).expect("an answer"), negated(PROGRAMS_MAX));
    assert_eq!(told.borrow().gpu_bytes, held, "a program that is there is not made again");
    // As when memory runs out.
    sessions.clear();
    assert_eq!(told.borrow().gpu_bytes, 0);
    assert_eq!(run(&mut sessions, 1).expect("an answer"), negated(1));
    sessions.unload(&session()).expect("it was loaded");
    assert_eq!(told.borrow().gpu_bytes, 0);
    assert!(matches!(run(&mut sessions, 1), Err(BackendError::NotLoaded { .. })));
}
