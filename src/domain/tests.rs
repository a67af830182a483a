//! Names, digests, tensors and signatures: what is taken and what is refused.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use bytes::Bytes;

use super::{
    BackendKind, Body, Code, Datatype, Digest, Dim, DimBinding, Failure, ModelName, Port, Retry, Signature,
    Tensor,
};

fn tensor(name: &str, datatype: Datatype, shape: &[u64], bytes: &[u8]) -> Tensor {
    Tensor { name: name.to_owned(), datatype, shape: shape.to_vec(), body: bytes.to_vec().into() }
}

#[test]
fn names_are_checked_where_they_come_in() {
    let long = "m".repeat(129);
    let models = [
        ("silero-vad", true),
        ("org.family_8B-int4", true),
        ("", false),
        (".hidden", false),
        ("../up", false),
        ("a b", false),
        ("ü", false),
        (&long, false),
        (&long[1..], true),
    ];
    for (text, good) in models {
        assert_eq!(text.parse::<ModelName>().is_ok(), good, "{text}");
    }
    let backends = [
        ("wasm", Some(BackendKind::Wasm)),
        ("webgpu", Some(BackendKind::Webgpu)),
        ("webnn", Some(BackendKind::Webnn)),
        ("weft-wgsl", Some(BackendKind::WeftWgsl)),
        ("weft-wasm", Some(BackendKind::WeftWasm)),
        ("wgpu", Some(BackendKind::Wgpu)),
        ("ort-cpu", Some(BackendKind::ort_cpu())),
        ("ort-", None),
        ("ort-CUDA", None),
        ("cuda", None),
        ("WASM", None),
    ];
    for (text, wanted) in backends {
        let parsed = text.parse::<BackendKind>().ok();
        assert_eq!(parsed, wanted, "{text}");
        if let Some(kind) = parsed {
            assert_eq!(kind.to_string(), text);
        }
    }
    let hex = "0123456789abcdef".repeat(4);
    assert_eq!(hex.parse::<Digest>().unwrap().to_string(), hex);
    for wrong in [&hex[1..], &hex.to_uppercase(), &hex.replace('0', "g"), &hex.replace("01", "ü")] {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
}

#[test]
fn codes_are_spelt_alike_everywhere() {
    for code in [Code::InvalidRequest, Code::LaneLost, Code::OutOfMemory, Code::TooLarge, Code::Internal] {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
    let failure = Failure::new(Code::NoBackend, Retry::Elsewhere, "why");
    let told = serde_json::json!({"code": "no_backend", "message": "why", "retry": "elsewhere"});
    assert_eq!(
        (serde_json::to_value(&failure).unwrap(), failure.to_string()),
        (told, "no_backend: why".to_owned())
    );
}

#[test]
fn bodies_are_cut_across_their_parts() {
    let mut body = Body::default();
    for part in ["abc", "", "de", "fghi"] {
        body.push(Bytes::from_static(part.as_bytes()));
    }
    assert_eq!((body.len(), body.parts().len()), (9, 3));
    for from in 0..=9 {
        for len in 0..=9 - from {
            assert_eq!(body.slice(from, len).contiguous(), b"abcdefghi"[from..from + len], "{from} {len}");
        }
    }
    assert_eq!(body, Body::from(b"abcdefghi".to_vec()));
    assert_ne!(body, Body::from(b"abcdefghj".to_vec()));
}

type Given<'a> = (Datatype, &'a [u64], &'a [u8]);

#[test]
fn a_tensor_has_the_bytes_that_its_shape_says() {
    let (fp32, bytes) = (Datatype::Fp32, Datatype::Bytes);
    let cases: [(Given<'_>, Option<&str>); 14] = [
        ((fp32, &[2], &[0; 8]), None),
        ((fp32, &[], &[0; 4]), None),
        ((fp32, &[0, 7], &[]), None),
        ((fp32, &[2], &[0; 7]), Some("takes 8 bytes, 7 came")),
        ((fp32, &[u64::MAX, 2], &[]), Some("more elements")),
        ((fp32, &[1 << 62], &[]), Some("more elements")),
        ((Datatype::Bool, &[2], &[0, 1]), None),
        ((Datatype::Bool, &[2], &[1, 2]), Some("a BOOL is 0 or 1, 2 came")),
        ((bytes, &[2], b"\x01\0\0\0a\0\0\0\0"), None),
        ((bytes, &[0], b""), None),
        ((bytes, &[1], b"\x02\0\0\0a"), Some("points beyond")),
        ((bytes, &[2], b"\x01\0\0\0a"), Some("end early")),
        ((bytes, &[1], b"\x01\0\0\0ab"), Some("left over")),
        ((bytes, &[u64::MAX], b""), Some("end early")),
    ];
    for ((datatype, shape, data), wrong) in cases {
        let checked = tensor("x", datatype, shape, data).check().map_err(|error| error.to_string());
        match wrong {
            None => assert_eq!(checked, Ok(()), "{datatype} {shape:?}"),
            Some(says) => assert!(checked.as_ref().is_err_and(|error| error.contains(says)), "{checked:?}"),
        }
    }
}

#[test]
fn requests_are_bound_to_the_signature() {
    let port = |name: &str, shape: &[Dim]| Port {
        name: name.into(),
        datatype: Datatype::Uint8,
        shape: shape.to_vec(),
    };
    let symbol = || Dim::Symbol("n".to_owned());
    let signature = Signature {
        inputs: vec![port("a", &[symbol(), Dim::Fixed(2)]), port("b", &[symbol(), Dim::Free(None)])],
        outputs: vec![port("y", &[])],
    };
    let of = |name: &str, shape: &[u64]| {
        tensor(name, Datatype::Uint8, shape, &vec![0; shape.iter().product::<u64>() as usize])
    };
    let (a, b) = (of("a", &[3, 2]), of("b", &[3, 9]));
    let bound = signature.bind(&[b.clone(), a.clone()]).unwrap();
    assert_eq!(bound, DimBinding::from([("n".to_owned(), 3)]));
    let cases = [
        (vec![a.clone()], "input \"b\" is missing"),
        (vec![a.clone(), b.clone(), a.clone()], "given twice"),
        (vec![a.clone(), b.clone(), of("c", &[1])], "no input \"c\"; it has \"a\", \"b\""),
        (vec![of("a", &[3, 3]), b.clone()], "the model wants [n, 2]"),
        (vec![a.clone(), of("b", &[4, 9])], "the model wants [n, any]"),
        (vec![a.clone(), of("b", &[3])], "has shape [3]"),
        (vec![a, tensor("b", Datatype::Int8, &[3, 1], &[0; 3])], "is INT8, the model wants UINT8"),
    ];
    for (inputs, says) in cases {
        let failure = signature.bind(&inputs).unwrap_err();
        assert_eq!((failure.code, failure.retry), (Code::InvalidRequest, Retry::Never));
        assert!(failure.message.contains(says), "{says}: {failure}");
    }
    assert!(signature.check_outputs(&["y".to_owned()]).is_ok());
    assert!(signature.check_outputs(&["z".to_owned()]).unwrap_err().message.contains("it has \"y\""));
}
