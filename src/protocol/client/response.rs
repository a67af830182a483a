//! What a client is told.

use serde::Serialize;

use super::json::Data;
use crate::domain::{
    Body, Datatype, Digest, Failure, ModelName, Provenance, RequestId, RunId, Tensor, Timing,
};
use crate::protocol::frame;

/// A reply, in the frame kind that it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Text(String),
    /// A frame's head, and the tensors that follow it.
    Binary {
        head: Vec<u8>,
        body: Body,
    },
}

impl Reply {
    /// Bytes in its frame.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary { head, body } => head.len() + body.len(),
        }
    }
}

/// The answer to a request over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    pub header: Vec<u8>,
    /// The tensors behind the header, when any output is binary.
    pub body: Option<Body>,
}

#[derive(Serialize)]
struct ResultMessage<'a> {
    /// HTTP needs none: nothing but this answers a request there.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    model_name: &'a ModelName,
    model_version: Digest,
    outputs: Vec<Output<'a>>,
    parameters: ResultParameters<'a>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: Datatype,
    shape: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
struct OutputParameters {
    binary_data_size: usize,
}

#[derive(Serialize)]
struct ResultParameters<'a> {
    run: &'a RunId,
    request: &'a RequestId,
    provenance: &'a Provenance,
    timing_us: Timing,
}

/// What `outputs` take in a frame at the least, told without encoding them.
pub fn least_size(outputs: &[Tensor], binary: impl Fn(&str) -> bool) -> usize {
    // In JSON an element takes a character and its comma at the least.
    let as_json =
        |tensor: &Tensor| tensor.element_count().map_or(usize::MAX, |count| count.saturating_mul(2));
    let size = |tensor: &Tensor| if binary(&tensor.name) { tensor.body.len() } else { as_json(tensor) };
    outputs.iter().map(size).fold(0, usize::saturating_add)
}

/// What an answer tells.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    pub id: Option<&'a str>,
    pub model: &'a ModelName,
    pub outputs: &'a [Tensor],
    pub run: &'a RunId,
    pub request: &'a RequestId,
    pub provenance: &'a Provenance,
    pub timing: Timing,
}

impl<'a> Told<'a> {
    /// The message, and the tensors behind it when any output is binary; `binary` says which are.
    fn message(
        self,
        kind: Option<&'static str>,
        binary: impl Fn(&str) -> bool,
    ) -> (ResultMessage<'a>, Option<Body>) {
        let Self { id, model, outputs, run, request, provenance, timing } = self;
        let mut body = Body::default();
        let outputs = outputs
            .iter()
            .map(|tensor| {
                let binary = binary(&tensor.name);
                if binary {
                    body.append(&tensor.body);
                }
                Output {
                    name: &tensor.name,
                    datatype: tensor.datatype,
                    shape: &tensor.shape,
                    parameters: binary.then(|| OutputParameters { binary_data_size: tensor.body.len() }),
                    data: (!binary).then_some(Data(tensor)),
                }
            })
            .collect::<Vec<_>>();
        let any_binary = outputs.iter().any(|output| output.parameters.is_some());
        let message = ResultMessage {
            kind,
            id,
            model_name: model,
            model_version: provenance.model_digest,
            outputs,
            parameters: ResultParameters { run, request, provenance, timing_us: timing },
        };
        (message, any_binary.then_some(body))
    }
}

/// The answer to an `infer` on the WebSocket; `binary` says per output how its elements travel.
pub fn encode_result(told: Told<'_>, binary: impl Fn(&str) -> bool) -> Reply {
    let (message, body) = told.message(Some("result"), binary);
    match body {
        Some(body) => Reply::Binary { head: frame::head(&message), body },
        None => Reply::Text(text(&message)),
    }
}

/// The same over HTTP.
pub fn encode_posted(told: Told<'_>, binary: impl Fn(&str) -> bool) -> Posted {
    let (message, body) = told.message(None, binary);
    let mut header = text(&message).into_bytes();
    if body.is_some() {
        // What follows can then be read where it lies.
        header.resize(header.len().next_multiple_of(frame::ALIGNMENT), b' ');
    }
    Posted { header, body }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
struct ErrorMessage<'a> {
    id: Option<&'a str>,
    error: &'a Failure,
}

pub fn encode_error(id: Option<&str>, error: &Failure) -> Reply {
    Reply::Text(text(&ErrorMessage { id, error }))
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "event")]
struct EventMessage<'a, T> {
    topic: super::Topic,
    seq: u64,
    lagged: u64,
    event: &'a T,
}

/// One event of a subscription; `lagged` counts what this reader has missed so far.
pub fn encode_event<T: Serialize>(topic: super::Topic, seq: u64, lagged: u64, event: &T) -> Reply {
    Reply::Text(text(&EventMessage { topic, seq, lagged, event }))
}

fn text<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message).expect("messages hold only strings, numbers and lists")
}
