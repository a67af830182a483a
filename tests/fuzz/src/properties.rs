//! What must hold for any input whatever. The fuzzer looks for one that breaks it; `tests/it` replays the corpus.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    domain::{Body, Tensor},
    message::{self, Incoming, WORDS_MAX},
    onnx,
    protocol::{
        client::{ClientMessage, TensorJson, elements, parse_message},
        frame::{self, Frame},
        link::{DaemonToLane, DaemonToPage, Hello, LaneToDaemon, PageToDaemon},
    },
    websocket::{Header, Written, unmask},
};

/// A binary frame, or what a text frame would hold.
pub(crate) fn frame(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    if let Ok(text) = std::str::from_utf8(&input) {
        understood(text, &Bytes::new());
    }
    let Ok(split) = Frame::split(&input) else { return };
    assert_eq!(4 + split.header().len() + split.body.len(), input.len(), "no byte is lost");
    if let Ok(header) = split.parse::<Map<String, Value>>() {
        let again = frame::encode(&header, &Body::from(split.body.clone()));
        let again = Frame::split(&again).expect("what we encode can be split");
        assert_eq!((again.header().len() + 4) % 8, 0, "the body is aligned");
        assert_eq!(again.body, split.body);
        assert_eq!(again.parse::<Map<String, Value>>().expect("what we encode is an object"), header);
    }
    understood(split.header(), &split.body);
}

fn understood(header: &str, body: &Bytes) {
    // Refusing is fine, panicking is not.
    let _ = serde_json::from_str::<Hello>(header);
    let _ = serde_json::from_str::<PageToDaemon>(header);
    let _ = serde_json::from_str::<LaneToDaemon>(header);
    let _ = serde_json::from_str::<DaemonToPage>(header);
    let _ = serde_json::from_str::<DaemonToLane>(header);
    if let Ok(ClientMessage::Infer(infer)) = parse_message(header, body) {
        infer.inputs.iter().for_each(tensor);
    }
}

/// An accepted tensor has the bytes that it says, and survives being told as JSON.
fn tensor(tensor: &Tensor) {
    tensor.check().expect("an accepted tensor fits its shape");
    let told = elements(tensor);
    let data = serde_json::value::to_raw_value(&told).expect("a value is JSON");
    let json = TensorJson { datatype: tensor.datatype, shape: tensor.shape.clone(), data };
    let read = json.tensor(&tensor.name).expect("what we tell we also read");
    assert_eq!(elements(&read), told);
}

/// What a browser says on its control socket.
pub(crate) fn control(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match message::read(text) {
        Ok(Incoming::Answer { outcome: Err(refusal), .. } | Incoming::Complaint(refusal)) => {
            assert!(
                refusal.code.len() <= WORDS_MAX && refusal.message.len() <= WORDS_MAX,
                "it fits an error"
            );
        }
        // Refusing is fine, panicking is not.
        Ok(Incoming::Answer { .. } | Incoming::Event(_)) | Err(_) => {}
    }
}

/// A file that claims to be ONNX.
pub(crate) fn onnx(input: &[u8]) {
    if let Ok(analysis) = onnx::analyse(&Bytes::copy_from_slice(input)) {
        assert!(!analysis.signature.outputs.is_empty(), "a graph without outputs is refused");
        assert_eq!(analysis.ranges.len(), analysis.signature.inputs.len(), "every input has a range");
    }
}

/// What a client sends on its WebSocket: frames behind one another.
pub(crate) fn websocket(mut input: &[u8]) {
    while let Ok(Some((header, taken))) = Header::read(input) {
        for cut in 0..taken {
            assert_eq!(Header::read(&input[..cut]), Ok(None), "{cut} bytes of a header of {taken}");
        }
        let (bytes, rest) = input.split_at(taken);
        assert!(!header.opcode.is_control() || header.last && header.len <= 125, "control frames are short");
        let written = Written::new(header.opcode, header.len as usize);
        let again = [written.bytes(), &header.mask].concat();
        assert_eq!(again.len(), taken, "no header is longer than needed");
        assert!(again[0] & 0x0f == bytes[0] & 0x0f && again[2..] == bytes[2..], "{header:?}");
        let payload = &rest[..rest.len().min(usize::try_from(header.len).unwrap_or(usize::MAX))];
        let mut whole = payload.to_vec();
        unmask(&mut whole, header.mask, 0);
        let cut = payload.len() / 3;
        let mut cut_up = payload.to_vec();
        unmask(&mut cut_up[..cut], header.mask, 0);
        unmask(&mut cut_up[cut..], header.mask, cut);
        assert_eq!(whole, cut_up);
        input = &rest[payload.len()..];
    }
}
