//! The trustless gateway: blocks and CARs of the models' files, and nothing that its caller could not verify.
//!
//! What is answered is decided in `content`; this sends it, from the disk, as fast as it is taken.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use axum::{
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use rustix::io::{ReadWriteFlags, preadv2};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Api, Problem, error::ProblemDetails};
use crate::{
    content::{Address, Answer, Ask, AskError, CidError, Format, Given, Piece, answer, inline},
    domain::{Code, Failure, Retry},
};

/// What is read at once. Measured: less costs hand-overs between threads, and more leaves the processor's cache.
const CHUNK: u64 = 256 << 10;

/// Chunks of one answer that are in memory: one is sent while the next is read.
const AHEAD: usize = 2;

/// A file's name is for whoever saves the answer.
const FILENAME_MAX: usize = 255;

/// What a block's name stands for never changes. Behind a login no cache may tell others.
const CACHED_BY_ALL: &str = "public, max-age=29030400, immutable";
const CACHED_BY_CALLER: &str = "private, max-age=29030400, immutable";

#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Wanted {
    /// `raw` or `car`; counts before `Accept`.
    format: Option<String>,
    /// Of a CAR: `block`, `entity` or `all`.
    dag_scope: Option<String>,
    /// Of a CAR: the blocks for these bytes, `FROM:TO` with both ends, from the end when negative, `*` for the end.
    entity_bytes: Option<String>,
    /// `1`.
    car_version: Option<String>,
    /// `dfs`, or `unk` for whoever does not care.
    car_order: Option<String>,
    /// `y` for blocks as often as the file has them.
    car_dups: Option<String>,
    /// What to save it as.
    filename: Option<String>,
}

/// A block or a CAR
///
/// A trustless gateway over the models' files, which are laid out as `unixfs-v1-2025` says.
/// `Accept: application/vnd.ipld.raw` or `?format=raw` gives one block, `application/vnd.ipld.car` or `?format=car` a CAR in depth-first order.
/// Plain bytes are not served here.
#[utoipa::path(get, path = "/ipfs/{cid}", tag = "models", params(("cid" = String, Path), Wanted),
    responses(
        (status = 200, content(
            (Vec<u8> = "application/vnd.ipld.raw"),
            (Vec<u8> = "application/vnd.ipld.car"),
        )),
        (status = 304, description = "`If-None-Match` names what would be sent"),
        (status = 400, description = "No CID that is known here, or no format was said",
            body = ProblemDetails, content_type = "application/problem+json"),
        (status = 406, description = "Another format was said",
            body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, description = "`only-if-cached`, and it is not here",
            body = ProblemDetails, content_type = "application/problem+json"),
    ))]
pub(super) async fn serve(
    State(api): State<Arc<Api>>,
    cid: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(cid) = cid?;
    let bad = |message: String| Problem::told_as(Failure::invalid(message), StatusCode::BAD_REQUEST);
    let Query(wanted) = wanted.map_err(|error| bad(error.body_text()))?;
    // A script that a browser would run in the name of whoever serves it.
    if headers.contains_key("service-worker") {
        return Err(bad("nothing here is a service worker".to_owned()));
    }
    let address: Address = cid.parse().map_err(|error: CidError| bad(error.to_string()))?;
    let said = Said::new(&api, &headers, &wanted)?;
    // Until it is open.
    let mut held = None;
    let (answer, file) = match &address {
        Address::Inline(bytes) => (inline(&address, bytes, &said.ask), None),
        Address::Block(block) => {
            let absent = || said.absent(&cid);
            let layouts = &api.registry.layouts;
            let found = match layouts.holder(&block.digest) {
                None if !said.cached => layouts.find(&block.digest).await,
                held => held,
            };
            let (file, layout) = found.ok_or_else(absent)?;
            if said.cached && !api.registry.blobs.has(file) {
                return Err(absent());
            }
            held = Some(api.cache.hold_file(file).await?.ok_or_else(absent)?);
            let answer =
                answer(&layout, block, &said.ask).map_err(|error| refused(&error))?.ok_or_else(absent)?;
            (answer, Some(api.registry.blobs.path(file)))
        }
    };
    let etag = format!("\"{}\"", answer.etag);
    let mut response = if said.knows(&etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let open = move || file.map(File::open).transpose();
        let file = tokio::task::spawn_blocking(open).await.expect("opening a file does not panic");
        let file = file.map_err(|error| {
            Failure::new(Code::Internal, Retry::Same, format!("the file of {cid} cannot be read: {error}"))
        })?;
        said.body(&address, answer, file)
    };
    drop(held);
    said.head(&address, &etag, response.headers_mut());
    Ok(response)
}

/// What of a request decides about its answer, beside the CID.
struct Said<'a> {
    ask: Ask,
    /// By `Accept` alone.
    negotiated: bool,
    /// Only what can be sent at once.
    cached: bool,
    filename: Option<&'a str>,
    known: Option<&'a str>,
    cache: &'static str,
}

impl<'a> Said<'a> {
    fn new(api: &Api, headers: &'a HeaderMap, wanted: &'a Wanted) -> Result<Self, Problem> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let ask = Ask::read(&Given {
            format: wanted.format.as_deref(),
            dag_scope: wanted.dag_scope.as_deref(),
            entity_bytes: wanted.entity_bytes.as_deref(),
            car_version: wanted.car_version.as_deref(),
            car_order: wanted.car_order.as_deref(),
            car_dups: wanted.car_dups.as_deref(),
            accept: text(header::ACCEPT),
        });
        let control = text(header::CACHE_CONTROL).unwrap_or_default();
        let filename = wanted.filename.as_deref();
        Ok(Self {
            ask: ask.map_err(|error| refused(&error))?,
            negotiated: wanted.format.is_none(),
            cached: control.split(',').any(|part| part.trim().eq_ignore_ascii_case("only-if-cached")),
            filename: filename.filter(|name| !name.is_empty() && name.len() <= FILENAME_MAX),
            known: text(header::IF_NONE_MATCH),
            cache: if api.access.is_required() { CACHED_BY_CALLER } else { CACHED_BY_ALL },
        })
    }

    fn absent(&self, cid: &str) -> Problem {
        let message = format!("no model here has the block {cid}");
        if self.cached {
            return Problem::told_as(Failure::invalid(message), StatusCode::PRECONDITION_FAILED);
        }
        Problem::not_found(message)
    }

    fn knows(&self, etag: &str) -> bool {
        let bare = |known: &str| known.trim().trim_start_matches("W/").to_owned();
        self.known.is_some_and(|known| {
            known.split(',').any(|known| matches!(bare(known), k if k == "*" || k == etag))
        })
    }

    fn body(&self, address: &Address, answer: Answer, file: Option<File>) -> Response {
        let mut response = Response::new(Body::from_stream(sent(answer.pieces, file.map(Arc::new))));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(header::CONTENT_LENGTH, answer.length.into());
        headers.insert(header::CONTENT_DISPOSITION, self.disposition(address));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
        response
    }

    /// What a caller's cache needs, also without a body.
    fn head(&self, address: &Address, etag: &str, headers: &mut HeaderMap) {
        let value = |text: &str| HeaderValue::from_str(text).expect("it is made of ASCII");
        headers.insert(header::ETAG, value(etag));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(self.cache));
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        if self.negotiated {
            let place = format!("/ipfs/{address}?{}", self.ask.query());
            headers.insert(header::CONTENT_LOCATION, value(&place));
        }
    }

    fn disposition(&self, address: &Address) -> HeaderValue {
        let text = match self.filename {
            Some(name) => {
                let plain =
                    |c: char| if c.is_ascii_graphic() && !"\"\\".contains(c) || c == ' ' { c } else { '_' };
                let encoded: String = name.bytes().map(encoded).collect();
                let ascii: String = name.chars().map(plain).collect();
                format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
            }
            None => {
                let extension = if self.ask.format == Format::Raw { "bin" } else { "car" };
                format!("attachment; filename=\"{address}.{extension}\"")
            }
        };
        HeaderValue::from_str(&text).expect("it is made of printable ASCII")
    }
}

/// As RFC 8187 has it.
fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

fn refused(error: &AskError) -> Problem {
    let status = match error {
        AskError::Unserved(_) => StatusCode::NOT_ACCEPTABLE,
        AskError::Unsaid | AskError::Malformed { .. } => StatusCode::BAD_REQUEST,
    };
    Problem::told_as(Failure::invalid(error.to_string()), status)
}

/// The pieces in order, read as they are taken.
fn sent(
    pieces: impl Iterator<Item = Piece> + Send + 'static,
    file: Option<Arc<File>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let chunks = pieces.flat_map(|piece| match piece {
        Piece::Bytes(bytes) => Chunks::Bytes(Some(bytes)),
        Piece::File(range) => Chunks::File(range),
    });
    let bytes = move |piece: Piece| {
        let file = file.clone();
        async move {
            match piece {
                Piece::Bytes(bytes) => Ok(bytes),
                Piece::File(range) => {
                    read(file.expect("whoever has ranges of a file has the file"), range).await
                }
            }
        }
    };
    stream::iter(chunks).map(bytes).buffered(AHEAD)
}

/// Takes what the kernel holds in memory at once, and has a thread wait for the disk.
async fn read(file: Arc<File>, range: Range<u64>) -> io::Result<Bytes> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let slices = &mut [IoSliceMut::new(&mut bytes)];
    // A file system that cannot say is waited for like a disk.
    let held = preadv2(&*file, slices, range.start, ReadWriteFlags::NOWAIT).unwrap_or(0);
    if held == bytes.len() {
        return Ok(bytes.into());
    }
    let rest = move || {
        file.read_exact_at(&mut bytes[held..], range.start + held as u64).map(|()| Bytes::from(bytes))
    };
    tokio::task::spawn_blocking(rest).await.expect("reading a file does not panic")
}

/// A piece as it is read.
enum Chunks {
    Bytes(Option<Bytes>),
    File(Range<u64>),
}

impl Iterator for Chunks {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        match self {
            Self::Bytes(bytes) => bytes.take().map(Piece::Bytes),
            Self::File(range) if range.is_empty() => None,
            Self::File(range) => {
                let end = range.end.min(range.start + CHUNK);
                let chunk = range.start..end;
                range.start = end;
                Some(Piece::File(chunk))
            }
        }
    }
}
