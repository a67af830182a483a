//! What must hold for any input whatever. The fuzzer looks for one that breaks it; `tests/it` replays the corpus.

use std::{
    collections::{BTreeMap, HashSet},
    io::{Cursor, Write},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ring::hmac;
use serde_json::{Map, Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{
    assembly::{Assembly, Came, Fault, Message, NO_STATUS, NOT_UTF8, PROTOCOL_ERROR},
    domain::{Body, Datatype, Digest, Dim, ModelName, Port, Provenance, RunId, Signature, Tensor, Timing},
    frame::{Header, Opcode, Written, unmask},
    message::{self, Incoming, WORDS_MAX},
    onnx::{
        self, OnnxError,
        convert::checkpoint::{
            Checkpoint, GgufCheckpoint, Stored, TorchCheckpoint,
            safetensors::{Safetensors, shards},
        },
        cut::Whole,
        precision::{Recipe, apply},
    },
    protocol::{
        client::{
            ClientMessage, Posted, TensorJson, Told, elements, encode_posted, parse_message, parse_posted,
            parse_raw,
        },
        frame::{Frame, encode},
        link::{DaemonToLane, DaemonToPage, Hello, LaneToDaemon, PageToDaemon},
    },
    token::{self, Claims, LIFE_MAX_S, Rules, TokenKey},
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
        let again = encode(&header, &Body::from(split.body.clone()));
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

/// The body of a request over HTTP, behind a number: how long its header is, or all ones when none is stated.
pub(crate) fn oip(input: &[u8]) {
    let Some((header, body)) = input.split_first_chunk::<4>() else { return };
    let body = Bytes::copy_from_slice(body);
    match u32::from_le_bytes(*header) {
        0 => SIGNATURES.iter().for_each(|(datatype, dims)| raw(*datatype, dims, &body)),
        u32::MAX => posted(&body, None),
        header => posted(&body, Some(header as usize)),
    }
}

/// Shapes with nothing, one size and more than one size open.
const SIGNATURES: [(Datatype, &[Option<u64>]); 6] = [
    (Datatype::Uint8, &[]),
    (Datatype::Fp32, &[None, Some(4)]),
    (Datatype::Fp16, &[Some(0), None]),
    (Datatype::Bool, &[Some(2), Some(3)]),
    (Datatype::Bytes, &[None]),
    (Datatype::Int64, &[None, None]),
];

fn raw(datatype: Datatype, dims: &[Option<u64>], body: &Bytes) {
    let shape = dims.iter().map(|size| size.map_or(Dim::Free(None), Dim::Fixed)).collect();
    let inputs = vec![Port { name: "x".to_owned(), datatype, shape }];
    let signature = Signature { inputs, outputs: Vec::new() };
    if let Ok(infer) = parse_raw("m".parse().expect("a name"), &signature, body.clone())
        && datatype != Datatype::Bool
    {
        signature.bind(&infer.inputs).expect("an input that is accepted fits its signature");
        let size = infer.inputs[0].body.len();
        assert_eq!(size, body.len() + if datatype == Datatype::Bytes { 4 } else { 0 }, "no byte is lost");
    }
}

/// What is accepted can be sent back, in both forms, and is understood again.
fn posted(body: &Bytes, header: Option<usize>) {
    let model: ModelName = "m".parse().expect("a name");
    let Ok(infer) = parse_posted(model.clone(), body, header) else { return };
    infer.inputs.iter().for_each(tensor);
    let (run, request) = (RunId::new("r"), "q".parse().expect("an id"));
    let provenance = provenance();
    let id = Some(infer.id.as_str());
    let (outputs, timing) = (infer.inputs.as_slice(), Timing::default());
    for binary in [false, true] {
        let told = Told {
            id,
            model: &model,
            outputs,
            run: &run,
            request: &request,
            provenance: &provenance,
            timing,
        };
        let Posted { header, body } = encode_posted(told, |_| binary);
        let mut request: Value = serde_json::from_slice(&header).expect("what we encode is JSON");
        request["inputs"] = request["outputs"].take();
        request["outputs"] = Value::Array(Vec::new());
        request["parameters"] = Value::Object(Map::new());
        let mut again = request.to_string().into_bytes();
        let length = again.len();
        again.extend_from_slice(&body.unwrap_or_default().contiguous());
        let again = parse_posted(model.clone(), &again.into(), Some(length));
        let again = again.expect("what we tell we also read");
        assert_eq!(again.id, infer.id);
        if binary {
            assert_eq!(again.inputs, infer.inputs);
        }
        let elements = |inputs: &[Tensor]| inputs.iter().map(elements).collect::<Vec<_>>();
        assert_eq!(elements(&again.inputs), elements(&infer.inputs));
    }
}

fn provenance() -> Provenance {
    let provenance = json!({
        "instance": "i", "lane": "l", "browser": "b", "browser_version": "1", "backend": "wasm", "placement": {},
        "adapter": null, "software_adapter": false, "webnn_device_requested": null, "sandbox": null, "engine": "e",
        "threads": 1, "model_digest": "0".repeat(64), "verdict": "verified", "plan": "single", "attempt": 1,
        "converted": null, "batch": 1, "fallback": null,
    });
    serde_json::from_value(provenance).expect("a provenance")
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

/// Longest message about a file: its places lie within each other, and each names what a file may call anything.
const TOLD_MAX: usize = 1 << 16;

/// A file that claims to be ONNX. Whatever it is made of, it looks the same from outside.
pub(crate) fn onnx(input: &[u8]) {
    let file = Bytes::copy_from_slice(input);
    let checked = onnx::check(&file, &|_| onnx::Outside::Bytes(64));
    if let Err(OnnxError::Check(wrong)) = &checked {
        assert!(wrong.to_string().len() < TOLD_MAX, "{} bytes", wrong.to_string().len());
    }
    if let Ok(analysis) = onnx::analyse(&file) {
        let Signature { inputs, outputs } = &analysis.signature;
        assert!(!outputs.is_empty(), "a graph without outputs is refused");
        assert_eq!(analysis.ranges.len(), inputs.len(), "every input has a range");
        if checked.is_ok() {
            let names: HashSet<_> = inputs.iter().map(|port| &port.name).collect();
            assert_eq!(names.len(), inputs.len(), "every input has a name of its own");
        }
    }
    // What has not passed the check is measured all the same.
    if let Ok(costs) = onnx::costs(&file) {
        let total = costs.total();
        assert!(total.known <= total.nodes, "{total:?}");
        let sums = [&total.flops, &total.activation_bytes];
        let sizes = [("n".to_owned(), 3), ("batch".to_owned(), 2)].into();
        for expr in sums.into_iter().flatten() {
            assert!(expr.to_string().len() < TOLD_MAX, "{} bytes", expr.to_string().len());
            // Anything or nothing, but no panic.
            let _ = expr.at(&sizes);
        }
    }
}

/// A file that claims to be ONNX, in other precisions: what is written can be read, and is asked as before.
pub(crate) fn precision(input: &[u8]) {
    let file = Bytes::copy_from_slice(input);
    let Ok(analysis) = onnx::analyse(&file) else { return };
    for recipe in ["fp16", "int8-dynamic", "int4,block=16,asymmetric", "int2,block=16"] {
        let recipe = Recipe::parse(recipe).expect("a recipe");
        let Ok(variant) = apply(&file, &BTreeMap::new(), &recipe) else { continue };
        assert!(!variant.report.changed.is_empty(), "a variant without a change is refused");
        let variant = onnx::analyse(&variant.bytes).expect("what is written can be read");
        assert_eq!(variant.signature, analysis.signature, "{recipe}");
    }
}

/// A file that claims to be ONNX, cut wherever it can be: shards are models as good as the whole, and give what it gives.
pub(crate) fn cut(input: &[u8]) {
    let file = Bytes::copy_from_slice(input);
    let Ok(analysis) = onnx::analyse(&file) else { return };
    let sizes = analysis.signature.inputs.iter().flat_map(|port| {
        port.shape.iter().enumerate().filter_map(|(axis, dim)| match dim {
            Dim::Fixed(_) => None,
            Dim::Symbol(name) => Some((name.clone(), 2)),
            Dim::Free(_) => Some((format!("{}[{axis}]", port.name), 2)),
        })
    });
    let whole = match Whole::read(&file, Digest::new([0; 32]), &sizes.collect()) {
        Ok(whole) => whole,
        Err(wrong) => {
            assert!(wrong.to_string().len() < TOLD_MAX, "{} bytes", wrong.to_string().len());
            return;
        }
    };
    whole.chain().check().expect("a good chain");
    let units = whole.chain().units.len();
    let alone: Vec<usize> = (1..units).collect();
    for cut in [vec![], if units > 1 { vec![units / 2] } else { vec![] }, alone] {
        let mut missing: Vec<&str> =
            analysis.signature.outputs.iter().map(|port| port.name.as_str()).collect();
        let mut given: HashSet<&str> =
            analysis.signature.inputs.iter().map(|port| port.name.as_str()).collect();
        for shard in whole.at(&cut).expect("frontiers") {
            let written = shard.bytes();
            onnx::check(&written, &|_| onnx::Outside::Bytes(u64::MAX)).expect("a shard is a good model");
            assert!(shard.inputs().all(|name| given.contains(name)), "what was given before");
            given.extend(shard.outputs());
            missing.retain(|name| shard.outputs().all(|output| output != *name));
        }
        assert!(missing.is_empty(), "{missing:?} at {cut:?}");
    }
}

/// A file that claims to hold weights in GGUF.
pub(crate) fn gguf(input: &[u8]) {
    if let Ok(checkpoint) = GgufCheckpoint::open(&Bytes::copy_from_slice(input)) {
        let config: Map<String, Value> = serde_json::from_str(checkpoint.config()).expect("it is JSON");
        assert!(matches!(config["model_type"].as_str(), Some("llama" | "qwen2")), "{config:?}");
        weights(&checkpoint);
    }
}

/// A file that claims to be a checkpoint of PyTorch's; and the pickle of one whose storages are good.
pub(crate) fn torch(input: &[u8]) {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("m/data.pkl", input), ("m/data/0", &[0; 64]), ("m/data/1", &[0; 4])] {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(name, stored).expect("a member");
        archive.write_all(bytes).expect("its bytes");
    }
    let archive = archive.finish().expect("an archive").into_inner();
    for file in [Bytes::copy_from_slice(input), archive.into()] {
        if let Ok(checkpoint) = TorchCheckpoint::open(&file) {
            assert!(!checkpoint.tensors().is_empty(), "a checkpoint without weights is refused");
            weights(&checkpoint);
        }
    }
}

/// Bytes behind a header that claims to describe them.
const DATA: [u8; 64] = [7; 64];

/// A safetensors file, the header of one whose length is right, or an index of several.
pub(crate) fn safetensors(input: &[u8]) {
    let header = [&(input.len() as u64).to_le_bytes(), input, &DATA].concat();
    for file in [Bytes::copy_from_slice(input), header.into()] {
        if let Ok(checkpoint) = Safetensors::new(&file) {
            weights(&checkpoint);
            apart(&checkpoint, file.len());
            let names = checkpoint.tensors().keys().map(|name| (name, "a"));
            let index = json!({"weight_map": names.collect::<BTreeMap<_, _>>()}).to_string();
            let files = [("a".to_owned(), file)].into();
            let again =
                Safetensors::sharded(index.as_bytes(), &files).expect("its only file has all of them");
            assert_eq!(again.tensors(), checkpoint.tensors());
        }
    }
    if let Ok(files) = shards(input) {
        assert!(files.is_sorted_by(|a, b| a < b), "each file once");
        assert!(files.is_empty() || Safetensors::sharded(input, &BTreeMap::new()).is_err(), "no file came");
    }
}

/// No byte belongs to two weights.
fn apart(checkpoint: &dyn Checkpoint, file: usize) {
    let bytes = |name| checkpoint.bytes(name).expect("checked when it was opened");
    let mut places: Vec<_> = checkpoint
        .tensors()
        .keys()
        .map(|name| bytes(name).as_ptr_range())
        .filter(|at| !at.is_empty())
        .collect();
    places.sort_by_key(|at| at.start);
    assert!(places.is_sorted_by(|a, b| a.end <= b.start), "{places:?}");
    let sum: usize = checkpoint.tensors().keys().map(|name| bytes(name).len()).sum();
    assert!(sum < file, "{sum} of {file} bytes");
}

/// Read no further than this, of a weight that repeats what is stored.
const WEIGHT_BYTES_MAX: usize = 1 << 20;

/// Each weight has as many bytes as its shape says.
fn weights(checkpoint: &dyn Checkpoint) {
    for (name, Stored { element, shape }) in checkpoint.tensors() {
        let size = shape.iter().product::<u64>() as usize * element.width();
        if size <= WEIGHT_BYTES_MAX {
            assert_eq!(checkpoint.bytes(name).expect("checked when it was opened").len(), size, "{name}");
        }
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

/// What a client sends on its WebSocket: frames behind one another, and the messages that they make.
pub(crate) fn websocket(input: &[u8]) {
    headers(input);
    let expected = joined(input);
    for piece in [1, 2, 3, 7, input.len().max(1)] {
        assert_eq!(assembled(input, piece), expected, "in pieces of {piece}");
    }
}

/// Low enough for an input of the fuzzer's to be over it.
const MESSAGE_MAX: usize = 1000;

/// What came, and how it ended: with the code that the other end is told, with none because of a limit, or not yet.
type Read = (Vec<Came>, Option<Option<u16>>);

/// What the reader makes of the input when it comes in pieces.
fn assembled(input: &[u8], piece: usize) -> Read {
    let (mut assembly, mut unread, mut all) = (Assembly::new(MESSAGE_MAX), Vec::new(), Vec::new());
    for piece in input.chunks(piece) {
        unread.extend_from_slice(piece);
        loop {
            let (taken, came) = match assembly.take(&unread) {
                Ok(taken) => taken,
                Err(Fault::Wrong { code, .. }) => return (all, Some(Some(code))),
                Err(Fault::TooBig) => return (all, Some(None)),
            };
            unread.drain(..taken);
            let Some(came) = came else { break };
            all.push(came);
            if let Some(Came::Close { .. }) = all.last() {
                return (all, None);
            }
        }
    }
    (all, None)
}

/// The same, as the protocol's text has it: each frame whole, each message its frames' payloads joined.
fn joined(mut input: &[u8]) -> Read {
    let mut all = Vec::new();
    let mut message: Option<(Opcode, Vec<u8>)> = None;
    let end = loop {
        let Ok(read) = Header::read(input) else { break Some(Some(PROTOCOL_ERROR)) };
        let Some((Header { last, opcode, mask, len }, taken)) = read else { break None };
        if !opcode.is_control() {
            if (opcode == Opcode::Continuation) != message.is_some() {
                break Some(Some(PROTOCOL_ERROR));
            }
            let before = message.as_ref().map_or(0, |(_, bytes)| bytes.len());
            if len > (MESSAGE_MAX - before) as u64 {
                break Some(None);
            }
        }
        let Some(masked) = input[taken..].get(..len as usize) else { break None };
        input = &input[taken + masked.len()..];
        let mut payload = masked.to_vec();
        unmask(&mut payload, mask, 0);
        match opcode {
            Opcode::Ping => all.push(Came::Ping(payload.as_slice().into())),
            Opcode::Pong => {}
            Opcode::Close => match closing(&payload) {
                Ok((code, reason)) => {
                    all.push(Came::Close { code, reason });
                    break None;
                }
                Err(code) => break Some(Some(code)),
            },
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let (opcode, mut whole) = message.take().unwrap_or((opcode, Vec::new()));
                whole.extend(payload);
                match (last, opcode) {
                    (false, _) => message = Some((opcode, whole)),
                    (true, Opcode::Binary) => all.push(Came::Message(Message::Binary(Body::from(whole)))),
                    (true, _) => match String::from_utf8(whole) {
                        Ok(text) => all.push(Came::Message(Message::Text(text))),
                        Err(_) => break Some(Some(NOT_UTF8)),
                    },
                }
            }
        }
    };
    (all, end)
}

fn closing(payload: &[u8]) -> Result<(u16, String), u16> {
    match payload {
        [] => Ok((NO_STATUS, String::new())),
        [_] => Err(PROTOCOL_ERROR),
        [high, low, reason @ ..] => match u16::from_be_bytes([*high, *low]) {
            0..1000 | 1004..1007 | 1015..3000 | 5000.. => Err(PROTOCOL_ERROR),
            code => std::str::from_utf8(reason).map(|text| (code, text.to_owned())).map_err(|_| NOT_UTF8),
        },
    }
}

fn headers(mut input: &[u8]) {
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
