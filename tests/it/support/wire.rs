//! The frame layout of `docs/protocol.md`, written a second time so that the daemon's own is not its only witness.

use bytes::Bytes;
use serde_json::Value;

/// A header and its tensors as one binary frame.
pub(crate) fn frame(header: &Value, body: &[u8]) -> Vec<u8> {
    let mut text = header.to_string().into_bytes();
    text.resize((text.len() + 4).next_multiple_of(8) - 4, b' ');
    raw(&text, body)
}

/// Any bytes in the header's place.
pub(crate) fn raw(header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(header.len()).expect("a test's header is small");
    [&length.to_le_bytes(), header, body].concat()
}

pub(crate) fn split(frame: &Bytes) -> (Value, Bytes) {
    let (length, _) = frame.split_first_chunk::<4>().expect("a frame starts with a length");
    let end = 4 + u32::from_le_bytes(*length) as usize;
    assert_eq!(end % 8, 0, "a header is padded so that what follows is aligned");
    let header = serde_json::from_slice(&frame[4..end]).expect("a header is JSON");
    (header, frame.slice(end..))
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}
