//! Cases for the messages and for the socket, the latter against a browser of a few lines.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::{
    MESSAGE_BYTES, PENDING, WireError, connect,
    message::{self, Event, Incoming, MessageError, Refusal},
};

const LIMIT: Duration = Duration::from_secs(20);

fn refused(code: &str, message: &str) -> Refusal {
    Refusal { code: code.to_owned(), message: message.to_owned() }
}

#[test]
fn both_protocols_are_understood() {
    let cases = [
        (
            "BiDi's answer",
            r#"{"type":"success","id":1,"result":{"a":1}}"#,
            Incoming::Answer { id: 1, outcome: Ok(json!({"a": 1})) },
        ),
        (
            "BiDi's refusal",
            r#"{"type":"error","id":2,"error":"no such frame","message":"gone","stacktrace":"a@b"}"#,
            Incoming::Answer { id: 2, outcome: Err(refused("no such frame", "gone")) },
        ),
        (
            "a refusal of nothing in particular",
            r#"{"type":"error","id":null,"error":"invalid argument","message":"no JSON"}"#,
            Incoming::Complaint(refused("invalid argument", "no JSON")),
        ),
        (
            "BiDi's event",
            r#"{"type":"event","method":"browsingContext.load","params":{"context":"c"}}"#,
            Incoming::Event(Event {
                method: "browsingContext.load".to_owned(),
                params: json!({"context": "c"}),
            }),
        ),
        (
            "the DevTools Protocol's answer",
            r#"{"id":3,"result":{},"sessionId":"s"}"#,
            Incoming::Answer { id: 3, outcome: Ok(json!({})) },
        ),
        (
            "the DevTools Protocol's refusal",
            r#"{"id":4,"error":{"code":-32601,"message":"'X' wasn't found"}}"#,
            Incoming::Answer { id: 4, outcome: Err(refused("-32601", "'X' wasn't found")) },
        ),
        (
            "an event without more",
            r#"{"method":"Inspector.targetCrashed"}"#,
            Incoming::Event(Event { method: "Inspector.targetCrashed".to_owned(), params: Value::Null }),
        ),
        (
            "what is new is passed over",
            r#"{"id":5,"result":{},"colour":[1,{"a":2}]}"#,
            Incoming::Answer { id: 5, outcome: Ok(json!({})) },
        ),
    ];
    for (case, text, expected) in cases {
        assert_eq!(message::read(text).unwrap(), expected, "{case}");
    }
}

#[test]
fn what_is_no_message_is_an_error() {
    let cases = [
        ("no JSON", "hello", false),
        ("cut short", r#"{"id":1,"resu"#, false),
        ("no object", "[1]", false),
        ("a negative id", r#"{"id":-1,"result":{}}"#, false),
        ("an error of another kind", r#"{"id":1,"error":7}"#, false),
        ("nothing in it", "{}", true),
        ("an id alone", r#"{"id":1}"#, true),
        ("of an unknown type", r#"{"type":"greeting","hello":1}"#, true),
    ];
    for (case, text, unknown) in cases {
        let error = message::read(text).expect_err(case);
        assert_eq!(matches!(error, MessageError::Unknown), unknown, "{case}: {error}");
    }
}

#[test]
fn a_refusal_is_cut_to_what_an_error_can_hold() {
    let text = json!({"id": 1, "error": "e", "message": "ä".repeat(10_000)}).to_string();
    let Incoming::Answer { outcome: Err(refusal), .. } = message::read(&text).unwrap() else {
        panic!("{text}")
    };
    assert_eq!(refusal.message, "ä".repeat(512));
}

#[test]
fn a_command_names_its_session_only_if_there_is_one() {
    let cases = [
        (None, r#"{"id":7,"method":"a.b","params":{"c":1}}"#),
        (Some("s"), r#"{"id":7,"method":"a.b","params":{"c":1},"sessionId":"s"}"#),
    ];
    for (session, expected) in cases {
        assert_eq!(message::command(7, session, "a.b", &json!({"c": 1})), expected);
    }
}

/// A browser that reads so many commands and then says these things; it stays until the test is over.
async fn browser(reads: usize, says: impl Fn(&[Value]) -> Vec<Message> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut socket = accept_async(listener.accept().await.unwrap().0).await.unwrap();
        let mut read = Vec::new();
        while read.len() < reads {
            let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
            read.push(serde_json::from_str(&text).unwrap());
        }
        for message in says(&read) {
            // A client that has given the socket up closes it.
            let _ = socket.send(message).await;
        }
        std::future::pending::<()>().await;
    });
    address
}

fn answer(command: &Value) -> Message {
    Message::text(json!({"type": "success", "id": command["id"], "result": command["params"]}).to_string())
}

#[tokio::test]
async fn answers_in_any_order_reach_those_who_asked() {
    let address = browser(3, |read| {
        let mut says = vec![
            Message::text("no JSON"),
            Message::text(r#"{"type":"greeting"}"#),
            Message::text(r#"{"type":"success","id":999,"result":{}}"#),
            Message::text(r#"{"type":"event","method":"a.b","params":{}}"#),
        ];
        says.extend(read.iter().rev().map(answer));
        // A second answer to the same command is nobody's.
        says.extend(read.iter().map(answer));
        says
    })
    .await;
    let (wire, speaker) = connect(&address).await.unwrap();
    let (heard, mut events) = tokio::sync::mpsc::channel(4);
    let speech = tokio::spawn(speaker.speak(move |event| heard.try_send(event.method.clone()).unwrap()));
    let ask = |n: u32| wire.ask("x.y", json!({"n": n}));
    let answers = timeout(LIMIT, async { tokio::join!(ask(1), ask(2), ask(3)) }).await.unwrap();
    for (answer, n) in [answers.0, answers.1, answers.2].into_iter().zip(1..) {
        assert_eq!(answer.unwrap(), json!({"n": n}));
    }
    assert_eq!(timeout(LIMIT, events.recv()).await.unwrap().unwrap(), "a.b");
    speech.abort();
}

#[tokio::test]
async fn a_socket_that_ends_answers_all_who_wait() {
    let big = "x".repeat(MESSAGE_BYTES + 1);
    let cases = [
        ("closed", Message::Close(None), "closed"),
        ("a message too large", Message::text(big), "Message too long"),
        ("no UTF-8", Message::Binary(vec![0xff].into()), ""),
    ];
    for (case, last, words) in cases {
        let address = browser(1, move |_| vec![last.clone(), Message::Close(None)]).await;
        let (wire, speaker) = connect(&address).await.unwrap();
        let both = async { tokio::join!(wire.ask("x.y", json!({})), speaker.speak(|_| {})) };
        let (answer, reason) = timeout(LIMIT, both).await.expect(case);
        assert!(matches!(answer, Err(WireError::Closed)), "{case}: {answer:?}");
        assert!(reason.contains(words), "{case}: {reason}");
        let after = timeout(LIMIT, wire.ask("x.y", json!({}))).await.expect(case);
        assert!(matches!(after, Err(WireError::Closed)), "{case}: {after:?}");
    }
}

#[tokio::test]
async fn more_unanswered_commands_than_there_is_room_for_are_refused() {
    let address = browser(PENDING, |_| Vec::new()).await;
    let (wire, speaker) = connect(&address).await.unwrap();
    let speech = tokio::spawn(speaker.speak(|_| {}));
    let mut waiting: FuturesUnordered<_> = (0..=PENDING).map(|_| wire.ask("x.y", json!({}))).collect();
    let first = timeout(LIMIT, waiting.next()).await.unwrap().unwrap();
    assert!(matches!(first, Err(WireError::Busy)), "{first:?}");
    drop(waiting);
    // Those who gave up made room: the browser hears the next command, and is silent as it is to all.
    assert!(timeout(Duration::from_millis(100), wire.ask("x.y", json!({}))).await.is_err());
    speech.abort();
}
