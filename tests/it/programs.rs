//! Lanes on our own kernels: which programs they are sent, and when.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Client, Conduct, Deed, FakeBrowser, Reply, TestDaemon, graphs, infer, infer_x, soon};

fn ours() -> Value {
    json!({"backend": "weft-wgsl"})
}

/// So many rows of `neg`, which are right when they are answered.
async fn ask(client: &mut Client, rows: usize) -> Reply {
    let values: Vec<usize> = (0..rows * 4).collect();
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": values}]);
    let reply = client.ask(&infer("rows", "neg", &x, &ours())).await;
    let negated: Vec<f64> = values.iter().map(|value| -(*value as f64)).collect();
    assert_eq!(reply.header["outputs"][0]["data"], json!(negated), "{reply:?}");
    reply
}

#[tokio::test]
async fn a_program_is_sent_once_for_each_set_of_sizes_until_others_take_its_place() {
    let browser = FakeBrowser::new("fake", &["weft-wgsl"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let mut client = daemon.client().await;
    let reply = client.ask(&infer_x("r", &ours())).await;
    let provenance = reply.negated();
    assert_eq!(provenance["verdict"], "verified", "{provenance}");
    assert_eq!(provenance["placement"], json!({"weft-wgsl": 1}), "{provenance}");
    let engine = format!("weft@{}/", env!("CARGO_PKG_VERSION"));
    assert!(provenance["engine"].as_str().is_some_and(|said| said.starts_with(&engine)), "{provenance}");

    let made = browser.programs().len();
    for rows in [20, 21, 20, 21, 20] {
        ask(&mut client, rows).await;
    }
    assert_eq!(browser.programs().len(), made + 2);
    let first = browser.programs()[made].0;
    // Eight others: the one used last, for 20 rows, is the last of the earlier ones to go.
    for rows in 30..38 {
        assert!(!browser.programs().iter().any(|(_, drops)| drops.contains(&first)), "{rows}");
        ask(&mut client, rows).await;
    }
    assert_eq!(browser.programs().last().map(|(_, drops)| drops.as_slice()), Some([first].as_slice()));
    ask(&mut client, 20).await;
    assert_eq!(browser.programs().len(), made + 11);
    ask(&mut client, 37).await;
    assert_eq!(browser.programs().len(), made + 11);

    // A lane that comes back has none.
    let (status, said) = daemon.post("/api/v1/models/neg/load", "").await;
    assert_eq!(status, 200, "{said}");
    let loads = browser.loads();
    browser.kill_lane("weft-wgsl");
    soon("the load in the new lane", browser.loaded(loads + 1)).await;
    ask(&mut client, 20).await;
    let programs = browser.programs();
    assert!(programs.len() > made + 11 && programs[made + 11] == (1, vec![]), "{programs:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn an_operator_that_no_kernel_covers_is_refused_by_name_before_anything_is_sent() {
    let browser = FakeBrowser::new("fake", &["wasm", "weft-wgsl"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    daemon.add("sharp", graphs::of(&[("Neg", &["x"], &["n"]), ("Hardmax", &["n"], &["y"])])).await;
    let mut client = daemon.client().await;
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
    for _ in 0..2 {
        let refused = client.ask(&infer("r", "sharp", &x, &ours())).await;
        refused.refused("no_backend", "elsewhere", "operator Hardmax of node \"y\" is not among those");
    }
    assert_eq!((browser.loads(), browser.programs()), (0, vec![]));
    let answered = client.ask(&infer("r", "sharp", &x, &json!({"browser": "fake"}))).await;
    assert_eq!(answered.provenance()["backend"], "wasm", "{answered:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_program_that_a_lane_has_lost_is_sent_again() {
    let browser = FakeBrowser::new("fake", &["weft-wgsl"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let mut client = daemon.client().await;
    client.serves(&ours()).await;
    let before = browser.programs();
    let (conduct, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(conduct));
    client.send(&infer_x("r", &ours())).await;
    soon("a step", asked.recv())
        .await
        .expect("the browser lives")
        .answer(Deed::Fail("model_not_ready", "same"));
    browser.behaves(Conduct::Compute);
    client.reply("r").await.negated();
    let (_, drops) = browser.programs()[before.len()].clone();
    let known: Vec<_> = before.iter().map(|(program, _)| *program).collect();
    assert!(
        drops.iter().all(|program| known.contains(program)) && !drops.is_empty(),
        "{drops:?} of {known:?}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_step_that_is_cancelled_while_its_program_is_made_is_not_sent() {
    let browser = FakeBrowser::new("fake", &["weft-wgsl"]);
    let daemon = TestDaemon::start(&[&browser]).await;
    let mut client = daemon.client().await;
    client.serves(&ours()).await;
    let (conduct, mut asked) = mpsc::unbounded_channel();
    browser.behaves(Conduct::Ask(conduct));
    client.send(&infer_x("first", &ours())).await;
    let first = soon("a step", asked.recv()).await.expect("the browser lives");
    // The lane takes the next step's program when it has computed.
    let x = json!([{"name": "x", "datatype": "FP32", "shape": [9, 4], "data": vec![1; 36]}]);
    client.send(&infer("second", "neg", &x, &ours())).await;
    client.send(&json!({"type": "cancel", "id": "second"})).await;
    client.reply("second").await.refused("cancelled", "never", "");
    first.answer(Deed::Compute);
    client.reply("first").await.negated();
    browser.behaves(Conduct::Compute);
    ask(&mut client, 9).await;
    assert!(asked.try_recv().is_err(), "the cancelled step reached the lane");
    daemon.stop().await;
}
