//! What a browser says on a control socket. Pure: it knows neither the socket nor what a command means.
//!
//! `WebDriver` `BiDi` and the Chrome `DevTools` Protocol differ here only in how an error is written.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of an error's texts, which go into ours; a browser's stack trace does not.
pub const WORDS_MAX: usize = 1024;

/// One message of the browser's.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    Answer {
        id: u64,
        outcome: Result<Value, Refusal>,
    },
    Event(Event),
    /// An error that belongs to no command of ours.
    Complaint(Refusal),
}

#[derive(Debug, PartialEq)]
pub struct Event {
    pub method: String,
    pub params: Value,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// A word of `BiDi`'s, or a number of the `DevTools` Protocol's.
    pub code: String,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("a message is not what the protocol allows: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("a message is neither answer nor event nor error")]
    Unknown,
}

/// All that either protocol puts into a message, and whatever else there may be.
#[derive(Deserialize)]
struct Raw {
    id: Option<u64>,
    method: Option<String>,
    params: Option<Value>,
    result: Option<Value>,
    error: Option<RawError>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawError {
    Bidi(String),
    Cdp { code: i64, message: String },
}

pub fn read(text: &str) -> Result<Incoming, MessageError> {
    let raw: Raw = serde_json::from_str(text)?;
    match (raw.id, raw.error, raw.method) {
        (id, Some(error), _) => {
            let refusal = refusal(error, raw.message);
            Ok(match id {
                Some(id) => Incoming::Answer { id, outcome: Err(refusal) },
                None => Incoming::Complaint(refusal),
            })
        }
        (Some(id), None, _) => {
            let result = raw.result.ok_or(MessageError::Unknown)?;
            Ok(Incoming::Answer { id, outcome: Ok(result) })
        }
        (None, None, Some(method)) => {
            Ok(Incoming::Event(Event { method, params: raw.params.unwrap_or_default() }))
        }
        (None, None, None) => Err(MessageError::Unknown),
    }
}

fn refusal(error: RawError, message: Option<String>) -> Refusal {
    let (mut code, mut message) = match error {
        RawError::Bidi(code) => (code, message.unwrap_or_default()),
        RawError::Cdp { code, message } => (code.to_string(), message),
    };
    for words in [&mut code, &mut message] {
        words.truncate(words.floor_char_boundary(WORDS_MAX));
    }
    Refusal { code, message }
}

/// A command as it goes out; `session` is the `DevTools` Protocol's, and absent for the browser itself.
pub(super) fn command(id: u64, session: Option<&str>, method: &str, params: &Value) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Command<'a> {
        id: u64,
        method: &'a str,
        params: &'a Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a str>,
    }
    let command = Command { id, method, params, session_id: session };
    serde_json::to_string(&command).expect("a command is plain JSON")
}
