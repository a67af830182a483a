//! `/v2/ws`: many requests in flight on one connection, answered in any order.
//!
//! A reader parses and submits; whoever answers sends. A request reserves its place among what is to be sent when it
//! is submitted, so an answer never waits for a slow client, and a slow client holds no more than its own places and
//! their bytes.
//!
//! Whoever opened the connection was let in once; each message only counts. When its credential ends, so does the
//! connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Api, FRAME_MAX, Problem, admit, error::OipError, infer, infer::Form, places::Place};
use crate::{
    access::{Ended as Lapsed, Entered, Grant},
    domain::{Code, Failure, ModelName, Retry, Scope},
    events::Event,
    protocol::{
        client::{self, ClientMessage, Malformed, ParsedInfer, Reply, Topic, parse_message},
        frame::Frame,
    },
    scheduler::{Answer, Permit, Submitted},
    socket::{self, Closed, Ended, Limits, Message, Outgoing, PATIENCE, Sender, Socket},
    telemetry::Origin,
};

/// Requests in flight per connection; more are refused as `overloaded`.
const IN_FLIGHT_MAX: usize = 256;

/// A place to be written per request, and some for errors and events.
const LIMITS: Limits = Limits { message: FRAME_MAX, places: IN_FLIGHT_MAX + 64, patience: PATIENCE };

/// Bytes of answers that may wait for a client to read them: four of the largest.
const UNREAD_MAX: usize = 4 * FRAME_MAX;

/// The close codes for a message that is too big, and for whoever may not be here any more (RFC 6455).
const TOO_BIG: u16 = 1009;
const POLICY: u16 = 1008;

/// How long a client that does not read is waited for to be told why its connection ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Many requests on one WebSocket
///
/// Opens the WebSocket; its messages are described in weft's `docs/api.md`.
#[utoipa::path(get, path = "/v2/ws", tag = "open inference protocol", responses(
    (status = 101, description = "The connection is a WebSocket from here on"),
    (status = 400, description = "No handshake of a WebSocket", body = OipError),
    (status = 426, description = "No request for a WebSocket", body = OipError),
))]
pub(super) async fn upgrade(
    State(api): State<Arc<Api>>,
    Extension(grant): Extension<Grant>,
    Extension(origin): Extension<Origin>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Response {
    let tasks = api.tasks.clone();
    let ours = admit::offers_subprotocol(request.headers());
    let opened = socket::upgrade(request, LIMITS, &tasks, async move |socket| {
        serve(socket, grant, origin, api).await;
        drop(place);
    });
    if opened.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Problem::no_handshake(opened.status(), opened.into_body()).into_response();
    }
    let mut response = opened.into_response();
    if ours {
        // Never what else was offered: a credential may be among it.
        let spoken = HeaderValue::from_static(admit::SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, spoken);
    }
    response
}

type Admitted = Result<Permit, Failure>;

type InFlight = Arc<Mutex<HashMap<String, Option<Submitted>>>>;

struct Connection {
    api: Arc<Api>,
    grant: Grant,
    origin: Origin,
    sender: Sender,
    in_flight: InFlight,
    /// Bytes that answers may still take before the client reads.
    unread: Arc<Semaphore>,
}

async fn serve(Socket { reader, sender }: Socket, grant: Grant, origin: Origin, api: Arc<Api>) {
    let stopping = api.tasks.stopping();
    let unread = Arc::new(Semaphore::new(UNREAD_MAX));
    let connection = Connection { api, grant, origin, sender, in_flight: InFlight::default(), unread };
    tokio::select! {
        _ = connection.read(reader) => {}
        lapsed = connection.grant.ended() => connection.lapse(lapsed).await,
        () = stopping.cancelled() => {}
    }
    let abandoned = std::mem::take(&mut *connection.in_flight());
    abandoned.into_values().flatten().for_each(|submitted| submitted.cancel());
}

impl Connection {
    async fn read(&self, mut reader: socket::Reader) -> Result<(), Closed> {
        let (mut subscription, mut telling) = (None, None);
        loop {
            let parsed = match reader.next().await {
                Ok(Message::Text(text)) => self.parse(&text, &bytes::Bytes::new()),
                Ok(Message::Binary(body)) => Frame::split(&body.contiguous())
                    .map_err(Malformed::from)
                    .and_then(|f| self.parse(f.header(), &f.body)),
                Err(Ended::TooBig { .. }) => return self.too_big().await,
                Err(ended) => {
                    tracing::debug!(%ended, "a client has left");
                    return Ok(());
                }
            };
            let heard = match parsed {
                Ok((ClientMessage::Infer(infer), permit)) => self.infer(*infer, permit),
                Ok((ClientMessage::Cancel { id }, _)) => {
                    self.cancel(id).map_err(|malformed| self.counted(malformed))
                }
                Ok((ClientMessage::Subscribe { id, topics }, _)) => {
                    let may = self.may_subscribe().map_err(|failure| Malformed { id, failure });
                    may.map(|()| {
                        // The earlier one ends before the new one begins.
                        drop(subscription.take());
                        subscription = (!topics.is_empty()).then(|| self.subscribe(topics));
                    })
                }
                Ok((ClientMessage::Progress { id, progress }, _)) => {
                    let told = self.may_tell().and_then(|()| {
                        let (api, caller) = (&self.api, &self.grant.caller().id);
                        api.watched.suites.tell(api, caller, &mut telling, progress)
                    });
                    told.map_err(|failure| Malformed { id, failure })
                }
                Err(malformed) => {
                    let malformed = self.counted(malformed);
                    self.api.metrics.refused(None, malformed.failure.code);
                    Err(malformed)
                }
            };
            if let Err(Malformed { id, failure }) = heard {
                tell(&self.sender, client::encode_error(id.as_deref(), &failure)).await?;
            }
        }
    }

    /// Admits a message, then parses it; whatever is no inference request needs no permit.
    fn parse(&self, header: &str, body: &bytes::Bytes) -> Result<(ClientMessage, Admitted), Malformed> {
        let permit = self.api.scheduler.admit(self.grant.caller(), header.len() + body.len());
        match permit {
            Err(failure) if let Some(id) = client::infer_id(header) => {
                Err(Malformed { id: Some(id), failure })
            }
            permit => Ok((parse_message(header, body)?, permit)),
        }
    }

    /// What is malformed counts like what is not.
    fn counted(&self, malformed: Malformed) -> Malformed {
        match self.grant.count() {
            Ok(()) => malformed,
            Err(exceeded) => Malformed { failure: Failure::from(&exceeded), ..malformed },
        }
    }

    fn enter(&self) -> Result<Entered, Failure> {
        let entered = self.grant.enter().map_err(|exceeded| Failure::from(&exceeded))?;
        if self.grant.holds(Scope::Infer) { Ok(entered) } else { Err(admit::lacks(Scope::Infer)) }
    }

    fn may_subscribe(&self) -> Result<(), Failure> {
        self.grant.count().map_err(|exceeded| Failure::from(&exceeded))?;
        if self.grant.holds(Scope::Read) { Ok(()) } else { Err(admit::lacks(Scope::Read)) }
    }

    /// Whoever measures a suite has browsers to itself, which is for `admin`.
    fn may_tell(&self) -> Result<(), Failure> {
        self.grant.count().map_err(|exceeded| Failure::from(&exceeded))?;
        if self.grant.holds(Scope::Admin) { Ok(()) } else { Err(admit::lacks(Scope::Admin)) }
    }

    /// Says why nothing more is taken or answered, and closes.
    async fn lapse(&self, lapsed: Lapsed) {
        let failure = Failure::new(Code::Unauthorized, Retry::Never, lapsed.to_string());
        let told = tell(&self.sender, client::encode_error(None, &failure));
        // Whoever does not read is not waited for.
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
        self.sender.close(POLICY, lapsed.reason());
    }

    /// Says what was wrong, as far as the socket still allows, and closes.
    async fn too_big(&self) -> Result<(), Closed> {
        let message = format!("a frame is over the limit of {FRAME_MAX} bytes");
        let failure = Failure::new(Code::TooLarge, Retry::Never, message);
        tell(&self.sender, client::encode_error(None, &failure)).await?;
        self.sender.close(TOO_BIG, "frame too large");
        Ok(())
    }

    fn infer(&self, parsed: ParsedInfer, permit: Admitted) -> Result<(), Malformed> {
        let id = parsed.id.clone();
        let malformed = |failure| Malformed { id: Some(id.clone()), failure };
        let permit = permit.map_err(malformed)?;
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
        let submitted = self.submit(parsed, permit);
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

    fn submit(&self, parsed: ParsedInfer, permit: Permit) -> Result<Submitted, Failure> {
        let (id, model) = (parsed.id.clone(), parsed.model.clone());
        let entered = self.enter().inspect_err(|failure| self.api.metrics.refused(None, failure.code))?;
        let parameters = &parsed.parameters;
        let origin = self.origin.part(parameters.request.clone(), parameters.traceparent.as_deref());
        let (request, form) = infer::request(parsed, None, self.grant.caller().clone(), origin, &self.api)?;
        if self.unread.available_permits() < FRAME_MAX {
            return Err(unread());
        }
        let place = self.sender.reserve().ok_or_else(unread)?;
        let (in_flight, bytes) = (self.in_flight.clone(), self.unread.clone());
        let reply = Box::new(move |result: Result<Answer, Failure>| {
            let answer = result.and_then(|answer| encode(&id, &model, &form, &answer, bytes));
            let (reply, held) = match answer {
                Ok((reply, held)) => (reply, Some(held)),
                Err(failure) => (client::encode_error(Some(&id), &failure), None),
            };
            lock(&in_flight).remove(&id);
            drop(entered);
            // The client may be gone.
            let _ = place.send(outgoing(reply), held);
        });
        self.api.scheduler.submit(request, permit, reply)
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
        let (sender, ended) = (self.sender.clone(), CancellationToken::new());
        let caller = (!self.grant.holds(Scope::Admin)).then(|| self.grant.caller().id.clone());
        let following = topics.contains(&Topic::Activity).then(|| self.api.watched.followers.follow());
        let forward = forward(events, topics, sender, caller);
        let guard = ended.clone().drop_guard();
        self.api.tasks.spawn("ws events", async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = forward => {}
            }
            drop(following);
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

/// The answer when it fits a frame and what the client has yet to read, and what it holds of the latter.
fn encode(
    id: &str,
    model: &ModelName,
    form: &Form,
    answer: &Answer,
    bytes: Arc<Semaphore>,
) -> Result<(Reply, OwnedSemaphorePermit), Failure> {
    let binary = |output: &str| form.binary(output);
    infer::fits(client::least_size(&answer.outputs, binary))?;
    let reply = client::encode_result(infer::told(Some(id), model, answer), binary);
    let size = infer::fits(reply.size())?;
    let held = bytes.try_acquire_many_owned(size).map_err(|_| unread())?;
    Ok((reply, held))
}

/// `caller` is whose runs alone are told; absent for everybody's.
async fn forward(
    mut events: broadcast::Receiver<Arc<Event>>,
    topics: Vec<Topic>,
    sender: Sender,
    caller: Option<Arc<str>>,
) {
    let foreign = |event: &Event| {
        event.topic == Topic::Runs && caller.as_ref().is_some_and(|caller| event.event["caller"] != **caller)
    };
    let mut lagged = 0;
    loop {
        match events.recv().await {
            Ok(event) if topics.contains(&event.topic) && !foreign(&event) => {
                let event = client::encode_event(event.topic, event.seq, lagged, &event.event);
                if tell(&sender, event).await.is_err() {
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
async fn tell(sender: &Sender, reply: Reply) -> Result<(), Closed> {
    sender.place().await?.send(outgoing(reply), None)
}

fn outgoing(reply: Reply) -> Outgoing {
    match reply {
        Reply::Text(text) => Outgoing::Text(text),
        Reply::Binary { head, body } => Outgoing::Binary { head, body },
    }
}
