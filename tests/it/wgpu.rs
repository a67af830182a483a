//! Our own kernels natively, through a daemon, on whatever adapter there is: Mesa's lavapipe where there is no other.

use serde_json::{Value, json};
use weft::backend::wgpu::{AdapterInfo, Device, Wanted};

use crate::{
    native,
    support::{
        Client, Reply, TestDaemon,
        graphs::{self, Dim, FLOAT, INT64, enclosed, field, graph, node, number, port, text},
        home, infer, infer_x,
    },
};

/// The adapters of this machine. Without any this is a skip; in CI, which installs lavapipe, it is a failure.
#[allow(clippy::print_stderr, reason = "a skip is said")]
fn adapters() -> Option<Vec<AdapterInfo>> {
    let found = Device::list();
    if !found.is_empty() {
        return Some(found);
    }
    let message = "skipped: no GPU's adapter is here, and no Mesa with lavapipe";
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
    None
}

/// A daemon with a lane on the best adapter, and that adapter.
async fn started() -> Option<(TestDaemon, AdapterInfo)> {
    adapters()?;
    let daemon = TestDaemon::start_in(home(), &[], |config| config.native.wgpu = Some(Wanted::Any)).await;
    let daemon = daemon.expect("a good start");
    daemon.add("neg", graphs::neg()).await;
    let name = daemon.lane("native/wgpu").await["capability"]["adapter"]["device"].clone();
    let adapter = Device::list().into_iter().find(|adapter| name == adapter.name.as_str());
    Some((daemon, adapter.expect("the lane's adapter is among those of the machine")))
}

fn on(backend: &str) -> Value {
    json!({"backend": [backend]})
}

fn numbers(reply: &Reply, output: usize) -> Vec<f64> {
    let data = reply.header["outputs"][output]["data"].as_array();
    data.unwrap_or_else(|| panic!("no numbers in {reply:?}"))
        .iter()
        .map(|it| it.as_f64().expect("one"))
        .collect()
}

/// Asks both lanes; they answer alike, and ours tells where it computed. Answers what it told.
async fn alike(client: &mut Client, model: &str, inputs: &Value) -> Value {
    let wanted = client.ask(&infer("wanted", model, inputs, &on("ort-cpu"))).await;
    let answer = client.ask(&infer("answer", model, inputs, &on("wgpu"))).await;
    let outputs = wanted.header["outputs"].as_array().expect("outputs").len();
    for at in 0..outputs {
        let (wanted, found) = (numbers(&wanted, at), numbers(&answer, at));
        let most = wanted.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        let off = wanted.iter().zip(&found).map(|(wanted, found)| (wanted - found).abs()).fold(0.0, f64::max);
        assert!(wanted.len() == found.len() && off <= 1e-4 * most, "{model}: output {at} is off by {off:e}");
    }
    answer.provenance().clone()
}

fn ramp(len: usize) -> Vec<f64> {
    (0..len).map(|at| (at * 37 % 101) as f64 / 50.0 - 1.0).collect()
}

fn floats(name: &str, shape: &[usize]) -> Value {
    json!({"name": name, "datatype": "FP32", "shape": shape, "data": ramp(shape.iter().product())})
}

#[tokio::test]
async fn models_that_people_use_are_verified_and_answer_what_the_reference_does() {
    let Some((daemon, adapter)) = started().await else { return };
    let (silero, magika) = (native::silero(), native::magika());
    let bytes: Vec<_> = (0..2048).map(|at| at * 7 % 257).collect();
    let sound = json!([
        floats("input", &[1, 576]),
        floats("state", &[2, 1, 128]),
        {"name": "sr", "datatype": "INT64", "shape": [], "data": [16_000]},
    ]);
    let file = json!([{"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": bytes}]);
    let mut client = daemon.client().await;
    for (name, path, nodes, inputs) in [("silero", silero, 350, sound), ("magika", magika, 95, file)] {
        daemon.add(name, std::fs::read(&path).expect("a model")).await;
        let verdicts = daemon.verify(name, &on("wgpu")).await;
        assert_eq!(verdicts["native/wgpu"]["status"], "verified", "{name}: {verdicts:?}");
        let told = alike(&mut client, name, &inputs).await;
        assert_eq!((&told["browser"], &told["backend"]), (&json!("native"), &json!("wgpu")), "{told}");
        assert_eq!((&told["verdict"], &told["fallback"]), (&json!("verified"), &Value::Null), "{told}");
        assert_eq!(told["software_adapter"], adapter.software(), "{told}");
        assert!(told["adapter"].to_string().contains(&adapter.name), "{told}");
        assert!(told["engine"].as_str().is_some_and(|engine| engine.starts_with("weft@")), "{told}");
        assert_eq!(told["placement"], json!({"wgpu": nodes}), "{told}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn weights_in_a_file_beside_the_graph_are_found() {
    const WIDTH: usize = 8;
    let Some((daemon, _)) = started().await else { return };
    let values = ramp(WIDTH * WIDTH).into_iter().flat_map(|value| (value as f32).to_le_bytes());
    let (_, weight) = daemon.post("/api/v1/blobs", values.collect::<Vec<_>>()).await;
    let (_, graph) = daemon.post("/api/v1/blobs", graphs::dense_outside(WIDTH as u64, "w.bin")).await;
    let model = json!({"name": "outside", "digest": graph["digest"], "source": "a test", "batch": {"max": 1},
        "files": {"w.bin": weight["digest"]}});
    let (status, said) = daemon.post("/api/v1/models", model.to_string()).await;
    assert_eq!(status, 200, "{said}");
    alike(&mut daemon.client().await, "outside", &json!([floats("x", &[3, WIDTH])])).await;
    daemon.stop().await;
}

/// `y` is `-x` at one rate and `|x|` at every other.
fn by_rate() -> Vec<u8> {
    let dims = || [Dim::Symbol("n"), Dim::Size(4)];
    let branch = |name: &str, operator: &str, output: &str| {
        let graph = graph(&[node(operator, &["x"], &[output])], &[], &[port(output, FLOAT, &dims())], &[]);
        field(5, &[text(1, name), field(6, &graph), number(20, 5)].concat())
    };
    let decides = node("Equal", &["rate", "wide"], &["is_wide"]);
    let branches = [branch("then_branch", "Neg", "t"), branch("else_branch", "Abs", "e")].concat();
    let chooses = [node("If", &["is_wide"], &["y"]), branches].concat();
    let wide = [number(2, INT64), text(8, "wide"), field(9, &16_000i64.to_le_bytes())].concat();
    let inputs = [port("x", FLOAT, &dims()), port("rate", INT64, &[])];
    enclosed(&graph(&[decides, chooses], &inputs, &[port("y", FLOAT, &dims())], &[wide]))
}

#[tokio::test]
async fn a_program_is_made_for_each_shape_and_for_each_value_that_decides() {
    let Some((daemon, _)) = started().await else { return };
    daemon.add("by-rate", by_rate()).await;
    let mut client = daemon.client().await;
    for rows in [1, 3, 17, 1] {
        alike(&mut client, "neg", &json!([floats("x", &[rows, 4])])).await;
        for rate in [16_000, 8_000, 16_000] {
            let rate = json!({"name": "rate", "datatype": "INT64", "shape": [], "data": [rate]});
            alike(&mut client, "by-rate", &json!([floats("x", &[rows, 4]), rate])).await;
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_session_holds_is_told_and_freed() {
    let Some((daemon, _)) = started().await else { return };
    let mut client = daemon.client().await;
    client.serves(&on("wgpu")).await;
    let lane = daemon.lane("native/wgpu").await;
    let held = lane["load"]["sessions"][0]["memory"]["gpu_bytes"].as_u64();
    assert!(held.is_some_and(|bytes| bytes > 0), "{lane}");
    let (status, said) = daemon.post("/api/v1/models/neg/unload", "").await;
    assert_eq!((status, &said["residence"]["lanes"]), (200, &json!([])), "{said}");
    assert_eq!(daemon.lane("native/wgpu").await["load"]["sessions"], json!([]));
    let (status, said) = daemon.post("/api/v1/models/neg/load", "{\"backend\": [\"wgpu\"]}").await;
    assert_eq!(status, 200, "{said}");
    client.serves(&on("wgpu")).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_graph_with_another_operator_is_refused_by_its_name() {
    let Some((daemon, _)) = started().await else { return };
    daemon.add("hard", graphs::of(&[("Neg", &["x"], &["h"]), ("Hardmax", &["h"], &["y"])])).await;
    let mut client = daemon.client().await;
    let x = json!([floats("x", &[1, 4])]);
    let refused = client.ask(&infer("r", "hard", &x, &on("wgpu"))).await;
    refused.refused("no_backend", "elsewhere", "operator Hardmax of node \"y\"");
    let reply =
        client.ask(&infer("r", "hard", &x, &json!({"backend": ["wgpu"], "fallback": "native"}))).await;
    let told = reply.provenance();
    assert_eq!(told["backend"], "ort-cpu", "{reply:?}");
    assert!(told["fallback"]["reason"].as_str().is_some_and(|reason| reason.contains("Hardmax")), "{told}");
    client.serves(&on("wgpu")).await;
    daemon.stop().await;
}

/// Unless it is asked for, and whatever the policy.
#[tokio::test]
async fn a_software_adapter_serves_nobody() {
    let Some((daemon, adapter)) = started().await else { return };
    let mut client = daemon.client().await;
    client.serves(&on("wgpu")).await;
    if adapter.software() {
        for policy in ["browser-first", "native-first", "fastest", "spread"] {
            let reply = client.ask(&infer_x("r", &json!({"policy": policy}))).await;
            assert_eq!(reply.negated()["backend"], "ort-cpu", "{policy}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn which_adapter_is_wanted_is_what_there_is_or_an_error() {
    let Some(found) = adapters() else { return };
    let start = |wgpu| TestDaemon::start_in(home(), &[], |config| config.native.wgpu = wgpu);
    let refused =
        start(Some(Wanted::Named("abacus".to_owned()))).await.err().expect("no such adapter").to_string();
    assert!(
        refused.contains("no adapter is called \"abacus\"") && refused.contains(&found[0].name),
        "{refused}"
    );
    let named = found[0].name.to_uppercase();
    for (wgpu, wanted) in [
        (None, None),
        (
            Some(Wanted::Hardware),
            found.iter().find(|adapter| !adapter.software()).map(|adapter| adapter.name.clone()),
        ),
        (Some(Wanted::Named(named)), Some(found[0].name.clone())),
    ] {
        let daemon = start(wgpu.clone()).await.expect("a good start");
        let lanes = daemon.get("/api/v1/lanes").await;
        let lane = lanes["items"].as_array().expect("a list").iter().find(|lane| lane["backend"] == "wgpu");
        let adapter = lane.map(|lane| lane["capability"]["adapter"]["device"].clone());
        assert_eq!(adapter, wanted.map(Value::from), "{wgpu:?}");
        daemon.stop().await;
    }
}
