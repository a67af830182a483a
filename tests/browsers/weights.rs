//! How a model's files come to a page: each byte once over the network, whatever lanes and pages there are after it.

use std::fs;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft::{
    backend::{Backend, DeliveredFile, Step, page::PageLane},
    domain::{Code, Datatype, Digest, FetchedBytes, Tensor},
    driver::recipe::Recipe,
};

use crate::{
    graphs,
    harness::{Harness, delivered, load, session},
    stage::{LIMIT, Stage, on_each, places},
    webkit,
};

const MIB: usize = 1 << 20;

/// Over one piece of 8 MiB, and no whole number of MiB.
const WEIGHTS: usize = 9 * MIB + 12;

/// `y = x + w`, and `w`'s bytes, no two MiB alike.
fn model(file: &str, offset: usize) -> Vec<u8> {
    graphs::weighing_outside(WEIGHTS as u64 / 4, file, offset as u64, WEIGHTS as u64)
}

fn weights(seed: u32) -> Vec<u8> {
    (0..WEIGHTS as u32 / 4).flat_map(|at| ((at ^ seed) as f32).to_le_bytes()).collect()
}

/// The last of the elements is what the last bytes of the weights make.
async fn answers(lane: &PageLane, model: Digest, seed: u32) {
    let elements = WEIGHTS / 4;
    let x = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![1],
        body: 0.5f32.to_le_bytes().to_vec().into(),
    };
    let step = Step {
        session: session(model),
        inputs: vec![x],
        outputs: Vec::new(),
        keeping: None,
        cancelled: CancellationToken::new(),
    };
    let output = timeout(LIMIT, lane.execute(step)).await.expect("a step ends").unwrap().outputs.remove(0);
    let bytes = output.body.contiguous();
    let wanted: Vec<u8> =
        (0..elements as u32).flat_map(|at| ((at ^ seed) as f32 + 0.5).to_le_bytes()).collect();
    assert!(bytes == wanted, "an answer made of all weights");
}

fn from_network(bytes: u64) -> FetchedBytes {
    FetchedBytes { network: bytes, cache: 0 }
}

fn from_cache(bytes: u64) -> FetchedBytes {
    FetchedBytes { network: 0, cache: bytes }
}

async fn each_byte_comes_once(stage: Stage, recipe: Recipe) {
    let name = recipe.name.clone();
    let folder = stage.home.path().join("models");
    fs::create_dir(&folder).unwrap();
    let driver = stage.driver(recipe, places());
    let mut browser = Harness::launch(driver, folder, &stage.tasks).await;
    assert_eq!(browser.fault, None, "{name} keeps what it has fetched");

    // Weights beside a graph.
    let weights_file = browser.put(&weights(1));
    let graph = browser.put(&model(&weights_file.digest.to_string(), 0));
    let whole = graph.bytes + weights_file.bytes;
    let first = browser.lane().await;
    let loaded = load(&first, &[&graph, &weights_file], None).await.unwrap();
    assert_eq!(loaded.fetched, from_network(whole), "{name}");
    answers(&first, graph.digest, 1).await;

    // Another lane, another page: the files are not even there any more.
    fs::remove_file(browser.path(&graph)).unwrap();
    fs::remove_file(browser.path(&weights_file)).unwrap();
    let second = browser.lane().await;
    let loaded = load(&second, &[&graph, &weights_file], None).await.unwrap();
    assert_eq!(loaded.fetched, from_cache(whole), "{name}: another lane");
    drop((first, second));
    browser.reload().await;
    let lane = browser.lane().await;
    let loaded = load(&lane, &[&graph, &weights_file], None).await.unwrap();
    assert_eq!(loaded.fetched, from_cache(whole), "{name}: another page");
    answers(&lane, graph.digest, 1).await;

    two_lanes_at_once(&mut browser, &name).await;
    what_is_wrong_is_refused(&browser, &lane, &name).await;
    answers(&lane, graph.digest, 1).await;
    drop(lane);
    browser.close().await;
    stage.assert_clear().await;
}

/// The graph comes with the message, and the model's file is what the weights lie in.
async fn two_lanes_at_once(browser: &mut Harness, name: &str) {
    let head = vec![7; 5];
    let file = browser.put(&[head.clone(), weights(2)].concat());
    let graph = Bytes::from(model(&file.digest.to_string(), head.len()));
    let files = [&file];
    let (one, other) = (browser.lane().await, browser.lane().await);
    let loads =
        tokio::join!(load(&one, &files, Some(graph.clone())), load(&other, &files, Some(graph.clone())));
    let mut fetched = [loads.0.unwrap().fetched, loads.1.unwrap().fetched];
    fetched.sort_by_key(|fetched| fetched.network);
    assert_eq!(fetched, [from_cache(file.bytes), from_network(file.bytes)], "{name}: two at once");
    answers(&one, file.digest, 2).await;
    answers(&other, file.digest, 2).await;
}

async fn what_is_wrong_is_refused(browser: &Harness, lane: &PageLane, name: &str) {
    let mut bytes = weights(3);
    let file = delivered(&bytes);
    bytes[8 * MIB + 1] ^= 1;
    fs::write(browser.path(&file), &bytes).unwrap();
    let error = load(lane, &[&file], None).await.unwrap_err();
    let said = "came changed: the SHA-256 of its MiB 8 is another";
    assert!(error.to_string().contains(said), "{name}: {error}");
    // It would be asked for in vain: it is nowhere.
    let huge = DeliveredFile { bytes: 8 << 30, leaves: vec![0; 32 << 13].into(), ..delivered(b"huge") };
    let error = load(lane, &[&huge], None).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge, "{name}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_byte_of_a_model_comes_once() {
    on_each(each_byte_comes_once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_byte_of_a_model_comes_once_in_webkitgtk() {
    if webkit::here() {
        each_byte_comes_once(Stage::set(), webkit::recipe()).await;
    }
}
