//! `/v2/ws`: many requests in flight on one connection, answered in any order.
//!
//! A reader parses and submits; a writer sends. A request reserves its place in the writer's queue when it is
//! submitted, so an answer never waits for a slow client, and a slow client holds no more than its own places and
//! their bytes.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Api, FRAME_MAX, infer, infer::Form};
use crate::{
    domain::{Code, Failure, ModelName, Retry},
    events::Event,
    protocol::{
        client::{self, ClientMessage, Malformed, ParsedInfer, Reply, Topic, parse_message},
        frame::Frame,
    },
    scheduler::{Answer, Submitted},
};

/// Requests in flight per connection; more are refused as `overloaded`.
const IN_FLIGHT_MAX: usize = 256;

/// Places in the writer's queue: one per request, and some for errors and events.
const OUTBOX: usize = IN_FLIGHT_MAX + 64;

/// Bytes of answers that may wait for a client to read them: four of the largest.
const UNREAD_MAX: usize = 4 * FRAME_MAX;

/// How long a stopping daemon waits for clients to read: time enough for all who read at all.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The close code for a message that is too big (RFC 6455).
const TOO_BIG: u16 = 1009;

pub(super) async fn upgrade(State(api): State<Arc<Api>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(FRAME_MAX)
        .max_frame_size(FRAME_MAX)
        .on_upgrade(async move |socket| serve(socket, api).await)
}

type InFlight = Arc<Mutex<HashMap<String, Option<Submitted>>>>;

/// A message on its way to the socket, with what an answer holds of the connection's bytes until it is written.
struct Outgoing {
    message: ws::Message,
    held: Option<OwnedSemaphorePermit>,
}

struct Connection {
    api: Arc<Api>,
    outbox: mpsc::Sender<Outgoing>,
    in_flight: InFlight,
    /// Bytes that answers may still take before the client reads.
    unread: Arc<Semaphore>,
}

async fn serve(socket: WebSocket, api: Arc<Api>) {
    let (sink, stream) = socket.split();
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    let stopping = api.tasks.stopping();
    api.tasks.spawn("ws writer", write(sink, outgoing, stopping.clone()));
    let unread = Arc::new(Semaphore::new(UNREAD_MAX));
    let connection = Connection { api, outbox, in_flight: InFlight::default(), unread };
    tokio::select! {
        () = connection.read(stream) => {}
        () = stopping.cancelled() => {}
    }
    let abandoned = std::mem::take(&mut *connection.in_flight());
    abandoned.into_values().flatten().for_each(|submitted| submitted.cancel());
}

/// Sends what comes until nothing more can come, or until the daemon is stopping and the client does not read.
async fn write(
    mut sink: SplitSink<WebSocket, ws::Message>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    stopping: CancellationToken,
) {
    let mut overdue = pin!(async {
        stopping.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    });
    while let Some(Outgoing { message, held }) = outgoing.recv().await {
        let sent = tokio::select! {
            biased;
            sent = sink.send(message) => sent,
            () = &mut overdue => return tracing::debug!("a client does not read what it is told last"),
        };
        if let Err(error) = sent {
            return tracing::debug!(%error, "a client is gone");
        }
        drop(held);
    }
    tokio::select! {
        // The peer may have closed first.
        _ = sink.close() => {}
        () = overdue => {}
    }
}

impl Connection {
    async fn read(&self, mut stream: SplitStream<WebSocket>) {
        let mut subscription = None;
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
            let heard = match parsed {
                Ok(ClientMessage::Infer(infer)) => self.infer(*infer),
                Ok(ClientMessage::Cancel { id }) => self.cancel(id),
                Ok(ClientMessage::Subscribe { id: _, topics }) => {
                    // The earlier one ends before the new one begins.
                    drop(subscription.take());
                    subscription = (!topics.is_empty()).then(|| self.subscribe(topics));
                    Ok(())
                }
                Err(malformed) => Err(malformed),
            };
            if let Err(Malformed { id, failure }) = heard
                && self.outbox.send(told(client::encode_error(id.as_deref(), &failure))).await.is_err()
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
            let _ = self.outbox.send(told(client::encode_error(None, &failure))).await;
            let _ = self.outbox.send(Outgoing { message: ws::Message::Close(Some(close)), held: None }).await;
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
        if self.unread.available_permits() < FRAME_MAX {
            return Err(unread());
        }
        let place = self.outbox.clone().try_reserve_owned().map_err(|_| unread())?;
        let (in_flight, bytes) = (self.in_flight.clone(), self.unread.clone());
        let reply = Box::new(move |result: Result<Answer, Failure>| {
            let answer = result.and_then(|answer| encode(&id, &model, &form, &answer, bytes));
            let outgoing = answer.unwrap_or_else(|failure| told(client::encode_error(Some(&id), &failure)));
            lock(&in_flight).remove(&id);
            place.send(outgoing);
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

    /// Events of these topics, until the guard is dropped.
    fn subscribe(&self, topics: Vec<Topic>) -> DropGuard {
        let events = self.api.events.subscribe();
        let (outbox, ended) = (self.outbox.clone(), CancellationToken::new());
        let forward = forward(events, topics, outbox);
        let guard = ended.clone().drop_guard();
        self.api.tasks.spawn("ws events", async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = forward => {}
            }
        });
        guard
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<String, Option<Submitted>>> {
        lock(&self.in_flight)
    }
}

fn lock(in_flight: &InFlight) -> MutexGuard<'_, HashMap<String, Option<Submitted>>> {
    in_flight.lock().expect("no holder of the in-flight table panics")
}

fn unread() -> Failure {
    Failure::new(Code::Overloaded, Retry::Same, "the client does not read its answers")
}

/// The answer as a message, when it fits a frame and what the client has yet to read.
fn encode(
    id: &str,
    model: &ModelName,
    form: &Form,
    answer: &Answer,
    bytes: Arc<Semaphore>,
) -> Result<Outgoing, Failure> {
    let binary = |output: &str| form.binary(output);
    fits(client::least_size(&answer.outputs, binary))?;
    let Answer { run, outputs, provenance, timing } = answer;
    let reply = client::encode_result(id, model, outputs, binary, run, provenance, *timing);
    let size = fits(reply.size())?;
    let held = bytes.try_acquire_many_owned(size).map_err(|_| unread())?;
    Ok(Outgoing { message: message_of(reply), held: Some(held) })
}

fn fits(size: usize) -> Result<u32, Failure> {
    let fitting = u32::try_from(size).ok().filter(|_| size <= FRAME_MAX);
    fitting.ok_or_else(|| {
        let message = format!("the answer is over the limit of {FRAME_MAX} bytes in a frame");
        Failure::new(Code::TooLarge, Retry::Never, message)
    })
}

async fn forward(
    mut events: broadcast::Receiver<Arc<Event>>,
    topics: Vec<Topic>,
    outbox: mpsc::Sender<Outgoing>,
) {
    let mut lagged = 0;
    loop {
        match events.recv().await {
            Ok(event) if topics.contains(&event.topic) => {
                let event = told(client::encode_event(event.topic, event.seq, lagged, &event.event));
                if outbox.send(event).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(missed)) => lagged += missed,
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Errors and events: small, and bounded by the places.
fn told(reply: Reply) -> Outgoing {
    Outgoing { message: message_of(reply), held: None }
}

fn message_of(reply: Reply) -> ws::Message {
    match reply {
        Reply::Text(text) => ws::Message::Text(text.into()),
        Reply::Binary(bytes) => ws::Message::Binary(bytes),
    }
}
