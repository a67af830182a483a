//! Models that the daemon splits: forecasts, shards, plans made of them, and what cannot be split.

use serde_json::{Value, json};

use crate::{
    cli,
    support::{FakeBrowser, TestDaemon, blobs, graphs, infer},
};

pub(crate) const WIDTH: usize = 32;
pub(crate) const LAYERS: u8 = 6;
pub(crate) const LANES: [&str; 2] = ["alpha-1/wasm", "beta-1/wasm"];

/// Layers of which none is like another, and small enough that nothing grows out of bounds.
pub(crate) fn layers(count: u8) -> Vec<u8> {
    let weight = |layer: u8, at: usize| ((at * 37 + usize::from(layer) * 11) % 101) as f32 / 404.0 - 0.1;
    let weights = |layer| (0..WIDTH * WIDTH).flat_map(|at| weight(layer, at).to_le_bytes()).collect();
    graphs::dense(WIDTH as u64, &(0..count).map(weights).collect::<Vec<_>>())
}

pub(crate) async fn daemon(browsers: &[FakeBrowser; 2]) -> TestDaemon {
    let daemon = TestDaemon::start(&browsers.each_ref()).await;
    daemon.add("whole", layers(LAYERS)).await;
    daemon
}

pub(crate) fn browsers() -> [FakeBrowser; 2] {
    ["alpha", "beta"].map(|name| FakeBrowser::new(name, &["wasm"]))
}

pub(crate) fn asked(id: &str, parameters: &Value) -> Value {
    let x: Vec<f32> = (0..WIDTH).map(|at| (at * 29 % 83) as f32 / 83.0).collect();
    infer(
        id,
        "whole",
        &json!([{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": x}]),
        parameters,
    )
}

fn pipeline(stages: usize) -> Value {
    json!({"model": "whole", "split": {"strategy": "pipeline", "stages": stages, "lanes": LANES}})
}

#[tokio::test]
async fn a_model_is_forecast_split_and_answers_as_the_whole() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let before = blobs(&daemon.home.path().join("models")).len();
    let (status, forecast) = daemon.post("/api/v1/plans/forecast", pipeline(2).to_string()).await;
    assert_eq!(status, 200, "{forecast}");
    assert_eq!((&forecast["shape"], &forecast["forecast"]["measured"]), (&json!("pipeline"), &json!(false)));
    assert_eq!(forecast["why"]["worth"], false, "nobody has measured these lanes: {forecast}");
    let weights = |stage: &Value| stage["weight_bytes"].as_u64().expect("bytes");
    let stages = forecast["stages"].as_array().expect("stages");
    assert_eq!(stages.iter().map(weights).sum::<u64>(), u64::from(LAYERS) * 4 * (WIDTH * WIDTH) as u64);
    assert_eq!(blobs(&daemon.home.path().join("models")).len(), before, "a forecast makes nothing");

    let (status, plan) = daemon.post("/api/v1/plans", pipeline(2).to_string()).await;
    assert_eq!(status, 201, "{plan}");
    let lanes: Vec<_> =
        plan["stages"].as_array().expect("stages").iter().map(|stage| &stage["lane"]).collect();
    let wanted: Vec<_> = stages.iter().map(|stage| &stage["lanes"][0]).collect();
    assert_eq!(lanes, wanted);
    let mut client = daemon.client().await;
    let whole = client.ask(&asked("whole", &json!({"backend": "ort-cpu"}))).await;
    let split = client.ask(&asked("split", &json!({"plan": plan["id"]}))).await;
    let ((whole, largest), (values, _)) = (values(&whole.header), values(&split.header));
    assert!(largest > 0.0);
    for (a, b) in whole.iter().zip(&values) {
        assert!((a - b).abs() <= 1e-5 * largest, "{b} for {a}");
    }
    let provenance = split.provenance()["stages"].as_array().expect("stages").clone();
    let seen: Vec<_> = provenance.iter().map(|stage| &stage["lane"]).collect();
    assert_eq!(seen, wanted);

    // What the stages took is what is known of the lanes from now on.
    let (_, forecast) = daemon.post("/api/v1/plans/forecast", pipeline(2).to_string()).await;
    assert_eq!(forecast["forecast"]["measured"], true, "{forecast}");
    assert_ne!(forecast["why"]["reason"], "not_measured", "{forecast}");

    let listed = daemon.get("/api/v1/models").await;
    let names: Vec<_> =
        listed["items"].as_array().expect("a list").iter().map(|model| model["name"].as_str()).collect();
    let shards: Vec<_> = names.iter().flatten().filter(|name| name.starts_with("whole.shard-")).collect();
    assert_eq!(shards.len(), 2, "{names:?}");
    daemon.stop().await;
}

/// What a request of the whole answers, and the largest of its values.
pub(crate) fn values(reply: &Value) -> (Vec<f64>, f64) {
    let data = reply["outputs"][0]["data"].as_array().unwrap_or_else(|| panic!("{reply}"));
    let values: Vec<_> = data.iter().map(|value| value.as_f64().expect("a number")).collect();
    let largest = values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    (values, largest)
}

#[tokio::test]
async fn products_are_dealt_out_and_added_up_natively() {
    let browsers = browsers();
    let daemon = TestDaemon::start(&browsers.each_ref()).await;
    daemon.add("whole", layers(2)).await;
    let lanes = [LANES[0], LANES[1], "native/ort-cpu"];
    let order = json!({"model": "whole", "split": {"strategy": "tensor", "lanes": lanes}});
    let (status, forecast) = daemon.post("/api/v1/plans/forecast", order.to_string()).await;
    assert_eq!((status, &forecast["shape"]), (200, &json!("tensor")), "{forecast}");
    let (status, plan) = daemon.post("/api/v1/plans", order.to_string()).await;
    assert_eq!(status, 201, "{plan}");
    let mut client = daemon.client().await;
    let whole = client.ask(&asked("whole", &json!({"backend": "ort-cpu"}))).await;
    let split = client.ask(&asked("split", &json!({"plan": plan["id"]}))).await;
    let ((whole, largest), (dealt, _)) = (values(&whole.header), values(&split.header));
    assert!(largest > 0.0);
    for (a, b) in whole.iter().zip(&dealt) {
        assert!((a - b).abs() <= 1e-5 * largest, "{b} for {a}");
    }
    // Two products in two ways each, their sum, and what lies behind it.
    let stages = split.provenance()["stages"].as_array().expect("stages").clone();
    let ran = |lane: &str| stages.iter().filter(|stage| stage["lane"] == lane).count();
    assert_eq!((stages.len(), ran("native/ort-cpu")), (4, 1), "{stages:?}");
    assert!(ran(LANES[0]) >= 1 && ran(LANES[1]) >= 1, "{stages:?}");
    let (_, forecast) = daemon.post("/api/v1/plans/forecast", order.to_string()).await;
    assert_eq!(forecast["forecast"]["measured"], true, "{forecast}");
    let order = json!({"model": "whole", "split": {"strategy": "auto", "lanes": lanes}});
    let (_, forecast) = daemon.post("/api/v1/plans/forecast", order.to_string()).await;
    let considered = forecast["alternatives"].as_array().expect("what it was compared with");
    let dealt: Vec<_> = considered.iter().filter(|other| other["shape"] == "tensor").collect();
    assert!(dealt.len() == 1 && dealt[0]["cost_us"].is_number(), "{considered:?}");
    daemon.stop().await;
}

/// A browser's lane and a native one have neither a browser nor a backend in common.
#[tokio::test]
async fn a_stage_with_several_lanes_runs_in_these_alone() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let lanes = [LANES[0], LANES[1], "native/ort-cpu"];
    let objective = json!({"for": "throughput", "in_flight": 8});
    let split = json!({"strategy": "hybrid", "stages": 2, "lanes": lanes, "objective": objective});
    let order = json!({"model": "whole", "fallback": "none", "split": split});
    let (status, plan) = daemon.post("/api/v1/plans", order.to_string()).await;
    assert_eq!(status, 201, "{plan}");
    let allowed = |stage: &Value| match stage["lane"].as_str() {
        Some(lane) => vec![lane.to_owned()],
        None => serde_json::from_value(stage["lanes"].clone()).expect("lanes"),
    };
    let places: Vec<Vec<String>> = plan["stages"].as_array().expect("stages").iter().map(allowed).collect();
    let mut named = places.concat();
    named.sort();
    assert_eq!((places.len(), named), (2, lanes.map(str::to_owned).to_vec()), "{plan}");
    let mut client = daemon.client().await;
    for at in 0..12 {
        client.send(&asked(&format!("r{at}"), &json!({"plan": plan["id"]}))).await;
    }
    for _ in 0..12 {
        let reply = client.next().await;
        for (at, place) in places.iter().enumerate() {
            let lane = reply.provenance()["stages"][at]["lane"].as_str().expect("a lane");
            assert!(place.iter().any(|named| named == lane), "{lane} for {place:?}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn values_pass_in_half_precision_where_that_is_near_enough() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let order = |model: &str, activations: &str| {
        let mut order = pipeline(2);
        (order["model"], order["split"]["activations"]) = (json!(model), json!(activations));
        order
    };
    let bytes_out = async |activations: &str| {
        let (_, forecast) =
            daemon.post("/api/v1/plans/forecast", order("whole", activations).to_string()).await;
        forecast["stages"][0]["bytes_out"].as_f64().unwrap_or_else(|| panic!("{forecast}"))
    };
    let (single, half) = (bytes_out("as_made").await, bytes_out("fp16").await);
    assert!((single / half - 2.0).abs() < 1e-9, "{single} and {half}");
    let mut errors = Vec::new();
    for activations in ["as_made", "fp16"] {
        let (status, plan) = daemon.post("/api/v1/plans", order("whole", activations).to_string()).await;
        assert_eq!((status, &plan["activations"]), (201, &json!(activations)), "{plan}");
        errors.push(plan["error"].as_f64().expect("an error"));
        let shown = daemon.get(&format!("/api/v1/plans/{}", plan["id"].as_str().expect("an id"))).await;
        assert_eq!((&shown["error"], &shown["activations"]), (&plan["error"], &plan["activations"]));
        let mut client = daemon.client().await;
        let reply = client.ask(&asked(activations, &json!({"plan": plan["id"]}))).await;
        let passed = reply.provenance()["stages"][0]["bytes_out"].as_f64();
        assert_eq!(passed, Some(if activations == "fp16" { half } else { single }), "{}", reply.header);
    }
    assert!(errors[0] < 1e-6 && (1e-6..1e-3).contains(&errors[1]), "{errors:?}");
    let (_, forecast) = daemon.post("/api/v1/plans/forecast", order("whole", "fp16").to_string()).await;
    assert_eq!(forecast["forecast"]["measured"], true, "{forecast}");

    // A model like it, whose owner wants it nearer.
    let (_, upload) = daemon.post("/api/v1/blobs", layers(LAYERS - 1)).await;
    let strict = json!({"name": "strict", "digest": upload["digest"], "source": "a test", "tolerance": 1e-6});
    let (status, said) = daemon.post("/api/v1/models", strict.to_string()).await;
    assert_eq!(status, 200, "{said}");
    let (_, said) = daemon.post("/api/v1/plans", order("strict", "fp16").to_string()).await;
    assert_eq!(said["code"], "invalid_request", "{said}");
    let told = said["detail"].as_str().expect("a reason");
    assert!(told.contains("do not answer as the whole model"), "{told}");
    daemon.stop().await;
}

#[tokio::test]
async fn even_stages_go_to_the_lanes_as_they_are_named() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let named = ["native/ort-cpu", LANES[1], LANES[0]];
    for lanes in [vec![LANES[0], LANES[1]], vec![LANES[1], LANES[0]], named.to_vec()] {
        let split = json!({"strategy": "even", "stages": lanes.len(), "lanes": lanes});
        let order = json!({"model": "whole", "split": split}).to_string();
        let (status, plan) = daemon.post("/api/v1/plans", order).await;
        assert_eq!(status, 201, "{plan}");
        let stages = plan["stages"].as_array().expect("stages");
        assert_eq!(stages.iter().map(|stage| &stage["lane"]).collect::<Vec<_>>(), lanes, "{plan}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn lanes_that_start_are_waited_for_when_they_are_named() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let home = daemon.stop().await;
    let daemon = TestDaemon::start_in(home, &browsers.each_ref(), |_| {}).await.expect("a good start");
    let (status, forecast) = daemon.post("/api/v1/plans/forecast", pipeline(2).to_string()).await;
    assert_eq!(status, 200, "{forecast}");
    daemon.stop().await;
}

/// A model that answers alike whatever it is asked proves nothing, and neither do its parts.
#[tokio::test]
async fn what_proves_nothing_is_not_said_to_differ() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    daemon.add("alike", graphs::of(&[("Sub", &["x", "x"], &["z"]), ("Neg", &["z"], &["y"])])).await;
    let order = json!({"model": "alike", "split": {"strategy": "even", "stages": 2, "lanes": LANES}});
    let (_, said) = daemon.post("/api/v1/plans", order.to_string()).await;
    assert_eq!(said["code"], "invalid_request", "{said}");
    let told = "do not show whether the stages together answer as it does";
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(told)), "{said}");
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_split_says_why_and_leaves_nothing() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let before = blobs(&daemon.home.path().join("models")).len();
    let split = |split: Value| json!({"model": "whole", "split": split});
    let cases = [
        (split(json!({"strategy": "sideways"})), "invalid_request", "unknown variant `sideways`"),
        (
            split(json!({"strategy": "pipeline", "lanes": ["gone-1/wasm"]})),
            "no_backend",
            "no lane gone-1/wasm",
        ),
        (
            split(json!({"strategy": "even", "lanes": [LANES[0], LANES[1], LANES[0]]})),
            "invalid_request",
            "the lane alpha-1/wasm is named twice",
        ),
        (
            split(json!({"strategy": "pipeline", "stages": 0})),
            "invalid_request",
            "0 stages is no number of stages",
        ),
        (pipeline(1000), "invalid_request", "1000 stages were asked for, and the graph can be cut into 12"),
        (pipeline(3), "invalid_request", "3 stages need as many lanes, and there are 2"),
        (split(json!({"strategy": "component"})), "invalid_request", "the strategy component does not suit"),
        (
            split(json!({"strategy": "tensor", "lanes": ["native/ort-cpu", LANES[0]]})),
            "invalid_request",
            "tensor needs two lanes beside the native one, and there are 1",
        ),
        (
            split(json!({"strategy": "tensor", "lanes": LANES})),
            "invalid_request",
            "a native lane adds up what the ways give",
        ),
        (split(json!({"strategy": "auto"})), "invalid_request", "name a strategy to split it all the same"),
        (json!({"model": "nobody", "split": {}}), "unknown_model", "no model is called \"nobody\""),
    ];
    for (order, code, says) in cases {
        let (_, said) = daemon.post("/api/v1/plans", order.to_string()).await;
        assert_eq!(said["code"], code, "{order}: {said}");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{order}: {said}");
    }
    let both = json!({"model": "whole", "stages": [{"model": "whole"}], "split": {}});
    let (status, said) = daemon.post("/api/v1/plans", both.to_string()).await;
    assert_eq!(status, 422, "{said}");
    // A lane that computes its shard wrongly has no plan, and the shards are gone again.
    browsers[1].behaves(crate::support::Conduct::Always(crate::support::Deed::Wrong));
    let (_, said) = daemon.post("/api/v1/plans", pipeline(2).to_string()).await;
    assert_eq!(said["code"], "quarantined", "{said}");
    assert_eq!(blobs(&daemon.home.path().join("models")).len(), before);
    assert_eq!(daemon.get("/api/v1/plans").await["items"], json!([]));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_forecasts_draws_and_makes() {
    let home = cli::home();
    let file = home.path().join("whole.onnx");
    std::fs::write(&file, layers(LAYERS)).expect("room for a file");
    let picture = home.path().join("plan.svg");
    let picture = picture.to_str().expect("UTF-8");
    tokio::task::block_in_place(|| {
        let served = cli::serve(home.path());
        let run = |arguments: &[&str], code: i32, says: &str| {
            let done = cli::run(home.path(), arguments);
            let said = format!("{}{}", cli::text(&done.stdout), cli::text(&done.stderr));
            assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
            assert!(said.contains(says), "{arguments:?}: {said}");
        };
        run(&["models", "add", file.to_str().expect("UTF-8")], 0, "added whole");
        run(&["plan", "whole", "--explain"], 0, "whole, 12 units: single, 1 stages");
        run(&["plan", "whole", "--strategy", "pipeline", "--stages", "1", "--svg", picture], 0, "pipeline");
        run(&["plan", "whole", "--strategy", "sideways"], 2, "sideways");
        run(&["plan", "make", "whole", "--strategy", "pipeline", "--stages", "1"], 0, "ready");
        run(&["plan", "list"], 0, "whole.shard-");
        assert_eq!(served.end(nix::sys::signal::Signal::SIGTERM).0, Some(0));
    });
    let drawn = std::fs::read_to_string(picture).expect("a picture");
    assert!(drawn.starts_with("<svg ") && drawn.contains("native/ort-cpu"), "{drawn}");
}
