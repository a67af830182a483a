//! Sequences of tokens through caches that stay where the model runs, against `PyTorch` and against whole sequences.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Mutex,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use weft::{
    backend::{
        Activity, Backend, BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput, StepTiming,
        decode::Decoder,
        ort::{OrtLane, OrtLibrary},
        wgpu::{Device, Wanted, WgpuLane},
    },
    domain::{
        BackendKind, Code, Datatype, Digest, DimBinding, Environment, InstanceId, LaneId, Retry, Signature,
        Tensor,
    },
    kernels::{
        self,
        ir::Routine,
        lower::{Keeping, LowerError, Model, Sizes, Tailor},
        reference::States,
    },
    onnx::analyse,
};

use crate::{
    decoding_support::{FAMILIES, Greedy},
    lowered::{FILE, computed, kept, lower, numbers},
    precision::noise,
    support::{
        LIBRARY,
        graphs::{self, Dim, FLOAT, INT64, enclosed, field, graph, node, number, port, text},
    },
};

fn session() -> SessionName {
    SessionName { model: Digest::new([7; 32]), shapes: DimBinding::new() }
}

/// A FAKE lane: the interpreter in a kernel's place, with routines as they were lowered or fused.
struct Interpreted {
    environment: Environment,
    file: Bytes,
    fused: bool,
    tailor: Mutex<Tailor>,
    routines: Mutex<HashMap<Sizes, Routine>>,
    states: Mutex<States>,
}

impl Interpreted {
    fn new(file: &Bytes, fused: bool) -> Self {
        let environment = Environment {
            instance: InstanceId::new("interpreted"),
            lane: LaneId::new("interpreted/0"),
            browser: String::new(),
            browser_version: String::new(),
            backend: BackendKind::Wgpu,
            adapter: None,
            webnn_device: None,
            sandbox: None,
            engine: String::new(),
            threads: 1,
            flags: Vec::new(),
        };
        let model = Model::read(file, FILE).expect("a good graph");
        let (tailor, routines, states) = (Mutex::new(Tailor::new(model)), Mutex::default(), Mutex::default());
        Self { environment, file: file.clone(), fused, tailor, routines, states }
    }

    fn compute(&self, step: &Step) -> Result<Vec<Tensor>, String> {
        let mut tailor = self.tailor.lock().expect("nobody panics");
        let mut routines = self.routines.lock().expect("nobody panics");
        let sizes = tailor.sizes(&step.inputs, step.keeping).map_err(|error| error.to_string())?;
        if !routines.contains_key(&sizes) {
            let (_, routine) = tailor.lower(&step.inputs, step.keeping).map_err(|error| error.to_string())?;
            routines.insert(sizes.clone(), if self.fused { kernels::fuse(routine) } else { routine });
        }
        let mut states = self.states.lock().expect("nobody panics");
        kept(&routines[&sizes], &self.file, &BTreeMap::new(), &step.inputs, &mut states)
    }
}

impl Backend for Interpreted {
    fn environment(&self) -> &Environment {
        &self.environment
    }

    fn load(&self, _: LoadOrder) -> BoxFuture<'static, Result<Loaded, BackendError>> {
        Box::pin(async { Ok(Loaded::default()) })
    }

    fn unload(&self, _: SessionName) -> BoxFuture<'static, Result<(), BackendError>> {
        Box::pin(async { Ok(()) })
    }

    fn execute(&self, step: Step) -> BoxFuture<'static, Result<StepOutput, BackendError>> {
        let made = self.compute(&step);
        Box::pin(async move {
            let wrong =
                |message| BackendError::Execute { message, code: Code::InvalidRequest, retry: Retry::Never };
            Ok(StepOutput { outputs: made.map_err(wrong)?, timing: StepTiming::default() })
        })
    }

    fn activity(&self) -> Activity {
        Activity::default()
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }

    fn abandon(&self, _: String) {}
}

fn signature(file: &Bytes) -> Signature {
    analyse(file).expect("a good graph").signature
}

#[tokio::test]
async fn caches_that_are_kept_choose_what_pytorch_does() {
    for family in FAMILIES {
        let greedy = Greedy::of(family);
        let file = greedy.graph(family);
        for fused in [false, true] {
            greedy.check(&Interpreted::new(&file, fused), &session(), &signature(&file)).await;
        }
    }
}

/// A model's file in a folder of its own, and a lane on the preferred adapter that has it loaded. Without an adapter this
/// is a skip; in CI, which installs lavapipe, it is a failure.
#[allow(clippy::print_stderr, reason = "a skip is said")]
async fn native(file: &Bytes) -> Option<(TempDir, WgpuLane)> {
    if Device::list().is_empty() {
        let message = "skipped: no GPU's adapter is here, and no Mesa with lavapipe";
        assert!(std::env::var_os("CI").is_none(), "{message}");
        eprintln!("{message}");
        return None;
    }
    let home = tempfile::tempdir().expect("a folder");
    let lane = WgpuLane::start(&Wanted::Any).expect("an adapter that opens").expect("there is one");
    std::fs::write(path(&home), file).expect("room for a file");
    lane.load(order(&home)).await.expect("a graph of covered operators");
    Some((home, lane))
}

fn path(home: &TempDir) -> PathBuf {
    home.path().join("model.onnx")
}

fn order(home: &TempDir) -> LoadOrder {
    LoadOrder { session: session(), path: path(home), delivery: None }
}

#[tokio::test]
async fn a_native_lane_chooses_what_pytorch_does() {
    for family in FAMILIES {
        let greedy = Greedy::of(family);
        let file = greedy.graph(family);
        let Some((_home, lane)) = native(&file).await else { return };
        greedy.check(&lane, &session(), &signature(&file)).await;
    }
}

#[tokio::test]
async fn a_sequence_whose_caches_are_gone_is_told_so() {
    let greedy = Greedy::of(FAMILIES[0]);
    let file = greedy.graph(FAMILIES[0]);
    let Some((home, lane)) = native(&file).await else { return };
    let mut decoder = Decoder::new(&lane, session(), &signature(&file)).expect("a decoder's graph");
    decoder.feed(&greedy.prompt[..20]).await.expect("a good prompt");
    lane.unload(session()).await.expect("it was loaded");
    lane.load(order(&home)).await.expect("it loads again");
    let error = decoder.feed(&[5]).await.expect_err("nothing is there");
    assert_eq!((error.code(), error.retry()), (Code::LaneLost, Retry::Never), "{error}");
    assert!(error.to_string().contains("begin it anew"), "{error}");
    let mut anew = Decoder::new(&lane, session(), &signature(&file)).expect("a decoder's graph");
    anew.feed(&greedy.prompt[..20]).await.expect("a good prompt");
}

const WIDTH: usize = 24;
const HEADS: u64 = 6;
const KEY_HEADS: u64 = 2;
const SIZE: u64 = 4;
const TOKENS: usize = 32;

fn weight(name: &str, rows: usize, columns: usize) -> Vec<u8> {
    let values: Vec<u8> =
        noise(name.len() as u32, rows * columns).into_iter().flat_map(f32::to_le_bytes).collect();
    let dims = [number(1, rows as u64), number(1, columns as u64)].concat();
    [dims, number(2, FLOAT), text(8, name), field(9, &values)].concat()
}

fn int(name: &str, value: u64) -> Vec<u8> {
    field(5, &[text(1, name), number(3, value), number(20, 2)].concat())
}

/// One layer of attention as exporters for ONNX Runtime write it: the lengths come from the mask.
fn grouped() -> Bytes {
    let cache = |past: &'static str, what: &str| {
        let dims = [Dim::Symbol("batch"), Dim::Size(KEY_HEADS), Dim::Symbol(past), Dim::Size(SIZE)];
        port(what, FLOAT, &dims)
    };
    let ids = |name: &str, symbol| port(name, INT64, &[Dim::Symbol("batch"), Dim::Symbol(symbol)]);
    let inputs = [
        ids("input_ids", "sequence"),
        ids("attention_mask", "total"),
        cache("past", "past_key_values.0.key"),
        cache("past", "past_key_values.0.value"),
    ];
    let scores = [Dim::Symbol("batch"), Dim::Symbol("sequence"), Dim::Size(TOKENS as u64)];
    let outputs =
        [port("logits", FLOAT, &scores), cache("total", "present.0.key"), cache("total", "present.0.value")];
    let cast = |from: &str, to: &str| [node("Cast", &[from], &[to]), int("to", 6)].concat();
    let past = ["past_key_values.0.key", "past_key_values.0.value"];
    let attended = [
        node(
            "GroupQueryAttention",
            &["q", "k", "v", past[0], past[1], "seqlens", "total32", "cos", "sin"],
            &["attended", "present.0.key", "present.0.value"],
        ),
        text(7, "com.microsoft"),
        int("num_heads", HEADS),
        int("kv_num_heads", KEY_HEADS),
        int("do_rotary", 1),
    ];
    let nodes = [
        node("Gather", &["table", "input_ids"], &["x"]),
        node("MatMul", &["x", "wq"], &["q"]),
        node("MatMul", &["x", "wkk"], &["k"]),
        node("MatMul", &["x", "wvvv"], &["v"]),
        [node("ReduceSum", &["attention_mask", "one"], &["sums"]), int("keepdims", 0)].concat(),
        node("Sub", &["sums", "one"], &["last"]),
        cast("last", "seqlens"),
        node("Shape", &["attention_mask"], &["shape"]),
        node("Gather", &["shape", "at"], &["total"]),
        cast("total", "total32"),
        attended.concat(),
        node("Add", &["x", "attended"], &["h"]),
        node("MatMul", &["h", "scoring"], &["logits"]),
    ];
    let long = |name: &str, dims: &[u8]| {
        [dims.to_vec(), number(2, INT64), text(8, name), field(9, &1i64.to_le_bytes())].concat()
    };
    let keys = (KEY_HEADS * SIZE) as usize;
    let weights = [
        weight("table", TOKENS, WIDTH),
        weight("wq", WIDTH, (HEADS * SIZE) as usize),
        weight("wkk", WIDTH, keys),
        weight("wvvv", WIDTH, keys),
        weight("scoring", WIDTH, TOKENS),
        weight("cos", 64, SIZE as usize / 2),
        weight("sin", 64, SIZE as usize / 2),
        long("one", &number(1, 1)),
        long("at", &[]),
    ];
    enclosed(&graph(&nodes, &inputs, &outputs, &weights)).into()
}

fn longs(name: &str, values: &[i64]) -> Tensor {
    let body: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = vec![1, values.len() as u64];
    Tensor { name: name.to_owned(), datatype: Datatype::Int64, shape, body: body.into() }
}

/// The scores behind each of these tokens, by all of them at once and no cache.
fn whole(file: &Bytes, tokens: &[i64]) -> Vec<f64> {
    let empty = |name: &str| Tensor {
        name: name.to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![1, KEY_HEADS, 0, SIZE],
        body: Vec::new().into(),
    };
    let mask = vec![1; tokens.len()];
    let pasts = [empty("past_key_values.0.key"), empty("past_key_values.0.value")];
    let inputs = [[longs("input_ids", tokens), longs("attention_mask", &mask)], pasts].concat();
    let routine = lower(file, &inputs).expect("covered operators");
    let made = computed(&routine, file, &BTreeMap::new(), &inputs).expect("good inputs");
    numbers(&made[0])
}

#[tokio::test]
async fn grouped_attention_keeps_its_caches_too() {
    let file = grouped();
    let tokens: Vec<i64> = (0..45).map(|at| at * at % TOKENS as i64).collect();
    let wanted = whole(&file, &tokens);
    let interpreted = Interpreted::new(&file, true);
    let native = native(&file).await;
    let lanes = [Some(&interpreted as &dyn Backend), native.as_ref().map(|(_, lane)| lane as &dyn Backend)];
    for lane in lanes.into_iter().flatten() {
        let mut decoder = Decoder::new(lane, session(), &signature(&file)).expect("a decoder's graph");
        let mut fed = 0;
        for count in [3, 1, 1, 30, 1, 9] {
            let scores = decoder.feed(&tokens[fed..fed + count]).await.expect("good tokens");
            fed += count;
            let wanted = &wanted[(fed - 1) * TOKENS..fed * TOKENS];
            let off = scores.iter().zip(wanted).map(|(got, wanted)| (f64::from(*got) - wanted).abs());
            assert!(off.fold(0.0, f64::max) < 1e-4, "{fed} tokens");
        }
        assert_eq!(decoder.tokens(), tokens);
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_by_name() {
    let file: Bytes = graphs::neg().into();
    let x = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![1, 4],
        body: vec![0; 16].into(),
    };
    let keeping = Some(Keeping { rows: 16, fills: false });
    let mut tailor = Tailor::new(Model::read(&file, "model").expect("a good graph"));
    let error = tailor.lower(std::slice::from_ref(&x), keeping).expect_err("no caches");
    assert!(matches!(error, LowerError::NoCaches), "{error}");
    let two = |name: &str, length: usize| Tensor {
        shape: vec![2, length as u64],
        ..longs(name, &vec![1; 2 * length])
    };
    let mut tailor = Tailor::new(Model::read(&grouped(), FILE).expect("a good graph"));
    let error =
        tailor.lower(&[two("input_ids", 1), two("attention_mask", 17)], keeping).expect_err("two sequences");
    assert!(error.to_string().contains("is of 2 sequences, and a lane keeps those of one"), "{error}");
    let interpreted = Interpreted::new(&file, false);
    let error = Decoder::new(&interpreted, session(), &signature(&file)).err().expect("no tokens");
    assert!(error.to_string().contains("\"x\" is none that a sequence's tokens decide"), "{error}");

    let library = OrtLibrary::load(LIBRARY.as_ref()).expect("`make setup` has brought the library");
    let lane = OrtLane::start(&library, "cpu", 1).expect("the CPU is always there");
    let file = grouped();
    let mut decoder = Decoder::new(&lane, session(), &signature(&file)).expect("a decoder's graph");
    let error = decoder.feed(&[1]).await.expect_err("another engine");
    assert_eq!(error.code(), Code::NoBackend, "{error}");
    assert!(error.to_string().contains("keeps no caches"), "{error}");

    let mut decoder = Decoder::new(&interpreted, session(), &signature(&file)).expect("a decoder's graph");
    let error = decoder.feed(&[]).await.expect_err("no tokens");
    assert!(error.to_string().contains("needs a token"), "{error}");
    let long = Interpreted::new(&file, false);
    let mut decoder = Decoder::new(&long, session(), &signature(&file)).expect("a decoder's graph");
    let error = decoder.feed(&[1; 70]).await.expect_err("rotations for 64 positions");
    assert!(error.to_string().contains("an index is out of range"), "{error}");
}
