//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): what is asked for twice under one key happens
//! once, and is answered twice.
//!
//! A request with a key runs to its end even if its client is gone: the client that asks again is why there is a key.
//! What may be tried again with success is not kept.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Extension,
    body::{self, Body},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{sync::oneshot, time::Instant};

use super::{FRAME_MAX, Problem};
use crate::{
    domain::{Caller, Code, Digest, Failure, Retry},
    scheduler::STOPPING,
    tasks::Tasks,
};

pub(super) const KEY: &str = "idempotency-key";

/// Marks an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A UUID has 36 characters; what clients make of several names fits as well.
pub(super) const KEY_MAX: usize = 255;

/// The same as a pattern, for the document.
pub(super) const PATTERN: &str = r#"^([ !#-\[\]-~]{1,255}|"[ !#-\[\]-~]{1,255}")$"#;

/// Longer than any client retries.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// Keys of one caller; its oldest answers make room.
const KEYS_MAX: usize = 1024;

/// Bytes of answers of one caller, and of all: the largest answer fits, and no caller takes all.
const CALLER_BYTES_MAX: usize = 2 * FRAME_MAX;
const BYTES_MAX: usize = 4 * FRAME_MAX;

/// Beside method, address and body, what changes a request's meaning.
const MEANING: [&str; 3] = ["content-type", "content-encoding", "inference-header-content-length"];

/// The answers given under keys. Clones share them.
#[derive(Clone)]
pub(super) struct Answers {
    kept: Arc<Mutex<Kept>>,
    tasks: Tasks,
}

impl Answers {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { kept: Arc::default(), tasks }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of the answers panics")
    }
}

/// Lets a request with a key happen once.
pub(super) async fn once(
    State(answers): State<Answers>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    match keyed(answers, caller, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn keyed(answers: Answers, caller: Caller, request: Request, next: Next) -> Result<Response, Problem> {
    let key = key(request.headers())?;
    let (parts, body) = request.into_parts();
    let extensions = parts.extensions.clone();
    let mut limited = Request::new(body);
    *limited.extensions_mut() = extensions;
    let body = Bytes::from_request(limited, &()).await?;
    let request = Request::from_parts(parts, Body::from(body.clone()));
    let fingerprint = fingerprint(&request, &body);
    match answers.kept().begin(&caller.id, &key, fingerprint, Instant::now()) {
        Begun::First => {}
        Begun::Again(answer) => return Ok(answer.replay()),
        Begun::UnderWay => {
            let message = format!("the request with the key {key:?} is under way");
            return Err(Problem::conflict(message));
        }
        Begun::Other => {
            let message = format!("the key {key:?} was used for another request");
            return Err(Failure::invalid(message).into());
        }
        Begun::Full => {
            let message = format!("{KEYS_MAX} requests with keys are under way, which is a caller's limit");
            return Err(Failure::new(Code::Overloaded, Retry::Same, message).into());
        }
    }
    let held = Held { answers: answers.clone(), caller, key, answer: None };
    let stopping = || Failure::new(Code::Overloaded, Retry::Same, STOPPING);
    let under_way = answers.tasks.accept().ok_or_else(stopping)?;
    let (reply, answered) = oneshot::channel();
    let stop = answers.tasks.stopping();
    answers.tasks.spawn("request with a key", async move {
        let run = async {
            let answer = Answer::read(next.run(request).await).await;
            let response = answer.response();
            held.end(answer);
            // The client may be gone.
            let _ = reply.send(response);
        };
        tokio::select! {
            () = run => {}
            () = stop.cancelled() => {}
        }
        drop(under_way);
    });
    answered
        .await
        .map_err(|_| Failure::new(Code::Internal, Retry::Same, "the request ended without an answer").into())
}

/// The key: a string of structured fields (RFC 9651), quoted, or as most clients send it, without quotes.
fn key(headers: &HeaderMap) -> Result<String, Failure> {
    let mut values = headers.get_all(KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Failure::invalid("a request has one Idempotency-Key"));
    };
    let text = value.to_str().unwrap_or_default();
    let bare = text.strip_prefix('"').map_or(Some(text), |rest| rest.strip_suffix('"')).unwrap_or_default();
    if bare.is_empty() || bare.len() > KEY_MAX || bare.contains(['"', '\\', '\t']) {
        let message = format!(
            "an Idempotency-Key has 1 to {KEY_MAX} printable ASCII characters, none of them \" or \\"
        );
        return Err(Failure::invalid(message));
    }
    Ok(bare.to_owned())
}

fn fingerprint(request: &Request, body: &Bytes) -> Digest {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(request.method().as_str().as_bytes());
    add(request.uri().path_and_query().map_or("", |path| path.as_str()).as_bytes());
    for name in MEANING {
        add(request.headers().get(name).map_or(b"", HeaderValue::as_bytes));
    }
    add(body);
    Digest::new(hash.finalize().into())
}

/// Gives a key free again when its request ends without an answer to keep.
struct Held {
    answers: Answers,
    caller: Caller,
    key: String,
    answer: Option<Answer>,
}

impl Held {
    fn end(mut self, answer: Answer) {
        self.answer = answer.keeps().then_some(answer);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.kept().end(&self.caller.id, &self.key, self.answer.take(), Instant::now());
    }
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    problem: Option<Problem>,
}

impl Answer {
    async fn read(mut response: Response) -> Self {
        let problem = response.extensions_mut().remove::<Problem>();
        let (parts, body) = response.into_parts();
        // Answers are made whole and within their own limits.
        match body::to_bytes(body, usize::MAX).await {
            Ok(body) => Self { status: parts.status, headers: parts.headers, body, problem },
            Err(error) => {
                let failure = Failure::new(Code::Internal, Retry::Same, error.to_string());
                let (parts, _) = Problem::from(failure.clone()).into_response().into_parts();
                let problem = Some(Problem::from(failure));
                Self { status: parts.status, headers: parts.headers, body: Bytes::new(), problem }
            }
        }
    }

    /// Whether asking again should get the same: not where trying again may succeed.
    fn keeps(&self) -> bool {
        !self.status.is_server_error() && self.problem.as_ref().is_none_or(Problem::is_final)
    }

    fn size(&self) -> usize {
        self.body.len()
    }

    fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        if let Some(problem) = &self.problem {
            response.extensions_mut().insert(problem.clone());
        }
        response
    }

    fn replay(&self) -> Response {
        let mut response = self.response();
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// By caller.
#[derive(Default)]
struct Kept {
    shelves: HashMap<Arc<str>, Shelf>,
}

/// One caller's keys.
#[derive(Default)]
struct Shelf {
    /// By key: what was asked, and the answer once there is one.
    requests: HashMap<String, (Digest, Option<Answer>)>,
    /// The answered keys, the oldest first.
    ages: VecDeque<(Instant, String)>,
    bytes: usize,
}

enum Begun {
    First,
    Again(Answer),
    UnderWay,
    /// The key stands for something else.
    Other,
    Full,
}

impl Kept {
    fn begin(&mut self, caller: &Arc<str>, key: &str, asked: Digest, now: Instant) -> Begun {
        self.shelves.retain(|_, shelf| shelf.age(now));
        let shelf = self.shelves.entry(caller.clone()).or_default();
        match shelf.requests.get(key) {
            Some((earlier, _)) if *earlier != asked => return Begun::Other,
            Some((_, Some(answer))) => return Begun::Again(answer.clone()),
            Some((_, None)) => return Begun::UnderWay,
            None => {}
        }
        if shelf.requests.len() == KEYS_MAX && !shelf.drop_oldest() {
            return Begun::Full;
        }
        shelf.requests.insert(key.to_owned(), (asked, None));
        Begun::First
    }

    fn end(&mut self, caller: &str, key: &str, answer: Option<Answer>, now: Instant) {
        let Some(shelf) = self.shelves.get_mut(caller) else { return };
        let Some(answer) = answer else {
            shelf.requests.remove(key);
            return;
        };
        let Some((_, place)) = shelf.requests.get_mut(key) else { return };
        shelf.bytes += answer.size();
        *place = Some(answer);
        shelf.ages.push_back((now, key.to_owned()));
        while shelf.bytes > CALLER_BYTES_MAX && shelf.drop_oldest() {}
        while self.shelves.values().map(|shelf| shelf.bytes).sum::<usize>() > BYTES_MAX {
            let fullest = self.shelves.values_mut().max_by_key(|shelf| shelf.bytes);
            fullest.expect("bytes are on a shelf").drop_oldest();
        }
    }
}

impl Shelf {
    /// Drops what is too old; false when nothing is left.
    fn age(&mut self, now: Instant) -> bool {
        while self.ages.front().is_some_and(|(at, _)| now.duration_since(*at) > KEPT_FOR) {
            self.drop_oldest();
        }
        !self.requests.is_empty()
    }

    /// False when every key's request is under way.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, key)) = self.ages.pop_front() else { return false };
        if let Some((_, Some(answer))) = self.requests.remove(&key) {
            self.bytes -= answer.size();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Answer {
        let body = Bytes::from(vec![0; bytes]);
        Answer { status: StatusCode::OK, headers: HeaderMap::new(), body, problem: None }
    }

    fn asked(what: u8) -> Digest {
        Digest::new([what; 32])
    }

    /// What `begin` says, in one word.
    fn begin(kept: &mut Kept, caller: &str, key: &str, what: u8, now: Instant) -> &'static str {
        match kept.begin(&caller.into(), key, asked(what), now) {
            Begun::First => "first",
            Begun::Again(_) => "again",
            Begun::UnderWay => "under way",
            Begun::Other => "other",
            Begun::Full => "full",
        }
    }

    #[test]
    fn a_key_stands_for_one_request_of_one_caller_for_an_hour() {
        let (kept, now) = (&mut Kept::default(), Instant::now());
        assert_eq!(begin(kept, "a", "k", 1, now), "first");
        assert_eq!(begin(kept, "a", "k", 1, now), "under way");
        assert_eq!(begin(kept, "a", "k", 2, now), "other");
        assert_eq!(begin(kept, "b", "k", 2, now), "first");
        kept.end("a", "k", Some(answer(1)), now);
        assert_eq!(begin(kept, "a", "k", 1, now + KEPT_FOR), "again");
        assert_eq!(begin(kept, "a", "k", 2, now + KEPT_FOR), "other");
        let later = now + KEPT_FOR + Duration::from_secs(1);
        assert_eq!(begin(kept, "a", "k", 2, later), "first");
        // What ended without an answer to keep may be asked again.
        kept.end("a", "k", None, later);
        assert_eq!(begin(kept, "a", "k", 1, later), "first");
    }

    #[test]
    fn the_oldest_answers_make_room_and_what_is_under_way_does_not() {
        let (kept, now) = (&mut Kept::default(), Instant::now());
        for key in 0..KEYS_MAX {
            assert_eq!(begin(kept, "a", &key.to_string(), 1, now), "first");
        }
        assert_eq!(begin(kept, "a", "more", 1, now), "full");
        assert_eq!(begin(kept, "b", "more", 1, now), "first");
        kept.end("a", "7", Some(answer(1)), now);
        kept.end("a", "8", Some(answer(1)), now);
        assert_eq!(begin(kept, "a", "more", 1, now), "first");
        assert_eq!(begin(kept, "a", "8", 1, now), "again");
        assert_eq!(kept.shelves["a"].requests.len(), KEYS_MAX);
        assert_eq!(kept.shelves["a"].bytes, 1);
    }

    #[test]
    fn answers_are_bounded_per_caller_and_together() {
        let (kept, now) = (&mut Kept::default(), Instant::now());
        for caller in ["a", "b", "c"] {
            for key in ["1", "2", "3"] {
                begin(kept, caller, key, 1, now);
                kept.end(caller, key, Some(answer(FRAME_MAX)), now);
            }
            assert_eq!(begin(kept, caller, "3", 1, now), "again");
            assert!(kept.shelves[caller].bytes <= CALLER_BYTES_MAX);
        }
        assert_eq!(kept.shelves.values().map(|shelf| shelf.bytes).sum::<usize>(), BYTES_MAX);
    }

    #[test]
    fn keys_are_read_with_quotes_and_without() {
        let long = "k".repeat(KEY_MAX);
        let cases = [
            ("k-1", Some("k-1")),
            ("\"k-1\"", Some("k-1")),
            (long.as_str(), Some(long.as_str())),
            ("", None),
            ("\"\"", None),
            ("\"k", None),
            ("k\"", None),
            ("k\\1", None),
            ("k\t1", None),
        ];
        for (text, wanted) in cases {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(KEY),
                HeaderValue::from_str(text).expect("a header's value"),
            )]);
            assert_eq!(key(&headers).ok().as_deref(), wanted, "{text:?}");
        }
        assert!(key(&HeaderMap::new()).is_err());
    }
}
