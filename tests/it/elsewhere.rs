//! A native lane in a process of its own, by the library that setup brings.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use weft::{
    backend::{
        Backend, BackendError, LoadOrder, SessionName, Step, StepOutput,
        ort::{OrtLane, OrtLibrary},
    },
    config::Library,
    domain::{Code, Digest, DimBinding, Retry},
    driver::ledger::RunDir,
};

use crate::{
    native::{floats, read},
    support::{LIBRARY, TestDaemon, graphs, home},
};

/// A run that nobody guards.
struct Run {
    dir: Arc<RunDir>,
    home: TempDir,
}

impl Run {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        Self { dir: RunDir::create(home.path()).expect("a run"), home }
    }

    fn lane(&self, library: &Path, provider: &str) -> Result<OrtLane, String> {
        let program = Path::new(env!("CARGO_BIN_EXE_weft"));
        let lane = OrtLane::start_elsewhere(program, &self.dir, library, provider, 1);
        lane.map_err(|error| error.to_string())
    }

    /// The processes that carry its mark.
    fn processes(&self) -> Vec<i32> {
        let mark = format!("WEFT_RUN={}", self.dir.path().display());
        let all = std::fs::read_dir("/proc").expect("Linux").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.dir.clear().expect("nothing is left");
    }
}

fn session() -> SessionName {
    SessionName { model: Digest::new([7; 32]), shapes: DimBinding::new() }
}

async fn load(lane: &OrtLane, path: PathBuf) -> Result<weft::backend::Loaded, BackendError> {
    lane.load(LoadOrder { session: session(), path, delivery: None }).await
}

async fn run(lane: &OrtLane) -> Result<StepOutput, BackendError> {
    let inputs = vec![floats("x", &[1, 4], [1.5, -2.0, 0.0, 4.0].into_iter())];
    let cancelled = CancellationToken::new();
    lane.execute(Step { session: session(), inputs, outputs: Vec::new(), keeping: None, cancelled }).await
}

#[tokio::test]
async fn a_lane_in_another_process_computes_what_one_in_this_does() {
    let here = Run::new();
    let lane = here.lane(Path::new(LIBRARY), "cpu").expect("a lane");
    let near = OrtLane::start(&OrtLibrary::load(Path::new(LIBRARY)).expect("the library"), "cpu", 1)
        .expect("a lane");
    assert_eq!(lane.environment(), near.environment());
    let path = here.home.path().join("neg.onnx");
    let before = run(&lane).await.expect_err("nothing is loaded");
    assert!(matches!(before, BackendError::NotLoaded { .. }), "{before}");
    let missing = load(&lane, path.clone()).await.expect_err("there is no file");
    assert!(matches!(&missing, BackendError::Load { .. }), "{missing}");
    std::fs::write(&path, graphs::neg()).expect("room for a file");
    let (loaded, expected) = (load(&lane, path.clone()).await, load(&near, path).await);
    assert_eq!(loaded.expect("a good model").placement, expected.expect("a good model").placement);
    let (answer, wanted) = (run(&lane).await.expect("an answer"), run(&near).await.expect("an answer"));
    assert_eq!(answer.outputs[0].name, wanted.outputs[0].name);
    assert_eq!(read(&answer.outputs[0]), [-1.5, 2.0, 0.0, -4.0]);
    lane.unload(session()).await.expect("it was loaded");
    assert!(matches!(run(&lane).await, Err(BackendError::NotLoaded { .. })));
    assert_eq!(here.processes().len(), 1);
}

#[tokio::test]
async fn a_process_that_is_killed_costs_one_answer() {
    let here = Run::new();
    let lane = here.lane(Path::new(LIBRARY), "cpu").expect("a lane");
    let path = here.home.path().join("neg.onnx");
    std::fs::write(&path, graphs::neg()).expect("room for a file");
    load(&lane, path).await.expect("a good model");
    let [process] = here.processes()[..] else { panic!("one process") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL)
        .expect("it lives");
    let lost = run(&lane).await.expect_err("nobody computes");
    assert_eq!((lost.code(), lost.retry()), (Code::LaneLost, Retry::Elsewhere), "{lost}");
    assert_eq!(here.processes(), Vec::<i32>::new());
    let answer = run(&lane).await.expect("another process, which has loaded the model");
    assert_eq!(read(&answer.outputs[0]), [-1.5, 2.0, 0.0, -4.0]);
    let [another] = here.processes()[..] else { panic!("one process") };
    assert_ne!(another, process);
}

#[tokio::test]
async fn a_library_that_gives_no_lane_says_why() {
    let here = Run::new();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let cases: [(&Path, &str, &str); 3] = [
        (
            Path::new("/nowhere/libonnxruntime.so"),
            "openvino",
            "gives no lane on \"openvino\": there is no such file",
        ),
        (&manifest, "openvino", "could not load ONNX Runtime's library"),
        (Path::new(LIBRARY), "openvino", "has no execution provider \"openvino\"; it has"),
    ];
    for (library, provider, said) in cases {
        let refused = here.lane(library, provider).err().expect(said);
        assert!(refused.contains(&library.display().to_string()) && refused.contains(said), "{refused}");
    }
    let libraries = |path: &Path| Library { path: path.to_owned(), providers: vec!["openvino".to_owned()] };
    let started = TestDaemon::start_in(home(), &[], |config| {
        config.native.libraries.insert("second".to_owned(), libraries(Path::new(LIBRARY)));
    });
    let refused = started.await.err().expect("no lane").to_string();
    assert!(refused.contains("has no execution provider \"openvino\""), "{refused}");
}
