//! Requests: redirects followed by our own rules, answers read within limits.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;
use tokio::{sync::OnceCell, time::timeout};
use url::Url;

use super::{
    Found, Locator, Remote, Settings, Shelf, Source, SourceError, backoff::Tries, locator::place, origin,
    progress::Progress, tls,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// A server that says nothing for so long, or sends no byte, has lost us.
const SILENT_MAX: Duration = Duration::from_secs(30);

/// A hub leads to its storage, which may lead to a cache; browsers follow 20.
const REDIRECTS_MAX: usize = 10;

/// What an index says of one version; the longest seen are a few MB.
const JSON_MAX: usize = 16 << 20;

type Connections = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The client, made when it is first wanted: certificates take a while to read.
#[derive(Default)]
pub(super) struct Dial(OnceCell<Connections>);

impl Dial {
    async fn client(&self, settings: &Settings) -> Result<&Connections, SourceError> {
        let file = settings.certificates.clone();
        let make = async {
            let read = tokio::task::spawn_blocking(move || tls::client(file.as_deref()));
            let config = read.await.expect("reading certificates does not panic")?;
            let mut connector = HttpConnector::new();
            connector.set_connect_timeout(Some(CONNECT_WITHIN));
            connector.enforce_http(false);
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(config)
                .https_or_http()
                .enable_http1()
                .wrap_connector(connector);
            // Downloads are rare and long: a connection at rest would serve nobody.
            Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
        };
        self.0.get_or_try_init(|| make).await
    }
}

/// An address below `base`, each part encoded as one.
pub(super) fn below<'p>(base: &Url, parts: impl IntoIterator<Item = &'p str>) -> Result<Url, SourceError> {
    let mut url = base.clone();
    match url.path_segments_mut() {
        Ok(mut segments) => drop(segments.pop_if_empty().extend(parts)),
        Err(()) => {
            let problem = "nothing is below it".to_owned();
            return Err(SourceError::Malformed { text: place(base), problem });
        }
    }
    Ok(url)
}

/// The web as one download sees it.
#[derive(Clone)]
pub(super) struct Web {
    pub(super) settings: Arc<Settings>,
    pub(super) dial: Arc<Dial>,
    pub(super) progress: Progress,
}

/// The rest of a file that is there in part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) from: u64,
    pub(super) etag: String,
}

impl Web {
    /// What an index says, asked for as often as may help.
    pub(super) async fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<T, SourceError> {
        let mut tries = Tries::new(self.settings.backoff);
        let text = loop {
            match self.text(url).await {
                Ok(text) => break text,
                Err(error) => {
                    tries.again(error, 0, |wait, error| self.progress.waits(wait, error)).await?;
                    self.progress.goes_on();
                }
            }
        };
        serde_json::from_slice(&text)
            .map_err(|error| SourceError::Answer { place: place(url), problem: error.to_string() })
    }

    async fn text(&self, url: &Url) -> Result<Vec<u8>, SourceError> {
        let mut answer = self.open(url, None).await?;
        let mut text = Vec::new();
        while let Some(part) = answer.next(text.len() as u64, None).await? {
            if text.len() + part.len() > JSON_MAX {
                let problem = format!("it is over {JSON_MAX} bytes");
                return Err(SourceError::Answer { place: place(url), problem });
            }
            text.extend_from_slice(&part);
        }
        Ok(text)
    }

    /// Asks for a file or its rest, and follows where it leads; what is no file is an error.
    pub(super) async fn open(&self, url: &Url, rest: Option<&Rest>) -> Result<Answer, SourceError> {
        let mut at = url.clone();
        let mut token = self.settings.token(url)?;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.hop(&at, rest, token.as_deref()).await?;
            let location = response.headers().get(header::LOCATION).filter(|_| leads(response.status()));
            let Some(location) = location else { return Answer::new(place(&at), response, rest.is_some()) };
            let Ok(location) = location.to_str() else {
                let problem = "it leads to an address that cannot be read".to_owned();
                return Err(SourceError::Answer { place: place(&at), problem });
            };
            let next = lead(&at, location)?;
            // Once elsewhere, the token stays behind, also when the way leads back.
            if origin(&next) != origin(url) {
                token = None;
            }
            at = next;
        }
        Err(SourceError::Redirects { place: place(url), most: REDIRECTS_MAX })
    }

    async fn hop(
        &self,
        url: &Url,
        rest: Option<&Rest>,
        token: Option<&str>,
    ) -> Result<Response<Incoming>, SourceError> {
        let wrong = |problem: String| SourceError::Malformed { text: place(url), problem };
        let mut request = Request::get(url.as_str())
            .header(header::USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            // Digests and lengths are those of the file itself.
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(Rest { from, etag }) = rest {
            request = request.header(header::RANGE, format!("bytes={from}-")).header(header::IF_RANGE, etag);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| wrong("its token is no header's value".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Empty::new()).map_err(|error| wrong(error.to_string()))?;
        let client = self.dial.client(&self.settings).await?;
        let unreachable = |message: String| SourceError::Unreachable { place: place(url), message };
        match timeout(SILENT_MAX, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(match untrusted(&error) {
                Some(message) => SourceError::Untrusted { place: place(url), message },
                None => unreachable(root_of(&error)),
            }),
            Err(_) => Err(unreachable(format!("no answer within {} s", SILENT_MAX.as_secs()))),
        }
    }
}

fn leads(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where an index or a redirect leads: never from what is encrypted to what is not.
pub(super) fn lead(from: &Url, to: &str) -> Result<Url, SourceError> {
    let wrong = |problem: String| SourceError::Answer { place: place(from), problem };
    let mut next = from.join(to).map_err(|error| wrong(format!("it leads nowhere: {error}")))?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(wrong(format!("it leads to {}:", next.scheme())));
    }
    if from.scheme() == "https" && next.scheme() == "http" {
        return Err(SourceError::Downgrade { from: place(from), to: place(&next) });
    }
    // Neither fails for http and https.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Ok(next)
}

/// What the handshake said of the server's certificate, which no other try changes.
fn untrusted(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(_)).then(|| error.to_string());
    }
    // What an I/O error holds is not among its sources.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source()).and_then(untrusted)
}

/// The innermost cause says what happened.
fn root_of(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// A file on its way, or the news that the wanted rest of it is none.
pub(super) struct Answer {
    place: String,
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    fn new(place: String, response: Response<Incoming>, partial: bool) -> Result<Self, SourceError> {
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let after = text(header::RETRY_AFTER).and_then(|text| retry_after(text, SystemTime::now()));
        match status.as_u16() {
            200 => {}
            206 | 416 if partial => {}
            404 | 410 => return Err(SourceError::NotThere { place }),
            status @ (401 | 403) => return Err(SourceError::Refused { place, status }),
            status => return Err(SourceError::Status { place, status, after }),
        }
        if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let problem = format!("it is encoded as {encoding:?}, which was not asked for");
            return Err(SourceError::Answer { place, problem });
        }
        Ok(Self { place, status, headers, body })
    }

    pub(super) fn place(&self) -> String {
        self.place.clone()
    }

    fn text(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What tells these bytes from any others.
    pub(super) fn etag(&self) -> Option<&str> {
        self.text(header::ETAG).filter(|etag| etag.starts_with('"'))
    }

    /// The length of the whole file when this is its rest, of the same bytes as before.
    pub(super) fn continues(&self, rest: &Rest) -> Option<u64> {
        if self.status != StatusCode::PARTIAL_CONTENT || self.etag().is_some_and(|etag| etag != rest.etag) {
            return None;
        }
        content_range(self.text(header::CONTENT_RANGE)?, rest.from)
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.text(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// Whether the end of the body differs from the loss of the connection.
    pub(super) fn ends(&self) -> bool {
        self.length().is_some() || self.text(header::TRANSFER_ENCODING).is_some()
    }

    /// The next bytes; `got` and `total` are what an error tells.
    pub(super) async fn next(&mut self, got: u64, total: Option<u64>) -> Result<Option<Bytes>, SourceError> {
        loop {
            let message = match timeout(SILENT_MAX, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    // Trailers.
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => root_of(&error),
                Err(_) => format!("no byte within {} s", SILENT_MAX.as_secs()),
            };
            return Err(SourceError::Broken { place: self.place(), got, total, message });
        }
    }
}

/// The whole length that `bytes 5-9/10` states, when it goes from `from` to the end.
pub(super) fn content_range(text: &str, from: u64) -> Option<u64> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first == from && last.checked_add(1) == Some(total)).then_some(total)
}

/// Seconds, or a date.
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default())
}

/// A file at an address.
pub(super) struct Address(pub(super) Url);

impl Source for Address {
    fn find<'a>(&'a self, _: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>> {
        let remote = Remote { url: self.0.clone(), expected: None, bytes: None };
        let name = self.0.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let shelf = Shelf::Lone { name: name.to_owned(), remote };
        let source = Locator::Web(self.0.clone());
        Box::pin(async { Ok(Found { shelf, path: None, source, revision: None }) })
    }
}
