//! The frame layout of `docs/protocol.md`: a length, a JSON header, then raw tensors.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::domain::Body;

/// Length prefix of the header.
const PREFIX: usize = 4;

/// The first tensor starts at a multiple of this, so that a receiver can view it as any element type in place.
pub(super) const ALIGNMENT: usize = 8;

/// An answer's header with its provenance fits.
const HEAD_USUAL: usize = 1024;

/// Bodies over this travel in messages of their own, so that control frames get through in between.
pub const PAYLOAD_MESSAGE_MAX: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a binary frame starts with a 4-byte header length, this one has {len} bytes")]
    Truncated { len: usize },
    #[error("the header length says {header}, but only {rest} bytes follow")]
    HeaderTooLong { header: usize, rest: usize },
    #[error("the header is not UTF-8: {source}")]
    HeaderNotUtf8 { source: std::str::Utf8Error },
    #[error("the header is not JSON: {source}")]
    HeaderNotJson { source: serde_json::Error },
}

/// A binary frame taken apart; both parts share the frame's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    header: Bytes,
    pub body: Bytes,
}

impl Frame {
    pub fn split(frame: &Bytes) -> Result<Self, FrameError> {
        let truncated = FrameError::Truncated { len: frame.len() };
        let (prefix, rest) = frame.split_first_chunk::<PREFIX>().ok_or(truncated)?;
        let header = u32::from_le_bytes(*prefix) as usize;
        if header > rest.len() {
            return Err(FrameError::HeaderTooLong { header, rest: rest.len() });
        }
        let body = PREFIX + header;
        std::str::from_utf8(&rest[..header]).map_err(|source| FrameError::HeaderNotUtf8 { source })?;
        Ok(Self { header: frame.slice(PREFIX..body), body: frame.slice(body..) })
    }

    pub fn header(&self) -> &str {
        std::str::from_utf8(&self.header).expect("split checked the header's UTF-8")
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_str(self.header()).map_err(|source| FrameError::HeaderNotJson { source })
    }
}

/// A header and its body as one binary frame.
pub fn encode<T: Serialize>(header: &T, body: &Body) -> Bytes {
    let mut frame = head(header);
    body.parts().iter().for_each(|part| frame.extend_from_slice(part));
    frame.into()
}

/// What a binary frame holds before its body: the length and the padded header.
pub fn head<T: Serialize>(header: &T) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_USUAL);
    frame.extend_from_slice(&[0; PREFIX]);
    serde_json::to_writer(&mut frame, header).expect("messages hold only strings, numbers and lists");
    frame.resize(frame.len().next_multiple_of(ALIGNMENT), b' ');
    let header = u32::try_from(frame.len() - PREFIX).expect("headers are far below 4 GiB");
    frame[..PREFIX].copy_from_slice(&header.to_le_bytes());
    frame
}

/// The body as messages of at most [`PAYLOAD_MESSAGE_MAX`] bytes, sharing its memory.
pub fn payload_messages(body: &Body) -> impl Iterator<Item = Body> {
    let from = (0..body.len()).step_by(PAYLOAD_MESSAGE_MAX);
    from.map(|from| body.slice(from, PAYLOAD_MESSAGE_MAX.min(body.len() - from)))
}
