//! What must hold for any input whatever. The fuzzer looks for one that breaks it; `tests/it` replays the corpus.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ring::hmac;
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
    token::{self, Claims, LIFE_MAX_S, Rules, TokenKey},
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

/// When tokens of the corpus are good.
const NOW_S: u64 = 1_800_000_000;
const SECRET: &[u8; 32] = b"a secret that has 32 bytes of it";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
     MCowBQYDK2VwAyEA6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=\n-----END PUBLIC KEY-----\n";

/// A token as it comes, or what a signed one would say.
pub(crate) fn jwt(input: &[u8]) {
    let rules = Rules { audience: None, issuer: None };
    let secret = TokenKey::hs256(SECRET).expect("a good secret");
    let public = TokenKey::eddsa(PUBLIC.as_bytes()).expect("a good key");
    let signature = |message: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes()).as_ref().to_vec()
    };
    if let Ok(text) = std::str::from_utf8(input) {
        if let Ok(claims) = token::verify(text, &secret, &rules, NOW_S) {
            let (message, signed) = text.rsplit_once('.').expect("an accepted token has parts");
            assert_eq!(URL_SAFE_NO_PAD.decode(signed).expect("base64"), signature(message));
            believed(&claims);
        }
        if let Ok(claims) = token::verify(text, &public, &rules, NOW_S) {
            believed(&claims);
            assert!(token::verify(text, &secret, &rules, NOW_S).is_err(), "a token is for one key");
        }
    }
    let message = format!("eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.{}", URL_SAFE_NO_PAD.encode(input));
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature(&message)));
    if let Ok(claims) = token::verify(&token, &secret, &rules, NOW_S) {
        believed(&claims);
        // What stands in fields that nobody reads may be anything.
        let said: Said = serde_json::from_slice(input).expect("accepted claims can be read");
        assert!(said.sub == claims.subject && said.exp > (NOW_S - 11) as f64, "{said:?}");
    }
}

#[derive(Debug, serde::Deserialize)]
struct Said {
    sub: String,
    exp: f64,
}

/// An accepted token ends, soon enough, and names somebody.
fn believed(claims: &Claims) {
    assert!(claims.expires_at_s > NOW_S && claims.expires_at_s <= NOW_S + LIFE_MAX_S + 20, "{claims:?}");
    assert!(!claims.subject.is_empty() && claims.subject.len() <= 128, "{claims:?}");
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
