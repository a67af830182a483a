//! Messages of the public WebSocket `/v2/ws`, and the tensor forms that it shares with the REST API.

mod json;
mod progress;
mod request;
mod response;

pub use json::{TensorJson, elements};
pub use progress::SuiteProgress;
pub use request::{
    ClientMessage, FallbackPolicy, Malformed, OneOrMany, Parameters, ParsedInfer, Topic, infer_id,
    parse_message, parse_posted, parse_raw,
};
pub use response::{
    Posted, Reply, Told, encode_error, encode_event, encode_posted, encode_result, least_size,
};
