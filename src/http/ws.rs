//! `/v2/ws`: many requests in flight on one connection, answered in any order.
//!
//! A reader parses and submits; a writer sends. A request reserves its place in the writer's queue when it is
//! submitted, so an answer never waits for a slow client, and a slow client holds no more than its own places.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    extract::{
        State,
        ws::{self, WebSocket, WebSocketUpgrade},
    },
    response::Response,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;

use super::{Api, FRAME_MAX, infer};
use crate::{
    domain::{Code, Failure, Retry},
    events::Event,
    protocol::{
        client::{self, ClientMessage, Malformed, ParsedInfer, Reply, Topic, parse_message},
        frame::Frame,
    },
    scheduler::Submitted,
};

/// Requests in flight per connection; more are refused as `overloaded`.
const IN_FLIGHT_MAX: usize = 256;

/// Places in the writer's queue: one per request, and some for errors and events.
const OUTBOX: usize = IN_FLIGHT_MAX + 64;

/// The close code for a message that is too big (RFC 6455).
const TOO_BIG: u16 = 1009;

pub(super) async fn upgrade(State(api): State<Arc<Api>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(FRAME_MAX)
        .max_frame_size(FRAME_MAX)
        .on_upgrade(async move |socket| serve(socket, api).await)
}

type InFlight = Arc<Mutex<HashMap<String, Option<Submitted>>>>;

struct Connection {
    api: Arc<Api>,
    outbox: mpsc::Sender<ws::Message>,
    in_flight: InFlight,
    closed: CancellationToken,
}

async fn serve(socket: WebSocket, api: Arc<Api>) {
    let (sink, stream) = socket.split();
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    let stopping = api.tasks.stopping();
    api.tasks.spawn("ws writer", write(sink, outgoing));
    let connection =
        Connection { api, outbox, in_flight: InFlight::default(), closed: CancellationToken::new() };
    tokio::select! {
        () = connection.read(stream) => {}
        () = stopping.cancelled() => {}
    }
    connection.closed.cancel();
    let abandoned = std::mem::take(&mut *connection.in_flight());
    abandoned.into_values().flatten().for_each(|submitted| submitted.cancel());
}

async fn write(mut sink: SplitSink<WebSocket, ws::Message>, mut outgoing: mpsc::Receiver<ws::Message>) {
    while let Some(message) = outgoing.recv().await {
        if let Err(error) = sink.send(message).await {
            tracing::debug!(%error, "a client is gone");
            return;
        }
    }
    // The peer may have closed first.
    let _ = sink.close().await;
}

impl Connection {
    async fn read(&self, mut stream: SplitStream<WebSocket>) {
        while let Some(message) = stream.next().await {
            let parsed = match message {
                Ok(ws::Message::Text(text)) => parse_message(&text, &bytes::Bytes::new()),
                Ok(ws::Message::Binary(bytes)) => Frame::split(&bytes)
                    .map_err(Malformed::from)
                    .and_then(|f| parse_message(f.header(), &f.body)),
                Ok(ws::Message::Ping(_) | ws::Message::Pong(_)) => continue,
                Ok(ws::Message::Close(_)) => return,
                Err(error) => return self.framing_lost(error).await,
            };
            let told = match parsed {
                Ok(ClientMessage::Infer(infer)) => self.infer(*infer),
                Ok(ClientMessage::Cancel { id }) => self.cancel(id),
                Ok(ClientMessage::Subscribe { id: _, topics }) => {
                    self.subscribe(topics);
                    Ok(())
                }
                Err(malformed) => Err(malformed),
            };
            if let Err(Malformed { id, failure }) = told
                && self.outbox.send(message_of(client::encode_error(id.as_deref(), &failure))).await.is_err()
            {
                return;
            }
        }
    }

    /// Says what was wrong, as far as the socket still allows, and closes.
    async fn framing_lost(&self, error: axum::Error) {
        let error = error.into_inner();
        let too_big = error
            .downcast_ref::<tungstenite::Error>()
            .is_some_and(|error| matches!(error, tungstenite::Error::Capacity(_)));
        if too_big {
            let message = format!("a frame is over the limit of {FRAME_MAX} bytes");
            let failure = Failure::new(Code::TooLarge, Retry::Never, message);
            let close = ws::CloseFrame { code: TOO_BIG, reason: "frame too large".into() };
            // The client may have gone already.
            let _ = self.outbox.send(message_of(client::encode_error(None, &failure))).await;
            let _ = self.outbox.send(ws::Message::Close(Some(close))).await;
        }
    }

    fn infer(&self, parsed: ParsedInfer) -> Result<(), Malformed> {
        let id = parsed.id.clone();
        let malformed = |failure| Malformed { id: Some(id.clone()), failure };
        {
            let mut in_flight = self.in_flight();
            if in_flight.contains_key(&id) {
                return Err(malformed(Failure::invalid(format!("a request with id {id:?} is in flight"))));
            }
            if in_flight.len() == IN_FLIGHT_MAX {
                let message =
                    format!("{IN_FLIGHT_MAX} requests are in flight on this connection, which is the limit");
                return Err(malformed(Failure::new(Code::Overloaded, Retry::Same, message)));
            }
            in_flight.insert(id.clone(), None);
        }
        let submitted = self.submit(parsed);
        let mut in_flight = self.in_flight();
        match submitted {
            Ok(submitted) => {
                // It may have been answered already.
                if let Some(place) = in_flight.get_mut(&id) {
                    *place = Some(submitted);
                }
                Ok(())
            }
            Err(failure) => {
                in_flight.remove(&id);
                Err(malformed(failure))
            }
        }
    }

    fn submit(&self, parsed: ParsedInfer) -> Result<Submitted, Failure> {
        let (id, model) = (parsed.id.clone(), parsed.model.clone());
        let (request, form) = infer::request(parsed, &self.api)?;
        let full = |_| Failure::new(Code::Overloaded, Retry::Same, "the client does not read its answers");
        let place = self.outbox.clone().try_reserve_owned().map_err(full)?;
        let in_flight = self.in_flight.clone();
        let reply = Box::new(move |result: Result<crate::scheduler::Answer, Failure>| {
            let message = match &result {
                Ok(answer) => client::encode_result(
                    &id,
                    &model,
                    &answer.outputs,
                    |output| form.binary(output),
                    &answer.run,
                    &answer.provenance,
                    answer.timing,
                ),
                Err(failure) => client::encode_error(Some(&id), failure),
            };
            lock(&in_flight).remove(&id);
            place.send(message_of(message));
        });
        self.api.scheduler.submit(request, reply)
    }

    fn cancel(&self, id: String) -> Result<(), Malformed> {
        let unknown = || Failure::invalid(format!("no request with id {id:?} is in flight"));
        let found = self.in_flight().get(&id).cloned().flatten();
        match found {
            Some(submitted) => {
                submitted.cancel();
                Ok(())
            }
            None => Err(Malformed { failure: unknown(), id: Some(id) }),
        }
    }

    fn subscribe(&self, topics: Vec<Topic>) {
        let events = self.api.events.subscribe();
        let (outbox, closed) = (self.outbox.clone(), self.closed.clone());
        self.api.tasks.spawn("ws events", forward(events, topics, outbox, closed));
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<String, Option<Submitted>>> {
        lock(&self.in_flight)
    }
}

fn lock(in_flight: &InFlight) -> MutexGuard<'_, HashMap<String, Option<Submitted>>> {
    in_flight.lock().expect("no holder of the in-flight table panics")
}

async fn forward(
    mut events: broadcast::Receiver<Arc<Event>>,
    topics: Vec<Topic>,
    outbox: mpsc::Sender<ws::Message>,
    closed: CancellationToken,
) {
    let mut lagged = 0;
    loop {
        let received = tokio::select! {
            received = events.recv() => received,
            () = closed.cancelled() => return,
        };
        match received {
            Ok(event) if topics.contains(&event.topic) => {
                let message = message_of(client::encode_event(event.topic, event.seq, lagged, &event.event));
                if outbox.send(message).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(missed)) => lagged += missed,
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn message_of(reply: Reply) -> ws::Message {
    match reply {
        Reply::Text(text) => ws::Message::Text(text.into()),
        Reply::Binary(bytes) => ws::Message::Binary(bytes),
    }
}
