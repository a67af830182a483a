//! Variants as the daemon makes them: how far off they are and on what that was measured, what they inherit, and what
//! they may not do.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    precision::{little, noise},
    support::{FakeBrowser, TestDaemon, blobs, graphs, infer},
};

const WIDTH: usize = 32;

async fn daemon() -> TestDaemon {
    TestDaemon::start(&[&FakeBrowser::new("fake", &["wasm"])]).await
}

fn layers() -> Vec<u8> {
    let scale = (3.0 / WIDTH as f32).sqrt();
    let layer =
        |seed| little(&noise(seed, WIDTH * WIDTH).iter().map(|value| value * scale).collect::<Vec<_>>());
    graphs::dense(WIDTH as u64, &[layer(1), layer(2)])
}

/// As many sets of inputs, none like another.
fn inputs(seed: u32, sets: u32) -> Vec<Value> {
    let x = |at| json!({"datatype": "FP32", "shape": [1, WIDTH], "data": noise(seed + at, WIDTH)});
    (0..sets).map(|at| json!({"x": x(at)})).collect()
}

async fn add(daemon: &TestDaemon, name: &str, digest: &Value, more: &Value) -> Value {
    let mut body = json!({"name": name, "digest": digest, "source": "a test"});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let (status, said) = daemon.post("/api/v1/models", body.to_string()).await;
    assert_eq!(status, 200, "{said}");
    said
}

async fn upload(daemon: &TestDaemon, file: Vec<u8>) -> Value {
    daemon.post("/api/v1/blobs", file).await.1["digest"].clone()
}

async fn order(daemon: &TestDaemon, order: Value) -> (u16, Value) {
    daemon.post("/api/v1/conversions", order.to_string()).await
}

async fn convert(daemon: &TestDaemon, model: &str, precision: &str) -> Value {
    let (status, said) = order(daemon, json!({"model": model, "precision": precision})).await;
    assert_eq!(status, 200, "{said}");
    said["items"][0].clone()
}

/// What the model answers natively, all sets one after another.
async fn answers(daemon: &TestDaemon, model: &str, sets: &[Value]) -> Vec<f64> {
    let mut client = daemon.client().await;
    let mut values = Vec::new();
    for set in sets {
        let mut x = set["x"].clone();
        x["name"] = json!("x");
        let asked = infer("r", model, &json!([x]), &json!({"backend": ["ort-cpu"]}));
        let answer = client.ask(&asked).await;
        let data =
            answer.header["outputs"][0]["data"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
        values.extend(data.iter().map(|value| value.as_f64().expect("a number")));
    }
    values
}

#[tokio::test]
async fn a_variant_says_how_far_off_it_is_and_on_what_that_was_measured() {
    let daemon = daemon().await;
    let (given, digest) = (inputs(100, 4), upload(&daemon, layers()).await);
    add(&daemon, "dense", &digest, &json!({"gate": {"inputs": given}})).await;
    let made = convert(&daemon, "dense", "int4,block=16").await;
    let accuracy = &made["accuracy"];
    assert_eq!((&accuracy["data"], &accuracy["sets"]), (&json!("given"), &json!(4)), "{accuracy}");
    assert_eq!((&accuracy["reference"], &accuracy["reference_precision"]), (&digest, &Value::Null));

    let added = add(&daemon, "small", &made["digest"], &json!({})).await;
    let (wanted, got) = (answers(&daemon, "dense", &given).await, answers(&daemon, "small", &given).await);
    let off = || wanted.iter().zip(&got).map(|(wanted, got)| (wanted - got).abs());
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let products = wanted.iter().zip(&got).map(|(wanted, got)| wanted * got).sum::<f64>();
    let figures = [
        (
            "error",
            off().fold(0.0, f64::max) / wanted.iter().fold(0.0, |most: f64, value| most.max(value.abs())),
        ),
        ("rms_error", (off().map(|off| off * off).sum::<f64>() / squares(&wanted)).sqrt()),
        ("cosine", products / (squares(&wanted) * squares(&got)).sqrt()),
    ];
    for (figure, expected) in figures {
        let told = accuracy["outputs"][0][figure].as_f64().expect("a number");
        assert!((told - expected).abs() < 1e-6 && told > 1e-3, "{figure}: {told} for {expected}");
    }
    assert_eq!(accuracy["outputs"][0]["elements"], wanted.len());

    // It is kept with the file, and the inputs came along.
    let shown = daemon.get("/api/v1/models/small").await;
    let variant = &shown["variant"];
    assert_eq!((&variant["accuracy"], &variant["original"]), (accuracy, &digest), "{shown}");
    assert_eq!((&variant["bytes"], &variant["recipe"]), (&added["bytes"], &json!("int4,block=16,symmetric")));
    assert_eq!(variant["bits_per_changed_weight"], 4.0 + 32.0 / 16.0);
    assert_eq!(shown["gate_inputs"], 4);
    assert_eq!(daemon.get("/api/v1/models/dense").await["variant"], Value::Null);
    let home = daemon.stop().await;
    let daemon = TestDaemon::start_in(home, &[], |_| {}).await.expect("a good start");
    assert_eq!(&daemon.get("/api/v1/models/small").await["variant"], variant);
    daemon.stop().await;
}

#[tokio::test]
async fn inputs_of_ones_own_count_before_made_up_ones() {
    let daemon = daemon().await;
    let digest = upload(&daemon, layers()).await;
    add(&daemon, "dense", &digest, &json!({})).await;
    let seeded = convert(&daemon, "dense", "int8").await["accuracy"].clone();
    assert_eq!((&seeded["data"], &seeded["sets"]), (&json!("seeded"), &json!(3)), "{seeded}");

    let own = |sets: &[Value]| json!({"model": "dense", "precision": "int8", "gate": {"inputs": sets}});
    let (status, said) = order(&daemon, own(&inputs(7, 2))).await;
    assert_eq!(status, 200, "{said}");
    let measured = &said["items"][0]["accuracy"];
    assert_eq!((&measured["data"], &measured["sets"]), (&json!("own"), &json!(2)), "{measured}");
    assert_ne!(measured["inputs"], seeded["inputs"]);
    assert_ne!(measured["outputs"], seeded["outputs"]);

    let (status, said) = order(&daemon, own(&[json!({"y": inputs(7, 1)[0]["x"]})])).await;
    assert_eq!(status, 422, "{said}");
    assert!(said["detail"].as_str().is_some_and(|said| said.contains("no input \"y\"")), "{said}");
    let weights = json!({"digest": digest, "file": "a.safetensors", "gate": {"inputs": inputs(7, 1)}});
    assert_eq!(order(&daemon, weights).await.0, 422);
    daemon.stop().await;
}

#[tokio::test]
async fn a_variant_of_a_variant_is_measured_by_what_the_first_was_made_of() {
    let daemon = daemon().await;
    let digest = upload(&daemon, layers()).await;
    add(&daemon, "dense", &digest, &json!({"gate": {"inputs": inputs(100, 3)}})).await;
    let small = convert(&daemon, "dense", "int4,block=16").await;
    add(&daemon, "small", &small["digest"], &json!({})).await;
    let both = convert(&daemon, "small", "fp16").await["accuracy"].clone();
    assert_eq!((&both["reference"], &both["data"]), (&digest, &json!("given")), "{both}");
    let error = |accuracy: &Value| accuracy["outputs"][0]["error"].as_f64().expect("a number");
    assert!(error(&both) > 0.5 * error(&small["accuracy"]), "four bits, not sixteen: {both}");

    // Without the first, the figure is about less, and says so.
    let removed = daemon.http.delete(format!("{}/api/v1/models/dense", daemon.url)).send().await;
    assert!(removed.is_ok_and(|removed| removed.status().is_success()));
    let half = convert(&daemon, "small", "fp16").await["accuracy"].clone();
    assert_eq!(half["reference"], small["digest"]);
    assert_eq!(half["reference_precision"], "int4,block=16,symmetric");
    assert!(error(&half) < 0.1 * error(&both), "{half}");
    daemon.stop().await;
}

#[tokio::test]
async fn orders_for_the_same_at_once_make_one_file() {
    let daemon = daemon().await;
    let digest = upload(&daemon, layers()).await;
    add(&daemon, "dense", &digest, &json!({})).await;
    let checkpoint = |name: &str| {
        let path = format!("{}/fixtures/checkpoints/bert/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).expect("a file of the checkpoint")
    };
    let weights = upload(&daemon, checkpoint("model.safetensors")).await;
    let config = upload(&daemon, checkpoint("config.json")).await;
    let orders = [
        json!({"model": "dense", "precision": "int8,block=16"}),
        json!({"digest": weights, "file": "model.safetensors", "files": {"config.json": config}}),
    ];
    for one in orders {
        let before = blobs(&daemon.home.path().join("models")).len();
        let made = join_all((0..4).map(|_| order(&daemon, one.clone()))).await;
        for (status, said) in &made {
            assert_eq!(
                (*status, &said["items"][0]["digest"]),
                (200, &made[0].1["items"][0]["digest"]),
                "{said}"
            );
        }
        assert_eq!(blobs(&daemon.home.path().join("models")).len(), before + 1);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_measured_is_no_variant() {
    let daemon = daemon().await;
    let digest = upload(&daemon, graphs::dense(WIDTH as u64, &[little(&vec![1.0; WIDTH * WIDTH])])).await;
    add(&daemon, "sums", &digest, &json!({})).await;
    // Their sum is beyond all numbers.
    let large = json!({"x": {"datatype": "FP32", "shape": [1, WIDTH], "data": vec![3e38; WIDTH]}});
    let (status, said) =
        order(&daemon, json!({"model": "sums", "precision": "int8", "gate": {"inputs": [large]}})).await;
    assert_eq!(status, 422, "{said}");
    let detail = said["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("y for input 1: element 0"), "{said}");
    daemon.stop().await;
}

#[tokio::test]
async fn weights_beside_a_graph_end_up_within_the_variant() {
    let daemon = daemon().await;
    let weight = little(&noise(1, WIDTH * WIDTH));
    let within = upload(&daemon, graphs::dense(WIDTH as u64, std::slice::from_ref(&weight))).await;
    add(&daemon, "within", &within, &json!({})).await;
    let (graph, beside) = (graphs::dense_outside(WIDTH as u64, "w.bin"), upload(&daemon, weight).await);
    let (bytes, outside) = (graph.len(), upload(&daemon, graph).await);
    let files = json!({"files": {"w.bin": beside}});
    let added = add(&daemon, "outside", &outside, &files).await;
    assert_eq!(added["external"].as_object().map(serde_json::Map::len), Some(1), "{added}");

    let (one, other) = (convert(&daemon, "within", "int8").await, convert(&daemon, "outside", "int8").await);
    assert_eq!(one["digest"], other["digest"], "the same weights, the same variant");
    assert_eq!(one["accuracy"]["outputs"], other["accuracy"]["outputs"]);
    let before = other["report"]["bytes_before"].as_u64().expect("a number");
    assert!(before >= (bytes + WIDTH * WIDTH * 4) as u64, "{before}");
    let named = add(&daemon, "variant", &other["digest"], &json!({})).await;
    assert_eq!(named["external"], json!({}));
    daemon.stop().await;
}

#[tokio::test]
async fn requests_of_an_int8_dynamic_variant_never_share_a_step() {
    let daemon = daemon().await;
    let digest = upload(&daemon, layers()).await;
    // Enough for quantising inputs of one range together, as those of a proof are.
    let lax = json!({"tolerance": 0.04, "gate": {"inputs": inputs(100, 4)}});
    let added = add(&daemon, "dense", &digest, &lax).await;
    assert_eq!(added["batching"]["barred"], Value::Null, "{added}");
    for (precision, shares) in [("int8", true), ("int8-dynamic", false)] {
        let made = convert(&daemon, "dense", precision).await;
        let added = add(&daemon, precision, &made["digest"], &json!({"tolerance": 0.04})).await;
        let barred = &added["batching"]["barred"];
        assert_eq!(barred.is_null(), shares, "{precision}: {barred}");
        if !shares {
            assert!(
                barred.as_str().is_some_and(|barred| barred.contains("DynamicQuantizeLinear")),
                "{barred}"
            );
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_recipe_by_layer_keeps_to_its_budget() {
    let daemon = daemon().await;
    let (given, digest) = (inputs(100, 4), upload(&daemon, layers()).await);
    add(&daemon, "dense", &digest, &json!({"gate": {"inputs": given}})).await;
    let tune = async |error: f64| {
        let order = json!({"model": "dense", "error": error, "precisions": ["int2", "int8"]});
        let (status, said) = daemon.post("/api/v1/tunings", order.to_string()).await;
        assert_eq!(status, 200, "{said}");
        said
    };
    let tuned = tune(0.02).await;
    assert_eq!((&tuned["data"], &tuned["sets"]), (&json!("given"), &json!(4)), "{tuned}");
    let layers = tuned["layers"].as_array().expect("a list");
    assert_eq!(layers.len(), 2, "{tuned}");
    for layer in layers {
        // Two bits are worse than eight, and neither is exact.
        let alone = |at: usize| layer["alone"][at]["error"].as_f64().expect("a number");
        assert!(alone(0) > 0.1 && (1e-5..0.02).contains(&alone(1)), "{layer}");
        assert_eq!(layer["chosen"], "int8,block=32,symmetric", "{layer}");
    }
    // The recipe makes what it was measured to be.
    let recipe = tuned["recipe"].as_str().expect("a recipe");
    let (status, made) = order(&daemon, json!({"model": "dense", "recipe": recipe})).await;
    assert_eq!(status, 200, "{made}");
    let made = &made["items"][0];
    assert_eq!(made["accuracy"]["outputs"][0]["error"], tuned["error"], "{tuned}");
    assert!(tuned["error"].as_f64().expect("a number") <= 0.02, "{tuned}");
    assert_eq!(made["report"]["changed"].as_array().map(Vec::len), Some(2), "{made}");
    // As much as anybody wants, and nothing at all.
    assert!(tune(10.0).await["recipe"].as_str().is_some_and(|recipe| recipe.contains("int2")));
    let none = tune(1e-7).await;
    assert_eq!((&none["recipe"], &none["layers"][0]["chosen"]), (&Value::Null, &Value::Null), "{none}");
    for (error, precisions, says) in [
        (json!(0), json!([]), "error is a share above 0"),
        (json!(0.1), json!(["int9"]), "precision \"int9\" is unknown"),
        (json!(0.1), json!(["fp16"]), "fp16 is not for single layers"),
        (json!(0.1), json!(["int8", "int8", "int8", "int8", "int8"]), "at most 4"),
    ] {
        let order = json!({"model": "dense", "error": error, "precisions": precisions});
        let (status, said) = daemon.post("/api/v1/tunings", order.to_string()).await;
        assert_eq!(status, 422, "{said}");
        assert!(said.to_string().contains(&says.replace('"', "\\\"")), "{said}");
    }
}
