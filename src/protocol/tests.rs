//! The shared frame vectors, and tensor elements as JSON.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    client::{ClientMessage, Parameters, TensorJson, elements, parse_message},
    frame::{self, Frame, FrameError, PAYLOAD_MESSAGE_MAX},
    link::LaneToDaemon,
};
use crate::domain::{Body, Datatype, LaneMemory, Sequence, SequenceId};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    frame_hex: String,
    header: Option<Value>,
    body_hex: Option<String>,
    #[serde(default)]
    canonical: bool,
    error: Option<String>,
}

fn bytes(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_shared_vector_passes() {
    let text = include_str!("../../fixtures/protocol/frames.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    assert!(vectors.len() >= 40, "{} vectors", vectors.len());
    for Vector { name, frame_hex, header, body_hex, canonical, error } in vectors {
        let whole = bytes(&frame_hex);
        let decoded = Frame::split(&whole).and_then(|frame| {
            let header = frame.parse::<Map<String, Value>>()?;
            Ok((Value::Object(header), frame.body))
        });
        match decoded {
            Ok((found, body)) => {
                assert_eq!(Some(&found), header.as_ref(), "{name}");
                assert_eq!(body, bytes(&body_hex.unwrap()), "{name}");
                let again = frame::encode(&found, &Body::from(body));
                assert_eq!(canonical.then_some(again), canonical.then_some(whole), "{name}");
            }
            Err(found) => {
                let found = match found {
                    FrameError::Truncated { .. } => "truncated",
                    FrameError::HeaderTooLong { .. } => "header_too_long",
                    FrameError::HeaderNotUtf8 { .. } => "header_not_utf8",
                    FrameError::HeaderNotJson { .. } => "header_not_json",
                };
                assert_eq!(Some(found), error.as_deref(), "{name}");
            }
        }
    }
}

#[test]
fn large_bodies_are_cut_into_messages() {
    let cases = [
        (vec![], vec![]),
        (vec![1], vec![1]),
        (vec![PAYLOAD_MESSAGE_MAX], vec![PAYLOAD_MESSAGE_MAX]),
        (vec![PAYLOAD_MESSAGE_MAX + 1], vec![PAYLOAD_MESSAGE_MAX, 1]),
        (vec![3, 2 * PAYLOAD_MESSAGE_MAX, 4], vec![PAYLOAD_MESSAGE_MAX, PAYLOAD_MESSAGE_MAX, 7]),
    ];
    for (parts, wanted) in cases {
        let mut body = Body::default();
        for len in &parts {
            body.push(vec![7; *len].into());
        }
        let cut: Vec<_> = frame::payload_messages(&body).map(|part| part.len()).collect();
        assert_eq!(cut, wanted, "{parts:?}");
    }
}

fn read(datatype: &str, shape: &[u64], data: &Value) -> Result<Value, String> {
    let json: TensorJson =
        serde_json::from_value(json!({"datatype": datatype, "shape": shape, "data": data})).unwrap();
    json.tensor("x").map(|tensor| elements(&tensor))
}

#[test]
fn elements_come_back_as_they_went() {
    let flat = [
        ("BOOL", json!([true, false])),
        ("UINT8", json!([0, 255])),
        ("INT8", json!([-128, 127])),
        ("UINT16", json!([65535])),
        ("INT16", json!([-32768])),
        ("UINT32", json!([u32::MAX])),
        ("INT32", json!([i32::MIN])),
        ("UINT64", json!([u64::MAX])),
        ("INT64", json!([i64::MIN, i64::MAX])),
        ("FP16", json!([0.5, 65504.0, "NaN", "Infinity", "-Infinity"])),
        ("BF16", json!([1.0, "NaN"])),
        ("FP32", json!([-0.0, "NaN", "Infinity", "-Infinity"])),
        // The nearest doubles, which a parser that is one digit off would miss.
        ("FP64", json!([0.1, 8.5e-93, 5e-324, 1.797_693_134_862_315_7e308, "NaN"])),
        ("BYTES", json!(["", "ü", "a\u{0}b"])),
        ("FP32", json!([])),
    ];
    for (datatype, data) in flat {
        let shape = [data.as_array().unwrap().len() as u64];
        assert_eq!(read(datatype, &shape, &data), Ok(data.clone()), "{datatype}");
    }
    assert_eq!(read("INT8", &[2, 2], &json!([[1, 2], [3, 4]])), Ok(json!([1, 2, 3, 4])));
    assert_eq!(read("FP32", &[2], &json!([1, -2])), Ok(json!([1.0, -2.0])));
}

#[test]
fn elements_that_do_not_fit_are_refused() {
    let mut deep = json!([1]);
    for _ in 0..16 {
        deep = json!([deep]);
    }
    let cases = [
        ("UINT8", json!([256]), "256 does not fit UINT8"),
        ("UINT8", json!([-1]), "-1 does not fit UINT8"),
        ("INT64", json!([9_223_372_036_854_775_808_u64]), "does not fit INT64"),
        ("INT32", json!([1.5]), "1.5 is no INT32"),
        ("INT32", json!([true]), "true is no INT32"),
        ("BOOL", json!([1]), "1 is no BOOL"),
        ("FP32", json!(["nan"]), "\"nan\" is no FP32"),
        ("INT32", json!(["NaN"]), "NaN is no INT32"),
        ("BYTES", json!([1]), "1 is no BYTES"),
        ("FP32", json!([1e300]), "1e300 does not fit FP32"),
        ("FP32", json!([-3.5e38]), "-3.5e38 does not fit FP32"),
        ("FP16", json!([70_000]), "7e4 does not fit FP16"),
        ("BF16", json!([3.4e38]), "does not fit BF16"),
        ("FP32", json!([null]), "invalid type: null"),
        ("FP32", json!([{}]), "invalid type: map"),
        ("FP32", json!([1, 2]), "takes 4 bytes, 8 came"),
        ("FP32", deep, "nested more than 16 deep"),
    ];
    for (datatype, data, says) in cases {
        let refused = read(datatype, &[1], &data).unwrap_err();
        assert!(refused.contains(says), "{says}: {refused}");
    }
}

#[test]
fn bytes_that_are_no_text_are_told_as_well_as_can_be() {
    let header = json!({"type": "infer", "id": "r", "model_name": "m", "inputs": [
        {"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        {"name": "b", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}]});
    let body = Bytes::from_static(b"\x01\0\0\0\xff\x01\0");
    let Ok(ClientMessage::Infer(infer)) = parse_message(&header.to_string(), &body) else {
        panic!("a good request")
    };
    assert_eq!(infer.inputs[1].datatype, Datatype::Bool);
    let told: Vec<_> = infer.inputs.iter().map(elements).collect();
    assert_eq!(told, [json!(["\u{fffd}"]), json!([true, false])]);
}

#[test]
fn a_lane_says_what_it_holds_in_bytes() {
    let memory = |message: &str| match serde_json::from_str(message) {
        Ok(LaneToDaemon::Memory(memory) | LaneToDaemon::Loaded { grown: memory, .. }) => Ok(memory),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    };
    let told = LaneMemory { wasm_bytes: 1 << 32, gpu_bytes: 5 };
    let cases = [
        (r#"{"type":"memory","wasm_bytes":4294967296,"gpu_bytes":5}"#, Ok(told)),
        (
            r#"{"type":"loaded","id":1,"placement":{"wasm":1},"inputs":[],"outputs":[],"timing_us":{"fetch":1},
                "fetched_bytes":{"network":7,"cache":0},"grown":{"wasm_bytes":4294967296,"gpu_bytes":5}}"#,
            Ok(told),
        ),
        (r#"{"type":"memory","wasm_bytes":-1,"gpu_bytes":5}"#, Err("invalid value: integer `-1`")),
        (r#"{"type":"memory","wasm_bytes":1.5,"gpu_bytes":5}"#, Err("invalid type: floating point")),
        (r#"{"type":"memory","wasm_bytes":1}"#, Err("missing field `gpu_bytes`")),
        (r#"{"type":"loaded","id":1,"placement":{},"timing_us":{}}"#, Err("missing field `fetched_bytes`")),
    ];
    for (message, wanted) in cases {
        match (memory(message), wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{message}"),
            (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{message}: {found}"),
            (found, wanted) => panic!("{message}: {found:?} instead of {wanted:?}"),
        }
    }
}

#[test]
fn a_sequence_is_named_by_a_number_or_a_text() {
    let sequence = |id, start, end| Ok(Some(Sequence { id, start, end }));
    let (number, text) = (SequenceId::Number(7), SequenceId::Text("seven".to_owned()));
    let long = "s".repeat(129);
    let cases = [
        (json!({}), Ok(None)),
        (json!({"sequence_id": 0}), Ok(None)),
        (json!({"sequence_id": ""}), Ok(None)),
        (json!({"sequence_id": 7}), sequence(number.clone(), false, false)),
        (json!({"sequence_id": "seven", "sequence_start": true}), sequence(text, true, false)),
        (
            json!({"sequence_id": 7, "sequence_start": true, "sequence_end": true}),
            sequence(number, true, true),
        ),
        (json!({"sequence_id": &long[1..]}), sequence(SequenceId::Text(long[1..].to_owned()), false, false)),
        (json!({"sequence_id": long}), Err("at most 128 bytes")),
        (json!({"sequence_start": true}), Err("need a sequence_id")),
        (json!({"sequence_id": 0, "sequence_end": true}), Err("need a sequence_id")),
    ];
    for (parameters, wanted) in cases {
        let parsed: Parameters = serde_json::from_value(parameters.clone()).unwrap();
        match (parsed.sequence(), wanted) {
            (found, Ok(wanted)) => assert_eq!(found.unwrap(), wanted, "{parameters}"),
            (found, Err(says)) => assert!(found.unwrap_err().message.contains(says), "{parameters}"),
        }
    }
    for unfit in [json!(-1), json!(1.5), json!([1])] {
        let parsed = serde_json::from_value::<Parameters>(json!({"sequence_id": unfit}));
        assert!(parsed.is_err(), "{unfit}");
    }
}
