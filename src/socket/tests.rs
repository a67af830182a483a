//! Against tungstenite's client, and against bytes that no client should send.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, protocol::Role},
};

use super::{
    Closed, Ended, Limits, Message, Outgoing, Socket,
    frame::{Header, Opcode, Written, unmask},
};
use crate::{domain::Body, tasks::Tasks};

const LIMITS: Limits = Limits { message: 4 << 20, places: 4, patience: Duration::from_millis(200) };
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

async fn connected(tasks: &Tasks) -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let (server, _) = listener.accept().await.expect("a connection");
    (Socket::new(server, &[], LIMITS, tasks), client)
}

async fn with_tungstenite(tasks: &Tasks) -> (Socket, WebSocketStream<TcpStream>) {
    let (socket, client) = connected(tasks).await;
    (socket, WebSocketStream::from_raw_socket(client, Role::Client, None).await)
}

/// A client's frame: `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let opcode = Opcode::Binary;
    let mut frame = Written::new(opcode, payload.len()).bytes().to_vec();
    frame[0] = first;
    frame[1] |= 0x80;
    frame.extend(MASK);
    let mut masked = payload.to_vec();
    unmask(&mut masked, MASK, 0);
    frame.extend(masked);
    frame
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes).into())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn a_header_is_read_when_it_is_whole() {
    for len in [0, 125, 126, 65_535, 65_536, 1 << 20] {
        let written = Written::new(Opcode::Text, len);
        let mut bytes = written.bytes().to_vec();
        bytes[1] |= 0x80;
        bytes.extend(MASK);
        for cut in 0..bytes.len() {
            assert_eq!(Header::read(&bytes[..cut]), Ok(None), "{cut} bytes of a header for {len}");
        }
        let header = Header { last: true, opcode: Opcode::Text, mask: MASK, len: len as u64 };
        assert_eq!(Header::read(&bytes), Ok(Some((header, bytes.len()))), "{len}");
    }
}

#[test]
fn a_mask_comes_off_wherever_the_payload_is_cut() {
    let mut masked = pattern(50);
    unmask(&mut masked, MASK, 0);
    for cut in 0..50 {
        let mut found = masked.clone();
        unmask(&mut found[..cut], MASK, 0);
        unmask(&mut found[cut..], MASK, cut);
        assert_eq!(found, pattern(50), "cut at {cut}");
    }
}

#[tokio::test]
async fn messages_are_whole_however_they_come() {
    let large = pattern(300_000);
    let bytes = [
        frame(0x81, "grüße".as_bytes()),
        frame(0x82, &[]),
        frame(0x02, &large[..1000]),
        frame(0x89, b"still there?"),
        frame(0x00, &large[1000..200_000]),
        frame(0x80, &large[200_000..]),
        frame(0x82, b"last"),
    ]
    .concat();
    let wanted = [Message::Text("grüße".to_owned()), binary(b""), binary(&large), binary(b"last")];
    for piece in [1, 7, 4096, bytes.len()] {
        let tasks = Tasks::new();
        let (mut socket, mut client) = connected(&tasks).await;
        let sending = async {
            for piece in bytes.chunks(piece.max(bytes.len() / 5000)) {
                client.write_all(piece).await.expect("an open socket");
            }
        };
        let receiving = async {
            for wanted in &wanted {
                assert_eq!(socket.reader.next().await.as_ref(), Ok(wanted), "in pieces of {piece}");
            }
        };
        tokio::join!(sending, receiving);
        let mut pong = [0; 14];
        client.read_exact(&mut pong).await.expect("a pong");
        assert_eq!(&pong[2..], b"still there?");
    }
}

#[tokio::test]
async fn a_message_in_many_pieces_takes_few_parts() {
    let tasks = Tasks::new();
    let (mut socket, mut client) = connected(&tasks).await;
    let mut bytes = frame(0x02, b"x");
    (0..5000).for_each(|_| bytes.extend(frame(0x00, b"x")));
    bytes.extend(frame(0x80, b"x"));
    client.write_all(&bytes).await.expect("an open socket");
    let Ok(Message::Binary(body)) = socket.reader.next().await else { panic!("a binary message") };
    assert_eq!((body.len(), body.parts().len()), (5002, 1));
}

#[tokio::test]
async fn who_breaks_the_protocol_is_told_and_read_no_more() {
    let long = |second: u8, len: &[u8]| [&[0x82, 0x80 | second], len, &MASK].concat();
    let cases: [(&str, Vec<u8>, u16); 16] = [
        ("a reserved bit", frame(0xc1, b"x"), 1002),
        ("an unknown kind", frame(0x83, b"x"), 1002),
        ("no mask", vec![0x81, 1, b'x'], 1002),
        ("a ping in pieces", frame(0x09, b"x"), 1002),
        ("a long ping", frame(0x89, &[0; 126]), 1002),
        ("a short length in two bytes", long(126, &125u16.to_be_bytes()), 1002),
        ("a short length in eight bytes", long(127, &0xffff_u64.to_be_bytes()), 1002),
        ("a length below zero", long(127, &u64::MAX.to_be_bytes()), 1002),
        ("half a code", frame(0x88, &[3]), 1002),
        ("a code that stands for no code", frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("a code below all", frame(0x88, &999u16.to_be_bytes()), 1002),
        ("a code above all", frame(0x88, &5000u16.to_be_bytes()), 1002),
        ("a reason that is not UTF-8", frame(0x88, &[0x03, 0xe8, 0xff]), 1007),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a message within another", [frame(0x01, b"x"), frame(0x81, b"x")].concat(), 1002),
        ("text that is not UTF-8", frame(0x81, &[0xff]), 1007),
    ];
    for (what, bytes, code) in cases {
        let tasks = Tasks::new();
        let (mut socket, mut client) = connected(&tasks).await;
        client.write_all(&bytes).await.expect("an open socket");
        assert!(matches!(socket.reader.next().await, Err(Ended::Broken(_))), "{what}");
        let mut close = [0; 4];
        client.read_exact(&mut close).await.expect("a close frame");
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, code), "{what}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_reading() {
    let over = LIMITS.message + 1;
    let whole = frame(0x82, &vec![0; over]);
    let pieces = [frame(0x02, &vec![0; over / 2]), frame(0x80, &vec![0; over - over / 2])].concat();
    for bytes in [whole, pieces] {
        let tasks = Tasks::new();
        let (mut socket, mut client) = connected(&tasks).await;
        let sending = tokio::spawn(async move {
            // It stops being read.
            let _ = client.write_all(&bytes).await;
        });
        assert_eq!(socket.reader.next().await, Err(Ended::TooBig { limit: LIMITS.message }));
        drop(socket);
        sending.await.expect("the sender ends with the socket");
    }
}

#[tokio::test]
async fn what_is_sent_arrives_in_order_and_the_urgent_first() {
    let tasks = Tasks::new();
    let (socket, mut client) = with_tungstenite(&tasks).await;
    let large = pattern(8 << 20);
    let parts = |bytes: &[u8]| {
        let mut body = Body::default();
        bytes.chunks(100_000).for_each(|part| body.push(Bytes::copy_from_slice(part)));
        body
    };
    let place = || socket.sender.reserve().expect("a free place");
    let many = [0, 1].map(|_| Outgoing::Binary { head: b"head".to_vec(), body: parts(&large) });
    place().send_all(many).expect("an open socket");
    place().send(Outgoing::Text("later".to_owned()), None).expect("an open socket");
    place().send_urgent(Outgoing::Text("urgent".to_owned())).expect("an open socket");
    drop(socket);
    let mut found = Vec::new();
    while let Some(message) = client.next().await {
        match message.expect("a message") {
            tungstenite::Message::Binary(bytes) => {
                assert!(bytes.starts_with(b"head") && bytes[4..] == large, "{} bytes", bytes.len());
                found.push("large".to_owned());
            }
            tungstenite::Message::Close(close) => found.push(format!("{:?}", close.map(|close| close.code))),
            other => found.push(other.to_string()),
        }
    }
    // The first was being written already.
    assert_eq!(found, ["large", "urgent", "large", "later", "Some(Normal)"]);
}

#[tokio::test]
async fn places_and_what_is_held_come_back_when_the_other_end_reads() {
    let tasks = Tasks::new();
    let (socket, mut client) = with_tungstenite(&tasks).await;
    let held = std::sync::Arc::new(Semaphore::new(LIMITS.places));
    let large = || Outgoing::Binary { head: Vec::new(), body: vec![0; 16 << 20].into() };
    for _ in 0..LIMITS.places {
        let permit = held.clone().try_acquire_owned().expect("as many as places");
        socket.sender.reserve().expect("a free place").send(large(), Some(permit)).expect("an open socket");
    }
    assert!(socket.sender.reserve().is_none() && held.available_permits() == 0);
    for _ in 0..LIMITS.places {
        client.next().await.expect("a message").expect("a message");
    }
    let place = tokio::time::timeout(Duration::from_secs(10), socket.sender.place()).await;
    assert!(matches!(place, Ok(Ok(_))), "a place comes back");
    while held.available_permits() < LIMITS.places {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let cases: [(&[u8], u16, &str, u16); 4] = [
        (b"", 1005, "", 1000),
        (b"\x03\xe8bye", 1000, "bye", 1000),
        (b"\x0b\xb8", 3000, "", 3000),
        (b"\x11\x94gr\xc3\xbcn", 4500, "grün", 4500),
    ];
    for (payload, code, reason, answer) in cases {
        let tasks = Tasks::new();
        let (mut socket, mut client) = connected(&tasks).await;
        client.write_all(&frame(0x88, payload)).await.expect("an open socket");
        let closed = Ended::Closed { code, reason: reason.to_owned() };
        assert_eq!(socket.reader.next().await, Err(closed), "{payload:?}");
        drop(socket);
        let mut found = Vec::new();
        client.read_to_end(&mut found).await.expect("an end");
        assert_eq!(found, [&[0x88, 2], &answer.to_be_bytes()[..]].concat(), "{payload:?}");
    }
}

#[tokio::test]
async fn a_read_that_is_cancelled_loses_nothing() {
    let tasks = Tasks::new();
    let (mut socket, mut client) = connected(&tasks).await;
    let large = pattern(100_000);
    let bytes =
        [frame(0x02, &large[..70_000]), frame(0x80, &large[70_000..]), frame(0x81, b"later")].concat();
    let mut found = Vec::new();
    for piece in bytes.chunks(999) {
        client.write_all(piece).await.expect("an open socket");
        found.extend(socket.reader.next().now_or_never());
    }
    while found.len() < 2 {
        found.push(socket.reader.next().await);
    }
    assert_eq!(found, [Ok(binary(&large)), Ok(Message::Text("later".to_owned()))]);
}

#[tokio::test]
async fn who_says_nothing_more_is_still_answered() {
    let tasks = Tasks::new();
    let (mut socket, mut client) = connected(&tasks).await;
    client.write_all(&frame(0x81, b"a question")).await.expect("an open socket");
    client.shutdown().await.expect("an open socket");
    assert_eq!(socket.reader.next().await, Ok(Message::Text("a question".to_owned())));
    assert_eq!(socket.reader.next().await, Err(Ended::Eof));
    socket.sender.reserve().expect("a place").send(Outgoing::Text("hm".to_owned()), None).expect("open");
    drop(socket);
    let mut found = Vec::new();
    client.read_to_end(&mut found).await.expect("an end");
    assert_eq!(found, b"\x81\x02hm\x88\x02\x03\xe8");
}

#[tokio::test]
async fn who_is_in_the_middle_of_something_is_not_cut_off_before_the_last_words() {
    let tasks = Tasks::new();
    let (socket, mut client) = connected(&tasks).await;
    let large = frame(0x82, &pattern(16 << 20));
    client.write_all(&large[..100_000]).await.expect("an open socket");
    socket.sender.close(1009, "");
    drop(socket);
    client.readable().await.expect("the last words");
    client.write_all(&large[100_000..]).await.expect("no reset");
    let mut found = Vec::new();
    client.read_to_end(&mut found).await.expect("no reset");
    assert_eq!(found, b"\x88\x02\x03\xf1");
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), tasks.stop()).await.expect("the end is noticed");
}

#[tokio::test]
async fn a_frame_that_is_being_written_is_ended_before_the_close() {
    let tasks = Tasks::new();
    let (mut socket, mut client) = with_tungstenite(&tasks).await;
    let large = Outgoing::Binary { head: Vec::new(), body: vec![7; 16 << 20].into() };
    socket.sender.reserve().expect("a place").send(large, None).expect("an open socket");
    client.get_mut().write_all(&frame(0x83, b"wrong")).await.expect("an open socket");
    assert!(matches!(socket.reader.next().await, Err(Ended::Broken(_))));
    drop(socket);
    let first = client.next().await.expect("a message").expect("a good message");
    assert_eq!(first.len(), 16 << 20);
    match client.next().await.expect("a message").expect("a good message") {
        tungstenite::Message::Close(Some(close)) => assert_eq!(u16::from(close.code), 1002),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    for stopped in [false, true] {
        let tasks = Tasks::new();
        let (socket, _client) = connected(&tasks).await;
        let held = std::sync::Arc::new(Semaphore::new(1));
        let permit = held.clone().try_acquire_owned().expect("the only one");
        let large = Outgoing::Binary { head: Vec::new(), body: vec![0; 64 << 20].into() };
        socket.sender.reserve().expect("a place").send(large, Some(permit)).expect("an open socket");
        let socket = if stopped {
            tasks.stop().await;
            Some(socket)
        } else {
            drop(socket);
            None
        };
        let back = tokio::time::timeout(Duration::from_secs(60), held.acquire()).await;
        assert!(matches!(back, Ok(Ok(_))), "stopped: {stopped}");
        assert!(socket.is_none_or(|socket| socket.sender.is_closed()));
    }
}

#[tokio::test]
async fn a_closed_socket_says_so_to_both() {
    let tasks = Tasks::new();
    let (mut socket, mut client) = with_tungstenite(&tasks).await;
    client.close(None).await.expect("an open socket");
    assert!(matches!(socket.reader.next().await, Err(Ended::Closed { .. })));
    assert!(socket.sender.is_closed() && socket.sender.reserve().is_none());
    assert!(matches!(socket.sender.place().await, Err(Closed)));
    client.send("too late".into()).await.expect_err("a closed socket");
}
