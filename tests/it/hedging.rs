//! Slow requests that a second lane gets as well: who answers, what becomes of the other, and when there is none.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Asked, Client, Conduct, Deed, FakeBrowser, TestDaemon, graphs, home, infer_x, soon};

/// Requests before a model's slowest steps are known, and a few more.
const WARM: usize = 19;

struct Stage {
    browsers: Vec<FakeBrowser>,
    daemon: TestDaemon,
    client: Client,
    ask: mpsc::UnboundedSender<Asked>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

fn wasm() -> Value {
    json!({"backend": "wasm"})
}

/// A request that has long run out of time when it should have been hedged.
fn brief() -> Value {
    json!({"backend": "wasm", "timeout": 1_000_000})
}

/// Lanes that have run the model often enough, and whose steps the test decides on from now on.
async fn stage(browsers: &[&str], hedge_percent: Option<u32>) -> Stage {
    let browsers: Vec<_> = browsers.iter().map(|name| FakeBrowser::new(name, &["wasm"])).collect();
    let all: Vec<_> = browsers.iter().collect();
    let daemon =
        TestDaemon::start_in(home(), &all, |config| config.limits.hedge_percent = hedge_percent).await;
    let daemon = daemon.expect("a good start");
    daemon.settled().await;
    daemon.add("neg", graphs::neg()).await;
    daemon.verify("neg", &json!({"backend": ["wasm"]})).await;
    let mut client = daemon.client().await;
    // Who names the browser has no second lane, however slow this machine is at the moment.
    for browser in browsers.iter().cycle().take(WARM) {
        client.serves(&json!({"browser": browser.name})).await;
    }
    let (ask, asked) = mpsc::unbounded_channel();
    let stage = Stage { browsers, daemon, client, ask, asked };
    stage.hold();
    stage
}

/// Two of them, and a budget that never ends.
async fn pair() -> Stage {
    stage(&["alpha", "beta"], Some(100)).await
}

impl Stage {
    fn hold(&self) {
        for browser in &self.browsers {
            browser.behaves(Conduct::Ask(self.ask.clone()));
        }
    }

    async fn step(&mut self) -> Asked {
        soon("a step", self.asked.recv()).await.expect("the browsers live")
    }

    /// A request that hangs in one lane until another has it too.
    async fn hedged(&mut self, parameters: &Value) -> [Asked; 2] {
        self.client.send(&infer_x("r", parameters)).await;
        let both = [self.step().await, self.step().await];
        assert_ne!(both[0].lane, both[1].lane);
        both
    }

    fn browser(&self, lane: &str) -> &FakeBrowser {
        let name = lane.split("-1/").next().expect("a split has a first part");
        self.browsers.iter().find(|browser| browser.name == name).expect("one of them")
    }

    /// Both lanes are there, free, and the next thing that the client hears is their answer.
    async fn serves_on(&mut self) {
        for browser in &self.browsers {
            browser.behaves(Conduct::Compute);
        }
        for name in ["alpha", "beta"] {
            self.client.send(&infer_x(name, &json!({"browser": name}))).await;
            let reply = self.client.next().await;
            assert_eq!(
                (&reply.header["id"], reply.negated()["browser"].as_str()),
                (&json!(name), Some(name))
            );
            let lane = self.daemon.lane(&format!("{name}-1/wasm")).await;
            assert_eq!((&lane["state"], &lane["load"]["running"]), (&json!("ready"), &json!(0)), "{lane}");
        }
        assert!(self.asked.try_recv().is_err(), "nobody got a third copy");
    }

    /// Attempt, code and message of the request's rows, in the order of their attempts.
    async fn rows(&self, since: usize) -> Vec<(u64, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("ok").to_owned();
        let rows = self.daemon.runs().await.split_off(since);
        assert!(rows.iter().all(|row| row["request"] == rows[0]["request"]), "{rows:?}");
        let row = |row: &Value| {
            let attempt = row["provenance"]["attempt"].as_u64().expect("a lane had it");
            (attempt, text(&row["error"]["code"]), text(&row["error"]["message"]))
        };
        let mut rows: Vec<_> = rows.iter().map(row).collect();
        rows.sort();
        rows
    }

    /// Hedges sent, and won.
    async fn hedges(&self) -> (u64, u64) {
        let text = self.daemon.scrape().await;
        let value = |name: &str| {
            let line = format!("{name}{{model=\"neg\"}} ");
            let found = text.lines().find_map(|text| text.strip_prefix(&line));
            found.map_or(0, |value| value.parse().expect("a count"))
        };
        (value("weft_hedges_total"), value("weft_hedges_won_total"))
    }
}

#[tokio::test]
async fn a_lane_that_hangs_is_beaten_by_another() {
    let mut stage = pair().await;
    let before = stage.daemon.runs().await.len();
    let [hung, second] = stage.hedged(&wasm()).await;
    let (slow, fast) = (hung.lane.clone(), second.lane.clone());
    second.answer(Deed::Compute);
    let reply = stage.client.reply("r").await;
    let provenance = reply.negated();
    assert_eq!((&provenance["attempt"], &provenance["lane"]), (&json!(2), &json!(fast)));
    let run = reply.header["parameters"]["run"].as_str().expect("a run").to_owned();
    // The other is told, keeps its place until it has ended, and is not lost.
    stage.browser(&slow).cancels(1).await;
    assert_eq!(stage.daemon.lane(&slow).await["load"]["running"], 1);
    let beaten = (1, "cancelled".to_owned(), format!("attempt 2, run {run}, answered first"));
    assert_eq!(stage.rows(before).await, [beaten, (2, "ok".to_owned(), "ok".to_owned())]);
    hung.answer(Deed::Compute);
    stage.serves_on().await;
    assert_eq!(stage.hedges().await, (1, 1));
    let text = stage.daemon.scrape().await;
    assert!(!text.contains("weft_retries_total{"), "a lane that was beaten has not failed: {text}");
    stage.daemon.stop().await;
}

#[tokio::test]
async fn the_first_lane_may_still_answer_first() {
    let mut stage = pair().await;
    let before = stage.daemon.runs().await.len();
    let [late, second] = stage.hedged(&wasm()).await;
    late.answer(Deed::Compute);
    let reply = stage.client.reply("r").await;
    assert_eq!(reply.negated()["attempt"], 1);
    stage.browser(&second.lane).cancels(1).await;
    let rows = stage.rows(before).await;
    assert_eq!((rows[0].1.as_str(), rows[1].1.as_str()), ("ok", "cancelled"), "{rows:?}");
    second.answer(Deed::Compute);
    stage.serves_on().await;
    assert_eq!(stage.hedges().await, (1, 0));
    stage.daemon.stop().await;
}

#[tokio::test]
async fn one_that_fails_leaves_the_request_to_the_other() {
    for (deed, code) in [(Deed::Fail("internal", "elsewhere"), "internal"), (Deed::Close, "lane_lost")] {
        for second_fails in [false, true] {
            let mut stage = pair().await;
            let before = stage.daemon.runs().await.len();
            let [first, second] = stage.hedged(&wasm()).await;
            let (fails, answers) = if second_fails { (second, first) } else { (first, second) };
            let mut told = stage.daemon.client().await;
            told.send(&json!({"type": "subscribe", "topics": ["runs"]})).await;
            told.caught_up().await;
            fails.answer(deed.clone());
            assert_eq!(told.event().await.header["event"]["error"]["code"], code);
            let lane = answers.lane.clone();
            answers.answer(Deed::Compute);
            assert_eq!(stage.client.reply("r").await.negated()["lane"], lane);
            let mut codes: Vec<_> = stage.rows(before).await.into_iter().map(|(_, code, _)| code).collect();
            codes.sort();
            assert_eq!(codes, [code, "ok"]);
            stage.daemon.stop().await;
        }
    }
}

#[tokio::test]
async fn when_both_fail_the_error_is_told_once() {
    let mut stage = pair().await;
    let before = stage.daemon.runs().await.len();
    let [first, second] = stage.hedged(&wasm()).await;
    first.answer(Deed::Fail("internal", "elsewhere"));
    second.answer(Deed::Fail("internal", "elsewhere"));
    stage.client.reply("r").await.refused("internal", "elsewhere", "told to fail");
    let internal = |attempt| (attempt, "internal".to_owned(), "the fake lane was told to fail".to_owned());
    assert_eq!(stage.rows(before).await, [internal(1), internal(2)]);
    stage.serves_on().await;
    // What no lane would do better is told at once, and ends the other.
    stage.hold();
    let [first, second] = stage.hedged(&wasm()).await;
    first.answer(Deed::Fail("invalid_request", "never"));
    stage.client.reply("r").await.refused("invalid_request", "never", "told to fail");
    stage.browser(&second.lane).cancels(1).await;
    second.answer(Deed::Compute);
    stage.serves_on().await;
    stage.daemon.stop().await;
}

#[tokio::test]
async fn who_gives_up_is_answered_once_and_leaves_both_lanes() {
    for (parameters, code) in [(wasm(), "cancelled"), (brief(), "deadline_exceeded")] {
        let mut stage = pair().await;
        let before = stage.daemon.runs().await.len();
        let both = stage.hedged(&parameters).await;
        if code == "cancelled" {
            stage.client.send(&json!({"type": "cancel", "id": "r"})).await;
        }
        let reply = stage.client.reply("r").await;
        assert_eq!(reply.header["error"]["code"], code, "{reply:?}");
        for browser in &stage.browsers {
            browser.cancels(1).await;
        }
        for step in both {
            step.answer(Deed::Compute);
        }
        let rows = stage.rows(before).await;
        assert_eq!(rows.iter().map(|(_, code, _)| code.as_str()).collect::<Vec<_>>(), [code, code]);
        stage.serves_on().await;
        stage.daemon.stop().await;
    }
}

/// A request that hangs in one lane is left there.
async fn waits_in_vain(stage: &mut Stage, parameters: &Value) {
    stage.client.send(&infer_x("r", parameters)).await;
    let only = stage.step().await;
    stage.client.reply("r").await.refused("deadline_exceeded", "same", "while computing");
    assert!(stage.asked.try_recv().is_err(), "{parameters}: a second lane has it");
    only.answer(Deed::Compute);
}

#[tokio::test]
async fn there_is_no_second_lane_unless_it_is_configured_wanted_and_affordable() {
    let mut off = stage(&["alpha", "beta"], None).await;
    waits_in_vain(&mut off, &brief()).await;
    off.serves_on().await;
    assert_eq!(off.hedges().await, (0, 0));
    off.daemon.stop().await;

    let mut on = stage(&["alpha", "beta"], Some(5)).await;
    for bound in [json!({"policy": "pin"}), json!({"sequence_id": 7, "sequence_start": true})] {
        let mut parameters = brief();
        parameters.as_object_mut().expect("it is one").extend(bound.as_object().expect("so is this").clone());
        waits_in_vain(&mut on, &parameters).await;
    }
    // Some twenty requests at 5 % come to one hedge, and no second.
    let [hung, second] = on.hedged(&wasm()).await;
    second.answer(Deed::Compute);
    on.client.reply("r").await.negated();
    hung.answer(Deed::Compute);
    waits_in_vain(&mut on, &brief()).await;
    on.serves_on().await;
    assert_eq!(on.hedges().await, (1, 1));
    on.daemon.stop().await;
}

#[tokio::test]
async fn no_second_lane_is_taken_while_anybody_waits() {
    let mut stage = stage(&["alpha", "beta", "gamma"], Some(100)).await;
    // Whoever wants the browser that is leased has to wait, and nobody else does.
    let (status, lease) = stage.daemon.post("/api/v1/leases", r#"{"browser": "gamma"}"#).await;
    assert!(status < 300, "{lease}");
    stage.client.send(&infer_x("waits", &json!({"browser": "gamma"}))).await;
    stage.client.caught_up().await;
    waits_in_vain(&mut stage, &brief()).await;
    stage.client.send(&json!({"type": "cancel", "id": "waits"})).await;
    stage.client.reply("waits").await.refused("cancelled", "never", "cancelled");
    let [hung, second] = stage.hedged(&wasm()).await;
    second.answer(Deed::Compute);
    stage.client.reply("r").await.negated();
    hung.answer(Deed::Compute);
    stage.daemon.stop().await;
}
