//! Sequences of tokens through caches that stay in a page, against `PyTorch`.

use std::fs;

use weft::{
    backend::{Backend as _, Delivery, LoadOrder, lowered::Lowered},
    domain::BackendKind,
    driver::recipe::Recipe,
    onnx,
};

use crate::{
    decoding_support::{FAMILIES, Greedy},
    harness::{Harness, session},
    stage::{Stage, on_each, places},
    webkit,
};

async fn chooses(stage: Stage, recipe: Recipe) {
    let ours = [BackendKind::WeftWasm, BackendKind::WeftWgsl];
    let backends: Vec<_> = ours.into_iter().filter(|backend| recipe.backends.contains(backend)).collect();
    let folder = stage.home.path().join("models");
    fs::create_dir(&folder).unwrap();
    let name = recipe.name.clone();
    assert!(!backends.is_empty(), "{name} has lanes on our kernels");
    let mut browser = Harness::launch(stage.driver(recipe, places()), folder, &stage.tasks).await;
    for backend in backends {
        let lane = browser.our_lane(backend.clone(), Lowered::default()).await;
        let lane = lane.unwrap_or_else(|reason| panic!("{name} {backend}: {reason}"));
        for family in FAMILIES {
            let greedy = Greedy::of(family);
            let graph = greedy.graph(family);
            let file = browser.put(&graph);
            let (session, path) = (session(file.digest), browser.path(&file));
            let delivery = Some(Delivery { graph: None, files: vec![file] });
            lane.load(LoadOrder { session: session.clone(), path, delivery }).await.unwrap();
            let signature = onnx::analyse(&graph).unwrap().signature;
            greedy.check(&lane, &session, &signature).await;
            lane.unload(session).await.unwrap();
        }
        browser.end_lane(&backend);
    }
    browser.close().await;
    stage.assert_clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_chooses_the_tokens_that_pytorch_does() {
    on_each(chooses).await;
    if webkit::here() {
        chooses(Stage::set(), webkit::recipe()).await;
    }
}
