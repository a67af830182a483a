//! Clients that do not read: what waits for them is bounded, and nobody waits for them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, TestDaemon, graphs, infer, wire};

/// `UINT8` as ONNX numbers it.
const UINT8: u64 = 2;

/// Over what a socket buffers, and within what the client takes in one frame.
const LARGE: usize = 15 << 20;

/// As many leave less than the 64 MiB that one more answer may need.
const LARGE_MAX: usize = 13;

/// More than the daemon takes to stop when nobody holds it up, and far less than its limit for stopping.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

fn echo(id: &str, elements: usize, binary: bool) -> Vec<u8> {
    let input = json!([{"name": "x", "datatype": "UINT8", "shape": [elements],
        "parameters": {"binary_data_size": elements}}]);
    let request = infer(id, "octets", &input, &json!({"binary_data_output": binary}));
    wire::frame(&request, &vec![0; elements])
}

async fn send(client: &mut Client, frame: Vec<u8>) {
    client.send_raw(Message::binary(frame)).await;
}

async fn start() -> TestDaemon {
    let daemon = TestDaemon::start(&[]).await;
    daemon.add("octets", graphs::identity(UINT8)).await;
    daemon
}

/// Has the daemon compute `answers` large answers that nobody reads.
async fn leave_unread(daemon: &TestDaemon, client: &mut Client, answers: usize) {
    let mut watcher = daemon.client().await;
    watcher.send(&json!({"type": "subscribe", "topics": ["runs"]})).await;
    watcher.caught_up().await;
    for at in 0..answers {
        send(client, echo(&format!("large-{at}"), LARGE, true)).await;
        // A run is told after its answer.
        let event = watcher.event().await.header;
        assert_eq!(event["event"]["error"], Value::Null, "{event}");
    }
}

#[tokio::test]
async fn what_waits_for_a_client_is_bounded_in_bytes() {
    let daemon = start().await;
    let mut client = daemon.client().await;
    leave_unread(&daemon, &mut client, LARGE_MAX).await;
    send(&mut client, echo("small", 1, true)).await;
    for at in 0..LARGE_MAX {
        assert_eq!(client.reply(&format!("large-{at}")).await.body.len(), LARGE);
    }
    client.reply("small").await.refused("overloaded", "same", "does not read");
    client.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_answer_over_the_limit_is_too_large() {
    let daemon = start().await;
    let mut client = daemon.client().await;
    // In JSON even the least element takes two bytes.
    send(&mut client, echo("r", (32 << 20) + 1, false)).await;
    client.reply("r").await.refused("too_large", "never", "over the limit of 67108864 bytes");
    // The header comes on top of the tensor, and that of an answer is longer than that of a request.
    let request = echo("r", 0, true).len();
    send(&mut client, echo("r", (64 << 20) - request - 32, true)).await;
    client.reply("r").await.refused("too_large", "never", "over the limit of 67108864 bytes");
    client.serves(&json!({})).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_stop_up() {
    let daemon = start().await;
    let mut client = daemon.client().await;
    leave_unread(&daemon, &mut client, 1).await;
    let begun = Instant::now();
    daemon.stop().await;
    assert!(begun.elapsed() < STOPS_WITHIN, "stopping took {:?}", begun.elapsed());
}
