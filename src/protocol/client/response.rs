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

#[derive(Serialize)]
#[serde(tag = "type", rename = "result")]
struct ResultMessage<'a> {
    id: &'a str,
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

/// The answer to an `infer`; `binary` says per output how its elements travel.
pub fn encode_result(
    id: &str,
    model: &ModelName,
    outputs: &[Tensor],
    binary: impl Fn(&str) -> bool,
    (run, request): (&RunId, &RequestId),
    provenance: &Provenance,
    timing: Timing,
) -> Reply {
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
        id,
        model_name: model,
        model_version: provenance.model_digest,
        outputs,
        parameters: ResultParameters { run, request, provenance, timing_us: timing },
    };
    if any_binary { Reply::Binary { head: frame::head(&message), body } } else { Reply::Text(text(&message)) }
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
