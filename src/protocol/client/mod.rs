//! Messages of the public WebSocket `/v2/ws`, and the tensor forms that it shares with the REST API.

mod json;
mod request;
mod response;

pub use json::{TensorJson, elements};
pub use request::{
    ClientMessage, FallbackPolicy, Malformed, Parameters, ParsedInfer, Topic, infer_id, parse_message,
};
pub use response::{Reply, encode_error, encode_event, encode_result, least_size};
