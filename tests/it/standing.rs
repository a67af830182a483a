//! Standing plans: kept for a model, asked for as `auto`, reviewed, and replaced without a gap.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use weft::{config::Config, daemon::STORE, domain::Policy, store::Store};

use crate::{
    cli,
    scheduling::{hold, step},
    splitting::{LANES, LAYERS, asked, browsers, daemon, layers, values},
    support::{Client, Conduct, Deed, FakeBrowser, Reply, TestDaemon, blobs, home, soon},
};

/// Answers from one review to the next.
const REVIEW_EVERY: usize = 256;

const PLAN: &str = "/api/v1/models/whole/plan";
const REVIEW: &str = "/api/v1/models/whole/plan/review";

/// One stage in whichever lane is thought to be better.
fn order(objective: &Value) -> String {
    let split = json!({"strategy": "pipeline", "stages": 1, "lanes": LANES, "objective": objective});
    json!({"split": split, "fallback": "none"}).to_string()
}

fn latency() -> String {
    order(&json!({"for": "latency"}))
}

async fn ask(client: &mut Client) -> Reply {
    let reply = client.ask(&asked("r", &json!({"plan": "auto"}))).await;
    assert_eq!(reply.header["type"], "result", "{reply:?}");
    reply
}

/// What stands, and in which lane.
async fn stands(daemon: &TestDaemon) -> (String, String) {
    let shown = daemon.get(PLAN).await;
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
    (text(&shown["plan"]), text(&shown["made"]["stages"][0]["lane"]))
}

fn slower_by(browser: &FakeBrowser, millis: u64) {
    browser.settings().slower_by = Duration::from_millis(millis);
}

/// The browser that has the standing plan's stage, and the other.
fn sides<'b>(browsers: &'b [FakeBrowser; 2], lane: &str) -> (&'b FakeBrowser, &'b FakeBrowser) {
    if lane == LANES[0] { (&browsers[0], &browsers[1]) } else { (&browsers[1], &browsers[0]) }
}

/// A plan is kept, and its lane becomes slow, which some answers tell.
async fn slowed(browsers: &[FakeBrowser; 2], objective: &Value) -> (TestDaemon, String, String) {
    let daemon = daemon(browsers).await;
    let (status, kept) = daemon.put(PLAN, order(objective)).await;
    assert_eq!(status, 200, "{kept}");
    let (plan, lane) = stands(&daemon).await;
    slower_by(sides(browsers, &lane).0, 30);
    let mut client = daemon.client().await;
    for _ in 0..12 {
        ask(&mut client).await;
    }
    (daemon, plan, lane)
}

async fn review(daemon: &TestDaemon) -> Value {
    let (status, review) = daemon.post(REVIEW, "").await;
    assert_eq!(status, 200, "{review}");
    review
}

/// The names of the plans that there are.
async fn plans(daemon: &TestDaemon) -> Vec<String> {
    let listed = daemon.get("/api/v1/plans").await;
    let plans = listed["items"].as_array().expect("a list").iter();
    plans.map(|plan| plan["id"].as_str().expect("an id").to_owned()).collect()
}

async fn until_plans(daemon: &TestDaemon, wanted: &[&str]) {
    soon("the end of the others", async { while plans(daemon).await != wanted {} }).await;
}

fn shards(daemon: &TestDaemon) -> usize {
    blobs(&daemon.home.path().join("models")).len()
}

#[tokio::test]
async fn a_kept_plan_answers_as_the_whole_and_goes_when_it_is_dropped() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let (before, mut client) = (shards(&daemon), daemon.client().await);
    let (whole, largest) = values(&ask(&mut client).await.header);
    assert!(largest > 0.0);
    let split = json!({"strategy": "pipeline", "stages": 2, "lanes": LANES});
    let (status, kept) = daemon.put(PLAN, json!({"split": split}).to_string()).await;
    assert_eq!(status, 200, "{kept}");
    let plan = kept["plan"].as_str().expect("a plan").to_owned();
    let reply = ask(&mut client).await;
    assert_eq!(reply.provenance()["plan"], plan);
    assert_eq!(reply.provenance()["stages"].as_array().map(Vec::len), Some(2));
    for (a, b) in whole.iter().zip(&values(&reply.header).0) {
        assert!((a - b).abs() <= 1e-5 * largest, "{b} for {a}");
    }
    let rest = json!({"inputs": asked("r", &json!({}))["inputs"], "parameters": {"plan": "auto"}});
    let (status, answer) = daemon.post("/v2/models/whole/infer", rest.to_string()).await;
    assert_eq!((status, &answer["parameters"]["provenance"]["plan"]), (200, &json!(plan)), "{answer}");
    assert_eq!(daemon.get("/api/v1/models/whole").await["plan"], plan);
    assert_eq!(daemon.get(&format!("/api/v1/plans/{plan}")).await["standing"], true);

    // What is best by itself is the whole model here, and the plan goes with its shards.
    let (status, kept) = daemon.put(PLAN, "{}").await;
    assert_eq!((status, &kept["plan"], &kept["made"]), (200, &json!("single"), &Value::Null), "{kept}");
    assert_eq!(ask(&mut client).await.provenance()["plan"], "single");
    until_plans(&daemon, &[]).await;
    assert_eq!(shards(&daemon), before);
    let reviewed = review(&daemon).await;
    assert_eq!((&reviewed["verdict"], &reviewed["candidate"]), (&json!("kept"), &Value::Null), "{reviewed}");

    let (status, dropped) = daemon.delete(PLAN).await;
    assert_eq!((status, &dropped["plan"]), (200, &json!("single")));
    assert_eq!(daemon.get(PLAN).await["status"], 404);
    assert_eq!(ask(&mut client).await.provenance()["plan"], "single");
    daemon.stop().await;
}

#[tokio::test]
async fn a_plan_that_somebody_made_stays_when_it_stands_no_more() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let (_, kept) = daemon.put(PLAN, latency()).await;
    let (shard, lane) = (&kept["made"]["shards"][0], &kept["made"]["stages"][0]["lane"]);
    let order = json!({"model": "whole", "stages": [{"model": shard, "lane": lane}], "fallback": "none"});
    let (status, made) = daemon.post("/api/v1/plans", order.to_string()).await;
    assert_eq!((status, &made["id"]), (201, &kept["plan"]), "{made}");
    assert_eq!(daemon.delete(PLAN).await.0, 200);
    let id = made["id"].as_str().expect("an id");
    assert_eq!(plans(&daemon).await, [id]);
    assert_eq!(daemon.get(&format!("/api/v1/plans/{id}")).await["unusable"], Value::Null, "so do its shards");
    // Whatever was made for a model that is gone is gone as well.
    assert_eq!(daemon.delete(&format!("/api/v1/plans/{id}")).await.0, 200);
    assert_eq!(daemon.put(PLAN, order_of_two()).await.0, 200);
    assert_eq!(daemon.delete("/api/v1/models/whole").await.0, 200);
    until_plans(&daemon, &[]).await;
    daemon.stop().await;
}

/// As if the daemon had been killed between the end of a plan's standing and its own.
#[tokio::test]
async fn what_an_earlier_daemon_left_is_forgotten() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let before = shards(&daemon);
    let (_, kept) = daemon.put(PLAN, order_of_two()).await;
    assert!(shards(&daemon) > before, "{kept}");
    let home = daemon.stop().await;
    let store = Store::open(&home.path().join(STORE)).expect("the store");
    let model = kept["model"].as_str().expect("a digest").parse().expect("a digest");
    store.remove_standing_plan(model).await.expect("a row less");
    store.close().await.expect("a good end");
    let daemon = TestDaemon::start_in(home, &browsers.each_ref(), |_| {}).await.expect("a good start");
    assert_eq!(plans(&daemon).await, [] as [&str; 0]);
    assert_eq!(shards(&daemon), before);
    daemon.stop().await;
}

fn order_of_two() -> String {
    json!({"split": {"strategy": "even", "stages": 2, "lanes": LANES}}).to_string()
}

#[tokio::test]
async fn a_faster_plan_replaces_in_the_second_review_also_after_a_restart() {
    let browsers = browsers();
    let (daemon, slow, lane) = slowed(&browsers, &json!({"for": "latency"})).await;
    let before = shards(&daemon);
    let mut client = daemon.client().await;
    client.send(&json!({"type": "subscribe", "topics": ["plans"]})).await;
    client.caught_up().await;
    let first = review(&daemon).await;
    assert_eq!((&first["verdict"], &first["standing"]), (&json!("better_once"), &json!(slow)), "{first}");
    let fast = first["candidate"].as_str().expect("a plan").to_owned();
    let (standing, candidate) = (&first["measured_us"]["standing"], &first["measured_us"]["candidate"]);
    assert!(standing.as_f64() >= Some(30_000.0) && candidate.as_f64() < Some(27_000.0), "{first}");
    assert_eq!(client.event().await.header["event"]["reviewed"], first);
    assert_eq!(stands(&daemon).await, (slow.clone(), lane.clone()), "once is not enough");
    assert_eq!(plans(&daemon).await, [slow.clone(), fast.clone()]);
    let home = daemon.stop().await;

    let daemon = TestDaemon::start_in(home, &browsers.each_ref(), |_| {}).await.expect("a good start");
    daemon.settled().await;
    let shown = daemon.get(PLAN).await;
    assert_eq!((&shown["plan"], &shown["better_once"]), (&json!(slow), &json!(fast)), "{shown}");
    assert_eq!(shown["reviews"], json!([first]));
    let second = review(&daemon).await;
    assert_eq!((&second["verdict"], &second["candidate"]), (&json!("replaced"), &json!(fast)), "{second}");
    let (plan, now) = stands(&daemon).await;
    assert!(plan == fast && now != lane, "{plan} in {now}");
    let mut client = daemon.client().await;
    assert_eq!(ask(&mut client).await.provenance()["plan"], fast);
    until_plans(&daemon, &[&fast]).await;
    assert_eq!(shards(&daemon), before, "the other's shards are gone");
    assert_eq!(daemon.get(PLAN).await["reviews"], json!([second, first]));
    // The best there is stays.
    let third = review(&daemon).await;
    assert_eq!((&third["verdict"], &third["candidate"]), (&json!("kept"), &Value::Null), "{third}");
    daemon.stop().await;
}

/// As a browser that the system stops now and then: its lane says that nothing took longer.
#[tokio::test]
async fn a_lane_that_is_held_up_from_outside_is_forecast_to_be_slow() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let (status, kept) = daemon.put(PLAN, latency()).await;
    assert_eq!(status, 200, "{kept}");
    let (plan, lane) = stands(&daemon).await;
    sides(&browsers, &lane).0.settings().stands_for = Duration::from_millis(80);
    let mut client = daemon.client().await;
    for _ in 0..64 {
        ask(&mut client).await;
    }
    let tried = review(&daemon).await;
    assert_eq!(tried["standing"], plan, "{tried}");
    let forecast = |of: &str| tried["forecast_us"][of].as_f64().unwrap_or_else(|| panic!("{tried}"));
    // One in eight steps stands for 80 ms.
    assert!((5_000.0..15_000.0).contains(&forecast("standing")), "{tried}");
    assert!(forecast("candidate") < 5_000.0 && tried["candidate"].is_string(), "{tried}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_candidate_that_is_slower_goes_again_and_leaves_nothing() {
    let browsers = browsers();
    let (daemon, plan, lane) = slowed(&browsers, &json!({"for": "throughput", "in_flight": 3})).await;
    let before = shards(&daemon);
    // Nobody has run anything there yet, so that it is thought to be as fast as its like.
    slower_by(sides(&browsers, &lane).1, 90);
    let tried = review(&daemon).await;
    assert_eq!((&tried["verdict"], &tried["standing"]), (&json!("kept"), &json!(plan)), "{tried}");
    let costs = |of: &str| (tried[of]["standing"].as_f64(), tried[of]["candidate"].as_f64());
    let ((forecast, thought), (standing, measured)) = (costs("forecast_us"), costs("measured_us"));
    assert!(thought < forecast && measured > standing, "{tried}");
    assert!(tried["candidate"].is_string(), "{tried}");
    until_plans(&daemon, &[&plan]).await;
    assert_eq!(shards(&daemon), before);
    // It has been learned from.
    let again = review(&daemon).await;
    assert_eq!((&again["verdict"], &again["candidate"]), (&json!("kept"), &Value::Null), "{again}");
    assert_eq!(stands(&daemon).await.0, plan);
    daemon.stop().await;
}

#[tokio::test]
async fn no_request_fails_while_the_plan_is_replaced() {
    let browsers = browsers();
    let (daemon, slow, _) = slowed(&browsers, &json!({"for": "latency"})).await;
    let enough = Arc::new(AtomicBool::new(false));
    let (wanted, largest) = values(&ask(&mut daemon.client().await).await.header);
    let mut load = Vec::new();
    for _ in 0..2 {
        let (mut client, enough, wanted) = (daemon.client().await, enough.clone(), wanted.clone());
        load.push(tokio::spawn(async move {
            let mut plans = Vec::new();
            while !enough.load(Ordering::SeqCst) {
                let reply = ask(&mut client).await;
                for (a, b) in wanted.iter().zip(&values(&reply.header).0) {
                    assert!((a - b).abs() <= 1e-5 * largest, "{b} for {a}");
                }
                plans.push(reply.provenance()["plan"].as_str().expect("a plan").to_owned());
            }
            plans
        }));
    }
    let verdicts = [review(&daemon).await, review(&daemon).await].map(|review| review["verdict"].clone());
    assert_eq!(verdicts, ["better_once", "replaced"]);
    let fast = stands(&daemon).await.0;
    until_plans(&daemon, &[&fast]).await;
    enough.store(true, Ordering::SeqCst);
    for task in load {
        let mut plans = task.await.expect("every answer is there and right");
        plans.dedup();
        assert_eq!(plans, [slow.clone(), fast.clone()], "from one to the other, and never to anything else");
    }
    daemon.stop().await;
}

/// A request that was begun under a plan ends under it, and the plan waits for it.
#[tokio::test]
async fn the_old_plan_goes_after_its_last_request() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    assert_eq!(daemon.put(PLAN, order_of_two()).await.0, 200);
    let old = daemon.get(PLAN).await["plan"].as_str().expect("a plan").to_owned();
    let mut client = daemon.client().await;
    let mut held = hold(&browsers.each_ref());
    client.send(&asked("old", &json!({"plan": "auto"}))).await;
    let first = step(&mut held).await;
    let (_, kept) = daemon.put(PLAN, "{}").await;
    assert_eq!(kept["plan"], "single");
    assert_eq!(plans(&daemon).await, [&*old], "a request is under way");
    for browser in &browsers {
        browser.behaves(Conduct::Compute);
    }
    first.answer(Deed::Compute);
    let reply = client.reply("old").await;
    assert_eq!(reply.provenance()["plan"], old, "{reply:?}");
    until_plans(&daemon, &[]).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_review_comes_by_itself_after_so_many_answers() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    assert_eq!(daemon.put(PLAN, latency()).await.0, 200);
    let mut client = daemon.client().await;
    client.send(&json!({"type": "subscribe", "topics": ["plans"]})).await;
    for _ in 0..REVIEW_EVERY {
        ask(&mut client).await;
    }
    assert_eq!(daemon.get(PLAN).await["reviews"], json!([]), "not before");
    ask(&mut client).await;
    let event = client.event().await.header["event"].clone();
    assert_eq!(daemon.get(PLAN).await["reviews"], json!([event["reviewed"]]), "{event}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_draining_daemon_gives_its_review_up() {
    let browsers = browsers();
    let (daemon, plan, lane) = slowed(&browsers, &json!({"for": "latency"})).await;
    let before = shards(&daemon);
    let mut held = hold(&[sides(&browsers, &lane).1]);
    let url = format!("{}{REVIEW}", daemon.url);
    let reviewing = tokio::spawn(daemon.http.post(&url).send());
    let tried = step(&mut held).await;
    let (_, problem) = daemon.post(REVIEW, "").await;
    assert!(
        problem["detail"].as_str().is_some_and(|says| says.contains("a review is under way")),
        "{problem}"
    );
    daemon.drain().await;
    let answer = reviewing.await.expect("no panic").expect("an answer").json::<Value>().await.expect("JSON");
    assert_eq!((&answer["verdict"], &answer["standing"]), (&json!("given_up"), &json!(plan)), "{answer}");
    assert!(answer["says"].as_str().is_some_and(|says| says.contains("stopping")), "{answer}");
    drop(tried);
    assert_eq!(plans(&daemon).await, [&*plan]);
    assert_eq!(shards(&daemon), before);
    let home = daemon.stop().await;
    for browser in &browsers {
        browser.behaves(Conduct::Compute);
    }
    let daemon = TestDaemon::start_in(home, &browsers.each_ref(), |_| {}).await.expect("a good start");
    assert_eq!(daemon.get(PLAN).await["reviews"], json!([answer]));
    daemon.stop().await;
}

/// A plan says where its stages run, and so does whatever stands.
#[tokio::test]
async fn what_stands_answers_also_where_requests_have_to_be_pinned() {
    let browsers = browsers();
    let pin = |config: &mut Config| config.policy = Policy::Pin;
    let daemon = TestDaemon::start_in(home(), &browsers.each_ref(), pin).await.expect("a good start");
    daemon.settled().await;
    daemon.add("whole", layers(LAYERS)).await;
    let mut client = daemon.client().await;
    client.ask(&asked("r", &json!({}))).await.refused("invalid_request", "never", "the policy pin wants");
    for (order, stages) in [(order_of_two(), Some(2)), ("{}".to_owned(), None)] {
        assert_eq!(daemon.put(PLAN, order).await.0, 200);
        let reply = ask(&mut client).await;
        assert_eq!(reply.provenance()["stages"].as_array().map(Vec::len), stages, "{reply:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn bad_orders_are_named() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let split = |split: Value| json!({"split": split}).to_string();
    let cases = [
        ("whole", "{".to_owned(), 422, "invalid_request", "EOF"),
        ("whole", json!({"spilt": {}}).to_string(), 422, "invalid_request", "unknown field `spilt`"),
        ("whole", json!({"fallback": "maybe"}).to_string(), 422, "invalid_request", "maybe"),
        ("whole", split(json!({"strategy": "sideways"})), 422, "invalid_request", "sideways"),
        ("whole", split(json!({"lanes": ["gone-1/wasm"]})), 503, "no_backend", "no lane gone-1/wasm"),
        (
            "whole",
            json!({"split": {"strategy": "even", "stages": 2, "lanes": LANES}, "fallback": "none", "spares": "shared"})
                .to_string(),
            422,
            "invalid_request",
            "spares are of no use",
        ),
        ("nobody", "{}".to_owned(), 404, "unknown_model", "no model is called \"nobody\""),
    ];
    let before = shards(&daemon);
    for (model, order, wanted, code, says) in cases {
        let (status, said) = daemon.put(&format!("/api/v1/models/{model}/plan"), order.clone()).await;
        assert_eq!((status, said["code"].as_str()), (wanted, Some(code)), "{order}: {said}");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{order}: {said}");
    }
    assert_eq!(shards(&daemon), before);
    for said in [daemon.get(PLAN).await, daemon.delete(PLAN).await.1, daemon.post(REVIEW, "").await.1] {
        assert_eq!(said["status"], 404, "{said}");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("no plan is kept for whole")));
    }
    let (_, kept) = daemon.put(PLAN, latency()).await;
    let plan = kept["plan"].as_str().expect("a plan");
    let (status, said) = daemon.delete(&format!("/api/v1/plans/{plan}")).await;
    assert_eq!(status, 409, "{said}");
    let mut client = daemon.client().await;
    let cases = [
        (json!({"plan": "auto", "backend": "wasm"}), "leave out backend"),
        (json!({"plan": "auto", "policy": "spread"}), "leave out backend"),
        (json!({"plan": "auto", "sequence_id": 7, "sequence_start": true}), "another plan may stand"),
    ];
    for (parameters, says) in cases {
        client.ask(&asked("r", &parameters)).await.refused("invalid_request", "never", says);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_command_keeps_shows_reviews_and_drops() {
    let browsers = browsers();
    let daemon = daemon(&browsers).await;
    let weft = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::from(cli::weft(daemon.home.path(), arguments));
        let output = command.output().await.expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", cli::text(&output.stderr));
        cli::text(&output.stdout).to_owned()
    };
    let keep = [
        "plan",
        "keep",
        "whole",
        "--strategy",
        "pipeline",
        "--stages",
        "2",
        "--lane",
        LANES[0],
        "--lane",
        LANES[1],
    ];
    let kept = weft(&keep).await;
    assert!(kept.contains("of whole: ready, kept for its model"), "{kept}");
    let plan = stands(&daemon).await.0;
    assert!(weft(&["plan", "list"]).await.contains("ready, kept for its model"));
    assert!(weft(&["models", "show", "whole"]).await.contains(&format!("plan {plan} for requests")));
    let reviewed = weft(&["plan", "review", "whole"]).await;
    let shown = weft(&["plan", "show", "whole"]).await;
    assert!(shown.contains(reviewed.trim()) && shown.contains(&plan), "{shown}");
    assert_eq!(weft(&["plan", "drop", "whole"]).await, "no plan is kept for whole any more\n");
    until_plans(&daemon, &[]).await;
    daemon.stop().await;
}
