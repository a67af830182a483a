//! What a client sends, parsed and checked as far as that needs no model.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{SuiteProgress, json};
use crate::domain::{
    BackendKind, Body, Code, Datatype, Failure, LeaseId, ModelName, ModelRef, Policy, RequestId, Retry,
    Sequence, SequenceId, Signature, Tensor,
};

/// Room for a UUID with a prefix; ids come back in every reply.
const ID_MAX: usize = 128;

/// No model has as many ports; it bounds what one header can make us keep.
const TENSORS_MAX: usize = 1024;

/// Dimensions per tensor; ONNX Runtime itself takes no more than 8 or so in most kernels.
const RANK_MAX: usize = 32;

/// The type of a request.
const INFER: &str = "infer";

const TYPES: &str = "infer, cancel, subscribe or progress";

#[derive(Debug)]
pub enum ClientMessage {
    Infer(Box<ParsedInfer>),
    Cancel { id: String },
    Subscribe { id: Option<String>, topics: Vec<Topic> },
    Progress { id: Option<String>, progress: SuiteProgress },
}

/// A message that cannot be understood, with its id when that much could be read.
#[derive(Debug)]
pub struct Malformed {
    pub id: Option<String>,
    pub failure: Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    Pool,
    Runs,
    Models,
    Plans,
    Activity,
    Suites,
}

#[derive(Debug, PartialEq)]
pub struct ParsedInfer {
    /// Empty when none was given, which HTTP allows.
    pub id: String,
    pub model: ModelName,
    pub version: Option<String>,
    pub inputs: Vec<Tensor>,
    /// Wanted outputs with whether each is to be binary; empty for all.
    pub outputs: Vec<(String, Option<bool>)>,
    pub parameters: Parameters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackPolicy {
    Native,
    None,
}

/// Request parameters. An unknown one is an error: a misspelt restriction must not be ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a parameter of its own name")]
pub struct Parameters {
    pub backend: Option<OneOrMany<BackendKind>>,
    pub browser: Option<OneOrMany<String>>,
    pub fallback: Option<FallbackPolicy>,
    pub policy: Option<Policy>,
    pub priority: u32,
    /// Microseconds; 0 for the default.
    pub timeout: u64,
    pub plan: Option<String>,
    pub strict: bool,
    pub binary_data_output: bool,
    pub lease: Option<LeaseId>,
    /// What the caller calls this request.
    pub request: Option<RequestId>,
    /// The W3C's, for a span of the caller's that ours belong to.
    pub traceparent: Option<String>,
    /// 0 and the empty text stand for none.
    pub sequence_id: Option<SequenceId>,
    pub sequence_start: bool,
    pub sequence_end: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    pub fn list(&self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
        }
    }
}

impl Parameters {
    pub fn backends(&self) -> Vec<BackendKind> {
        self.backend.as_ref().map(OneOrMany::list).unwrap_or_default()
    }

    pub fn browsers(&self) -> Vec<String> {
        self.browser.as_ref().map(OneOrMany::list).unwrap_or_default()
    }

    /// The request's place in a sequence, if it has one.
    pub fn sequence(&self) -> Result<Option<Sequence>, Failure> {
        let Self { sequence_id, sequence_start: start, sequence_end: end, .. } = self;
        let id = sequence_id.clone().filter(|id| match id {
            SequenceId::Number(number) => *number != 0,
            SequenceId::Text(text) => !text.is_empty(),
        });
        match id {
            Some(SequenceId::Text(text)) if text.len() > ID_MAX => {
                Err(Failure::invalid(format!("a sequence_id has at most {ID_MAX} bytes")))
            }
            Some(id) => Ok(Some(Sequence { id, start: *start, end: *end })),
            None if *start || *end => {
                Err(Failure::invalid("sequence_start and sequence_end need a sequence_id"))
            }
            None => Ok(None),
        }
    }

    pub fn timeout(&self) -> Option<Duration> {
        (self.timeout > 0).then(|| Duration::from_micros(self.timeout))
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
}

#[derive(Deserialize)]
struct Infer {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    model_name: ModelRef,
    model_version: Option<String>,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: Datatype,
    shape: Vec<u64>,
    #[serde(default)]
    parameters: InputParameters,
    data: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputParameters {
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputParameters {
    binary_data: Option<bool>,
}

#[derive(Deserialize)]
struct Subscribe {
    topics: Vec<Topic>,
}

#[derive(Deserialize)]
struct Progress {
    progress: SuiteProgress,
}

/// A request over HTTP, whose path names the model.
#[derive(Deserialize)]
struct Posted {
    #[serde(default)]
    id: String,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
    #[serde(default)]
    parameters: Parameters,
}

/// Parses the body of a request over HTTP: `header` bytes of JSON, all of it when there is no number, and the tensors
/// behind it.
pub fn parse_posted(model: ModelName, body: &Bytes, header: Option<usize>) -> Result<ParsedInfer, Failure> {
    let header = header.unwrap_or(body.len());
    if header > body.len() {
        let message = format!("the header takes {header} bytes, the body has {}", body.len());
        return Err(Failure::invalid(message));
    }
    let posted: Posted =
        serde_json::from_slice(&body[..header]).map_err(|error| Failure::invalid(describe(&error)))?;
    let Posted { id, inputs, outputs, parameters } = posted;
    if id.len() > ID_MAX {
        return Err(Failure::invalid(format!("the id is longer than {ID_MAX} bytes")));
    }
    let model_name = ModelRef { name: model, version: None };
    let (kind, model_version) = (INFER.to_owned(), None);
    let infer = Infer { kind, id, model_name, model_version, inputs, outputs, parameters };
    infer.check(&body.slice(header..)).map_err(Failure::invalid)
}

/// A request over HTTP that is nothing but the bytes of the model's only input; all outputs are wanted as bytes.
///
/// The shape follows from the signature and the number of bytes. A `BYTES` input is one element, without its length.
pub fn parse_raw(model: ModelName, signature: &Signature, bytes: Bytes) -> Result<ParsedInfer, Failure> {
    let [port] = signature.inputs.as_slice() else {
        let inputs = signature.inputs.len();
        let message = format!("a header length of 0 is for models with one input, {model} has {inputs}");
        return Err(Failure::invalid(message));
    };
    let wrong = |problem: String| Failure::invalid(format!("input {:?}: {problem}", port.name));
    let (elements, body) = match port.datatype.size() {
        Some(size) if bytes.len().is_multiple_of(size) => (bytes.len() / size, bytes.into()),
        Some(size) => {
            let problem = format!("{} bytes are no {} elements of {size} each", bytes.len(), port.datatype);
            return Err(wrong(problem));
        }
        None => {
            let length = u32::try_from(bytes.len()).map_err(|_| wrong("it is over 4 GiB".to_owned()))?;
            let mut body = Body::default();
            body.push(Bytes::copy_from_slice(&length.to_le_bytes()));
            body.push(bytes);
            (1, body)
        }
    };
    let shape = port.shape_of(elements as u64).map_err(wrong)?;
    let input = Tensor { name: port.name.clone(), datatype: port.datatype, shape, body };
    Ok(ParsedInfer {
        id: String::new(),
        model,
        version: None,
        inputs: vec![input],
        outputs: Vec::new(),
        parameters: Parameters { binary_data_output: true, ..Parameters::default() },
    })
}

/// The id of an inference request that is refused before its tensors are read; `None` for whatever else a message is.
pub fn infer_id(header: &str) -> Option<String> {
    let Envelope { kind, id } = serde_json::from_str(header).ok()?;
    id.filter(|id| kind.as_deref() == Some(INFER) && id.len() <= ID_MAX)
}

/// Parses one message: the header, and the tensors that came behind it.
pub fn parse_message(header: &str, body: &Bytes) -> Result<ClientMessage, Malformed> {
    // Most messages are this, and read but once.
    match serde_json::from_str::<Infer>(header) {
        Ok(infer) if infer.kind == INFER && infer.id.len() <= ID_MAX => infer.message(body),
        _ => parse_by_type(header, body),
    }
}

fn parse_by_type(header: &str, body: &Bytes) -> Result<ClientMessage, Malformed> {
    let envelope: Envelope = serde_json::from_str(header)
        .map_err(|error| Malformed { id: None, failure: Failure::invalid(describe(&error)) })?;
    let id = envelope.id.clone();
    let malformed = |message: String| Malformed { id: id.clone(), failure: Failure::invalid(message) };
    if id.as_ref().is_some_and(|id| id.len() > ID_MAX) {
        let message = format!("the id is longer than {ID_MAX} bytes");
        return Err(Malformed { id: None, failure: Failure::invalid(message) });
    }
    match envelope.kind.as_deref() {
        Some(INFER) => {
            let infer: Infer = serde_json::from_str(header).map_err(|error| malformed(describe(&error)))?;
            infer.message(body)
        }
        Some("cancel") => match envelope.id {
            Some(id) => Ok(ClientMessage::Cancel { id }),
            None => Err(malformed("cancel needs the id of a request".to_owned())),
        },
        Some("subscribe") => {
            let subscribe: Subscribe =
                serde_json::from_str(header).map_err(|error| malformed(describe(&error)))?;
            Ok(ClientMessage::Subscribe { id: envelope.id, topics: subscribe.topics })
        }
        Some("progress") => {
            let Progress { progress } =
                serde_json::from_str(header).map_err(|error| malformed(describe(&error)))?;
            progress.check().map_err(&malformed)?;
            Ok(ClientMessage::Progress { id: envelope.id, progress })
        }
        Some(other) => Err(malformed(format!("unknown type {other:?}: use {TYPES}"))),
        None => Err(malformed(format!("the message has no type: use {TYPES}"))),
    }
}

fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => format!("the message does not fit: {error}"),
        _ => format!("the message is not JSON: {error}"),
    }
}

impl Infer {
    fn message(self, body: &Bytes) -> Result<ClientMessage, Malformed> {
        let id = self.id.clone();
        let malformed = |message| Malformed { id: Some(id), failure: Failure::invalid(message) };
        self.check(body).map(|infer| ClientMessage::Infer(Box::new(infer))).map_err(malformed)
    }

    fn check(self, body: &Bytes) -> Result<ParsedInfer, String> {
        if self.inputs.len() > TENSORS_MAX || self.outputs.len() > TENSORS_MAX {
            return Err(format!("more than {TENSORS_MAX} inputs or outputs"));
        }
        let mut from = 0;
        let inputs = self
            .inputs
            .into_iter()
            .map(|input| input.read(body, &mut from))
            .collect::<Result<Vec<_>, _>>()?;
        if from != body.len() {
            return Err(format!("the inputs take {from} bytes after the header, {} came", body.len()));
        }
        let asked = self.model_name.of_version(self.model_version)?;
        let outputs =
            self.outputs.into_iter().map(|output| (output.name, output.parameters.binary_data)).collect();
        Ok(ParsedInfer {
            id: self.id,
            model: asked.name,
            version: asked.version,
            inputs,
            outputs,
            parameters: self.parameters,
        })
    }
}

impl Input {
    /// The tensor, its bytes taken from the list or from `body[*from..]`.
    fn read(self, body: &Bytes, from: &mut usize) -> Result<Tensor, String> {
        let Self { name, datatype, shape, parameters, data } = self;
        if shape.len() > RANK_MAX {
            return Err(format!("input {name:?} has more than {RANK_MAX} dimensions"));
        }
        let bytes: Body = match (parameters.binary_data_size, data) {
            (Some(size), None) => {
                let end = from.checked_add(size).filter(|end| *end <= body.len());
                let end = end.ok_or_else(|| {
                    format!("input {name:?} takes {size} bytes, {} are left", body.len() - *from)
                })?;
                let bytes = body.slice(*from..end);
                *from = end;
                bytes.into()
            }
            (None, Some(data)) => {
                json::parse(datatype, &data).map_err(|error| format!("input {name:?}: {error}"))?.into()
            }
            (Some(_), Some(_)) => return Err(format!("input {name:?} has both data and binary_data_size")),
            (None, None) => return Err(format!("input {name:?} has neither data nor binary_data_size")),
        };
        let tensor = Tensor { name, datatype, shape, body: bytes };
        tensor.check().map_err(|error| format!("input {:?}: {error}", tensor.name))?;
        Ok(tensor)
    }
}

impl From<super::super::frame::FrameError> for Malformed {
    fn from(error: super::super::frame::FrameError) -> Self {
        Self { id: None, failure: Failure::new(Code::InvalidRequest, Retry::Never, error.to_string()) }
    }
}
