//! Weights turned into graphs, and the graphs run in browsers against what `PyTorch` computes with the same weights.
//! `make test` takes one family in each engine; `make prove` all of them on every backend, a file for each.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft::{
    backend::{Backend as _, SessionName, Step, page::PageLane},
    domain::{BackendKind, DimBinding, Placement, Tensor},
    driver::recipe::Recipe,
    onnx::{self, Analysis, convert::Part},
};

use crate::{
    checkpoints::{FAMILIES, MINILM, Original, TOLERANCE, complete, difference, minilm, named, written},
    conversion,
    daemon::FIXTURES,
    harness::{Harness, load_shaped},
    proof,
    serve::Served,
    stage::{LIMIT, Stage, on_each, places},
    webkit,
};

/// A graph that lies where the page finds it.
struct Graph<'b> {
    browser: &'b Harness,
    lane: &'b PageLane,
    file: weft::backend::DeliveredFile,
    analysis: Analysis,
    /// WebNN takes no open dimension, so that there each shape is a session of its own.
    fixed: bool,
}

impl<'b> Graph<'b> {
    fn of(browser: &'b Harness, lane: &'b PageLane, part: &Part<'_>) -> Self {
        let bytes = written(part);
        let file = browser.put(&bytes);
        let analysis = onnx::analyse(&bytes.into()).unwrap();
        let fixed = lane.environment().backend == BackendKind::Webnn;
        Self { browser, lane, file, analysis, fixed }
    }

    async fn run(&self, inputs: Vec<Tensor>, nodes: &mut Placement) -> Result<Vec<Tensor>, String> {
        let binding = self.analysis.signature.bind(&inputs).unwrap();
        let shapes = if self.fixed { binding } else { DimBinding::new() };
        let session = SessionName { model: self.file.digest, shapes };
        let loaded = load_shaped(self.lane, session.clone(), &[&self.file], None).await;
        for (provider, count) in loaded.map_err(|error| error.to_string())?.placement {
            *nodes.entry(provider).or_default() += count;
        }
        let step =
            Step { session, inputs, outputs: Vec::new(), keeping: None, cancelled: CancellationToken::new() };
        let answer = timeout(LIMIT, self.lane.execute(step)).await.map_err(|_| "no answer".to_owned())?;
        answer.map(|output| output.outputs).map_err(|error| error.to_string())
    }
}

impl Drop for Graph<'_> {
    fn drop(&mut self) {
        // The next family's may need the room.
        let _ = fs::remove_file(self.browser.path(&self.file));
    }
}

/// The largest difference over all outputs of all cases of all parts, and on what the nodes of all cases ran; or why a
/// case has no answer.
async fn differences(browser: &Harness, lane: &PageLane, family: &str) -> Result<(f64, Placement), String> {
    let original = original(family);
    let (mut worst, mut encoded) = (0f64, Vec::new());
    let mut nodes = Placement::new();
    for part in original.parts() {
        let graph = Graph::of(browser, lane, &part);
        for (case, (inputs, outputs)) in original.cases(part.name) {
            let inputs = complete(&graph.analysis.signature, inputs, &encoded);
            let answers =
                graph.run(inputs, &mut nodes).await.map_err(|why| format!("{}, {case}: {why}", part.name))?;
            for wanted in &outputs {
                worst = worst.max(difference(wanted, named(&answers, &wanted.name)));
            }
            if part.name == "encoder" && case == "two" {
                encoded = answers;
            }
        }
    }
    Ok((worst, nodes))
}

fn original(family: &str) -> Original {
    if family == MINILM { Original::minilm().unwrap() } else { Original::read(family) }
}

async fn launch(stage: &Stage, recipe: Recipe) -> Harness {
    let folder = stage.home.path().join("models");
    fs::create_dir(&folder).unwrap();
    Harness::launch(stage.driver(recipe, places()), folder, &stage.tasks).await
}

async fn one_family(stage: Stage, recipe: Recipe) {
    let name = recipe.name.clone();
    let mut browser = launch(&stage, recipe).await;
    let lane = browser.lane().await;
    let (found, _) = differences(&browser, &lane, "llama").await.unwrap();
    assert!(found <= TOLERANCE, "{name}: {found:.1e}");
    drop(lane);
    browser.close().await;
    stage.assert_clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converted_model_computes_in_browsers_what_pytorch_does() {
    on_each(one_family).await;
    if webkit::here() {
        one_family(Stage::set(), webkit::recipe()).await;
    }
}

/// What one file of results is about: how its name ends, and the checkpoints.
const SLICES: [(&str, &[&str]); 2] = [("", &FAMILIES), ("-all-minilm-l6-v2", &[MINILM])];

/// Those of a lane that have no file yet, and whose weights are there.
fn missing(browser: &str, backend: &BackendKind) -> Vec<(&'static str, &'static [&'static str])> {
    let is_here = |families: &[&str]| families != [MINILM] || minilm().is_some();
    let wanted =
        |(ends, families): &(&str, &[&str])| !file(browser, backend, ends).exists() && is_here(families);
    SLICES.into_iter().filter(wanted).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a full matrix: run by `make prove`"]
async fn every_family_computes_on_every_backend_what_pytorch_does() {
    natively().await;
    on_each(every_family).await;
    if webkit::here() {
        every_family(Stage::set(), webkit::recipe()).await;
    }
}

/// The native lane, and with the real weights also from texts to embeddings, by a daemon.
async fn natively() {
    let (commit, backend) = (proof::commit(), BackendKind::ort_cpu());
    let mut wrong = Vec::new();
    for (ends, families) in missing("native", &backend) {
        let mut told = Map::new();
        for family in families {
            let error = conversion::differences(&original(family), |_| {}).await;
            eprintln!("native {family}: {error:.1e}");
            told.insert((*family).to_owned(), json!({"error": error}));
            if error > TOLERANCE {
                wrong.push(format!("{family}: {error:.1e}"));
            }
        }
        if let Some(folder) = minilm().filter(|_| families == [MINILM]) {
            let served = Served::start(Path::new(env!("CARGO_BIN_EXE_weft")), "chromium=0").await.unwrap();
            served.weft(&["models", "add", folder.to_str().unwrap(), "--name", MINILM]).await.unwrap();
            let off = conversion::embeddings_off(&served.url, MINILM).await;
            served.stop().await.unwrap();
            told[MINILM]["embeddings"] = json!(off);
            eprintln!("native {MINILM}: {off:.1e} in embeddings");
        }
        keep("native", &backend, ends, json!({"commit": commit, "families": told}));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn every_family(stage: Stage, recipe: Recipe) {
    let (name, commit) = (recipe.name.clone(), proof::commit());
    let lanes = recipe.backends.clone().into_iter();
    let wanted: Vec<_> = lanes.map(|backend| (missing(&name, &backend), backend)).collect();
    if wanted.iter().all(|(slices, _)| slices.is_empty()) {
        return;
    }
    let mut browser = launch(&stage, recipe).await;
    let mut wrong = Vec::new();
    for (slices, backend) in wanted {
        for (ends, families) in slices {
            let mut told = Map::new();
            for family in families {
                // A fresh lane each: none has room for all.
                let found = match browser.lane_on(backend.clone()).await {
                    Ok(lane) => differences(&browser, &lane, family).await,
                    Err(reason) => Err(reason),
                };
                browser.end_lane(&backend);
                eprintln!("{name} {backend} {family}: {found:?}");
                if found.as_ref().is_ok_and(|(found, _)| *found > TOLERANCE) {
                    wrong.push(format!("{backend} {family}: {found:?}"));
                }
                let found = match found {
                    Ok((error, nodes)) => json!({"error": error, "nodes": nodes}),
                    Err(why) => json!({"refused": why}),
                };
                told.insert((*family).to_owned(), found);
            }
            let slice = json!({"commit": commit, "version": browser.version(), "families": told});
            keep(&name, &backend, ends, slice);
        }
    }
    browser.close().await;
    stage.assert_clear().await;
    assert!(wrong.is_empty(), "{name}: {}", wrong.join("\n"));
}

/// The largest error of a file of results, and whose it is.
fn largest(browser: &str, backend: &BackendKind, ends: &str) -> Option<(f64, String, Value)> {
    let slice: Value = serde_json::from_slice(&fs::read(file(browser, backend, ends)).ok()?).unwrap();
    let families = slice["families"].as_object().unwrap().clone();
    let error = |told: &Value| told["error"].as_f64().unwrap_or(f64::INFINITY);
    let (name, told) = families.into_iter().max_by(|one, other| error(&one.1).total_cmp(&error(&other.1)))?;
    Some((error(&told), name, told))
}

#[test]
fn the_page_tells_the_errors_that_were_measured() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md")).unwrap();
    let link = |browser: &str, backend: &BackendKind| {
        format!("(../fixtures/measurements/converted/{browser}-{backend}{}.json)", SLICES[1].0)
    };
    let native = BackendKind::ort_cpu();
    let (error, _, told) = largest("native", &native, SLICES[1].0).unwrap();
    let embeddings = told["embeddings"].as_f64().unwrap();
    let mut wanted = vec![format!("[{error:.1e} and {embeddings:.1e}]{}", link("native", &native))];
    for recipe in Recipe::embedded() {
        for backend in &recipe.backends {
            let [all, minilm] = SLICES.map(|(ends, _)| largest(&recipe.name, backend, ends));
            let (Some((error, by, _)), Some((real, _, _))) = (all, minilm) else { continue };
            let linked = link(&recipe.name, backend);
            wanted.push(format!("| {error:.1e} | `{by}` | [{real:.1e}]{linked} |"));
        }
    }
    assert!(wanted.len() > 1);
    for told in wanted {
        assert!(page.contains(&told), "docs/models.md lacks: {told}");
    }
}

fn keep(browser: &str, backend: &BackendKind, ends: &str, mut slice: Value) {
    slice["browser"] = json!(browser);
    slice["backend"] = json!(backend);
    slice["command"] = json!(proof::COMMAND);
    slice["machine"] = json!(proof::machine());
    let file = file(browser, backend, ends);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, format!("{slice}\n")).unwrap();
}

fn file(browser: &str, backend: &BackendKind, ends: &str) -> PathBuf {
    PathBuf::from(FIXTURES).join("measurements/converted").join(format!("{browser}-{backend}{ends}.json"))
}
