//! Plans that are made, refused, kept, moved and removed.

use serde_json::{Value, json};
use weft::{
    daemon::STORE,
    domain::PlanId,
    store::{Store, StoredPlan},
};

use crate::{
    cli,
    support::{Client, Conduct, Deed, FakeBrowser, TestDaemon, graphs, home, infer, soon},
};

const HALVES: [graphs::Node<'_>; 2] = [("Neg", &["x"], &["h"]), ("Add", &["h", "h"], &["y"])];

/// `y = -2x`, its halves, and a first half that is another's.
async fn add_models(daemon: &TestDaemon) {
    daemon.add("whole", graphs::part(&HALVES, &["x"], &["y"])).await;
    daemon.add("first", graphs::part(&HALVES[..1], &["x"], &["h"])).await;
    daemon.add("second", graphs::part(&HALVES[1..], &["h"], &["y"])).await;
    daemon.add("wrong", graphs::part(&[("Exp", &["x"], &["h"])], &["x"], &["h"])).await;
    daemon.add("loop", graphs::part(&[("Add", &["x", "k"], &["h"])], &["x", "k"], &["h"])).await;
    daemon
        .add("back", graphs::part(&[("Neg", &["h"], &["y"]), ("Abs", &["h"], &["k"])], &["h"], &["y", "k"]))
        .await;
}

fn order(first: &str, lanes: [&str; 2], fallback: &str) -> Value {
    let stages = [json!({"model": first, "lane": lanes[0]}), json!({"model": "second", "lane": lanes[1]})];
    json!({"model": "whole", "stages": stages, "fallback": fallback})
}

fn spared(mut order: Value, spares: &str) -> Value {
    order["spares"] = json!(spares);
    order
}

fn under(id: &str, plan: &str, more: &Value) -> Value {
    let mut parameters = json!({"plan": plan});
    parameters.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
    infer(id, "whole", &x, &parameters)
}

async fn make(daemon: &TestDaemon, order: &Value) -> String {
    let (status, made) = daemon.post("/api/v1/plans", order.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().expect("an id").to_owned()
}

/// Asks under a plan; answers with the provenance of its stages.
async fn ask(client: &mut Client, plan: &str) -> Vec<Value> {
    let reply = client.ask(&under("r", plan, &json!({}))).await;
    assert_eq!(reply.header["outputs"][0]["data"], json!([-2.0, -4.0, -6.0, -8.0]), "{reply:?}");
    reply.provenance()["stages"].as_array().expect("stages").clone()
}

const LANES: [&str; 2] = ["alpha-1/wasm", "beta-1/wasm"];

#[tokio::test]
async fn what_is_no_plan_is_refused_by_name() {
    let browsers = ["alpha", "beta"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let daemon = TestDaemon::start(&browsers.each_ref()).await;
    add_models(&daemon).await;
    let stages = |stages: Value| json!({"model": "whole", "stages": stages});
    let nobody = "0".repeat(64);
    let cases = [
        (json!("whole"), 422, "invalid_request", "invalid type"),
        (json!({"model": "nobody", "stages": []}), 404, "unknown_model", "no model is called \"nobody\""),
        (stages(json!([])), 422, "invalid_request", "at least one stage"),
        (
            stages(json!([{"model": "first", "brower": "alpha"}])),
            422,
            "invalid_request",
            "unknown field `brower`",
        ),
        (stages(json!([{"model": nobody}])), 404, "unknown_model", "no model is called"),
        (order("nobody", LANES, "none"), 404, "unknown_model", "no model is called \"nobody\""),
        (order("first", LANES, "maybe"), 422, "invalid_request", "maybe"),
        (spared(order("first", LANES, "native"), "many"), 422, "invalid_request", "many"),
        (spared(order("first", LANES, "none"), "shared"), 422, "invalid_request", "spares are of no use"),
        (order("second", LANES, "none"), 422, "invalid_request", "stages 0 and 1 both make \"y\""),
        (stages(json!([{"model": "first"}])), 422, "invalid_request", "no stage makes the output \"y\""),
        (
            stages(json!([{"model": "second"}, {"model": "first"}])),
            422,
            "invalid_request",
            "list that one first",
        ),
        (stages(json!([{"model": "loop"}, {"model": "back"}])), 422, "invalid_request", "waits for stage 0"),
        (
            stages(json!([{"model": "first", "lane": "alpha-1/wasm", "browser": "alpha"}])),
            422,
            "invalid_request",
            "leave out browser and backend",
        ),
        (order("wrong", LANES, "none"), 422, "invalid_request", "do not answer as the whole model: y: "),
        (
            order("first", ["alpha-1/wasm", "nobody-1/wasm"], "native"),
            503,
            "no_backend",
            "stage 1: no lane offers nobody-1/wasm: none is configured",
        ),
    ];
    for (order, status, code, says) in cases {
        let (told, problem) = daemon.post("/api/v1/plans", order.to_string()).await;
        assert_eq!((told, problem["code"].as_str()), (status, Some(code)), "{order}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{says}: {problem}");
    }
    // A lane that computes a shard wrongly gets none of it.
    browsers[1].behaves(Conduct::Always(Deed::Wrong));
    let (status, problem) = daemon.post("/api/v1/plans", order("first", LANES, "native").to_string()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("quarantined")), "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.starts_with("stage 1: beta-1/wasm computes second"))
    );
    assert_eq!(daemon.get("/api/v1/plans").await["items"], json!([]), "none is kept");
    daemon.stop().await;
}

#[tokio::test]
async fn a_request_names_a_plan_of_its_model_and_nothing_else() {
    let browsers = ["alpha", "beta"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let daemon = TestDaemon::start(&browsers.each_ref()).await;
    add_models(&daemon).await;
    let plan = make(&daemon, &order("first", LANES, "none")).await;
    let mut client = daemon.client().await;
    ask(&mut client, &plan).await;
    let cases = [
        (json!({"plan": "plan-0"}), "no plan is called \"plan-0\""),
        (json!({"backend": "wasm"}), "leave out backend"),
        (json!({"fallback": "native"}), "leave out backend"),
        (json!({"policy": "spread"}), "leave out backend"),
    ];
    for (parameters, says) in cases {
        client.ask(&under("r", &plan, &parameters)).await.refused("invalid_request", "never", says);
    }
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
    let foreign = infer("r", "neg", &x, &json!({"plan": plan}));
    client.ask(&foreign).await.refused("invalid_request", "never", "is a plan of the model");
    // The whole model in one lane is as it was.
    let reply = client.ask(&under("r", "single", &json!({"backend": "ort-cpu"}))).await;
    assert_eq!((&reply.provenance()["plan"], reply.provenance().get("stages")), (&json!("single"), None));
    // An input that a shard does not take, and one that the whole does not.
    let wide = json!([{"name": "x", "datatype": "FP32", "shape": [1, 5], "data": [1, 2, 3, 4, 5]}]);
    let wide = infer("r", "whole", &wide, &json!({"plan": plan}));
    client.ask(&wide).await.refused("invalid_request", "never", "input \"x\" has shape [1, 5]");
    daemon.stop().await;
}

#[tokio::test]
async fn plans_outlive_the_daemon_and_shards_may_go() {
    let browsers = ["alpha", "beta"].map(|name| FakeBrowser::new(name, &["wasm"]));
    let daemon = TestDaemon::start(&browsers.each_ref()).await;
    add_models(&daemon).await;
    let plan = make(&daemon, &order("first", LANES, "none")).await;
    assert_eq!(
        make(&daemon, &order("first", LANES, "none")).await,
        plan,
        "the same stages are the same plan"
    );
    let other = make(&daemon, &order("first", LANES, "lanes")).await;
    assert_ne!(other, plan);
    let shown = daemon.get("/api/v1/plans").await;
    let home = daemon.stop().await;

    // Somebody writes a plan whose name is not that of its content.
    let store = Store::open(&home.path().join(STORE)).expect("the store");
    let kept = store.plans().await.expect("two plans");
    assert_eq!(kept.len(), 2);
    let forged = StoredPlan { id: PlanId::new("plan-0123456789abcdef"), ..kept[0].clone() };
    store.put_plan(forged).await.expect("room for a row");
    store.close().await.expect("a good end");

    let daemon = TestDaemon::start_in(home, &browsers.each_ref(), |_| {}).await.expect("a good start");
    daemon.settled().await;
    assert_eq!(daemon.get("/api/v1/plans").await, shown);
    let mut client = daemon.client().await;
    let before = browsers.each_ref().map(FakeBrowser::loads);
    ask(&mut client, &plan).await;
    let after = browsers.each_ref().map(FakeBrowser::loads);
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 1], "each lane loads its own shard alone");

    let (removed, gone) = (format!("{}/api/v1/plans/{other}", daemon.url), format!("/api/v1/plans/{other}"));
    assert_eq!(daemon.http.delete(&removed).send().await.expect("an answer").status(), 200);
    assert_eq!(daemon.http.delete(&removed).send().await.expect("an answer").status(), 404);
    assert_eq!(daemon.get(&gone).await["status"], 404);
    let second = format!("{}/api/v1/models/second", daemon.url);
    assert_eq!(daemon.http.delete(second).send().await.expect("an answer").status(), 200);
    let says = "of stage 1 is not here any more";
    client.ask(&under("r", &plan, &json!({}))).await.refused("model_not_ready", "never", says);
    let shown = daemon.get(&format!("/api/v1/plans/{plan}")).await;
    assert!(shown["unusable"].as_str().is_some_and(|reason| reason.contains(says)), "{shown}");
    assert_eq!(shown["shards"], json!(["first", null]));
    daemon.stop().await;
}

/// A stage whose lane is gone for good goes where its plan allows, and comes back with the lane.
#[tokio::test]
async fn a_stage_whose_lane_is_gone_goes_elsewhere_and_comes_back() {
    for (fallback, goes) in
        [("none", None), ("lanes", Some("gamma-1/wasm")), ("native", Some("native/ort-cpu"))]
    {
        let browsers = ["alpha", "beta", "gamma"].map(|name| FakeBrowser::new(name, &["wasm"]));
        let [alpha, beta, gamma] = browsers.each_ref();
        let all: Vec<_> = if fallback == "native" { vec![beta] } else { vec![alpha, beta, gamma] };
        let daemon = TestDaemon::start(&all).await;
        add_models(&daemon).await;
        let first = if fallback == "native" { "native/ort-cpu" } else { LANES[0] };
        let plan = make(&daemon, &order("first", [first, LANES[1]], fallback)).await;
        let mut client = daemon.client().await;
        client.send(&json!({"type": "subscribe", "topics": ["plans"]})).await;
        client.caught_up().await;
        assert_eq!(ask(&mut client, &plan).await[1]["lane"], LANES[1]);

        beta.settings().unavailable.insert("wasm", "no threads");
        beta.kill_lane("wasm");
        absent(&daemon).await;
        let Some(goes) = goes else {
            let says = "stage 1: no lane offers beta-1/wasm: wasm in beta: no threads";
            client.ask(&under("r", &plan, &json!({}))).await.refused("no_backend", "never", says);
            daemon.stop().await;
            continue;
        };
        for _ in 0..2 {
            let stage = ask(&mut client, &plan).await.remove(1);
            assert_eq!(stage["lane"], goes, "{stage}");
            let reason = "no lane offers beta-1/wasm: wasm in beta: no threads";
            assert_eq!(stage["fallback"], json!({"wanted": "beta-1/wasm", "reason": reason}));
        }
        let went = client.event().await.header["event"]["recovery"].clone();
        assert!(went["took_us"].as_u64() > Some(0), "since the lane was lost: {went}");
        assert_eq!((&went["plan"], &went["stage"], &went["lane"]), (&json!(plan), &json!(1), &json!(goes)));

        beta.settings().unavailable.clear();
        let (status, _) = daemon.post("/api/v1/instances/beta-1/restart", "").await;
        assert_eq!(status, 202);
        daemon.verify("second", &json!({"browser": ["beta"]})).await;
        assert_eq!(ask(&mut client, &plan).await[1]["lane"], LANES[1]);
        let back = client.event().await.header["event"]["recovery"].clone();
        assert_eq!((&back["lane"], &back["fallback"]), (&json!(LANES[1]), &Value::Null), "told once each");
        // The store has both, as they are written beside the requests.
        let path = format!("/api/v1/plans/{plan}");
        let kept = soon("the second recovery", async {
            loop {
                let kept = daemon.get(&path).await["recoveries"].clone();
                if kept.as_array().is_some_and(|kept| kept.len() == 2) {
                    return kept;
                }
            }
        });
        assert_eq!(kept.await, json!([back, went]));
        daemon.stop().await;
    }
}

/// Returns once beta's lane is known not to come back.
async fn absent(daemon: &TestDaemon) {
    soon("the lane's absence", async {
        while daemon.lane("beta-1/wasm").await["state"] != "absent" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_command_makes_lists_shows_and_removes_plans() {
    let alpha = FakeBrowser::new("alpha", &["wasm"]);
    let daemon = TestDaemon::start_in(home(), &[&alpha], |_| {}).await.expect("a good start");
    daemon.settled().await;
    add_models(&daemon).await;
    let weft = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::from(cli::weft(daemon.home.path(), arguments));
        let output = command.output().await.expect("the program starts");
        let text = |bytes: &[u8]| cli::text(bytes).to_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let make =
        ["plan", "make", "whole", "--stage", "first,browser=alpha", "--stage", "second,lane=native/ort-cpu"];
    let (code, made, error) = weft(&[&make[..], &["--fallback", "none", "--json"]].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    let made: Value = serde_json::from_str(&made).expect("nothing but JSON");
    let id = made["id"].as_str().expect("an id");
    assert_eq!(made["stages"][1]["inputs"], json!([{"name": "h", "from": 0}]));
    let (_, shown, _) = weft(&["plan", "show", id]).await;
    let wanted = ["0      first   alpha           x       h", "1      second  native/ort-cpu  h of 0  y"];
    assert!(wanted.iter().all(|line| shown.contains(line)), "{shown}");
    let (_, listed, _) = weft(&["plan", "list"]).await;
    assert!(listed.contains(&format!("{id}  whole  first, second  ready")), "{listed}");
    assert_eq!(weft(&["plan", "remove", id]).await.1, format!("removed {id}\n"));
    assert!(weft(&["plan", "list"]).await.1.contains("no plans yet"));
    assert_eq!(weft(&["plan", "show", id]).await.0, Some(1));
    let (code, _, error) = weft(&["plan", "make", "whole", "--stage", "first,cpu=1"]).await;
    assert_eq!(code, Some(2));
    assert!(error.contains("is no place"), "{error}");
    daemon.stop().await;
}
