use super::*;
use crate::modality::file_type::{Config, FileTypes};

fn config() -> Value {
    json!({"beg_size": 1024, "mid_size": 0, "end_size": 1024, "use_inputs_at_offsets": false,
        "min_file_size_for_dl": 8, "padding_token": 256, "block_size": 4096, "medium_confidence_threshold": 0.5,
        "target_labels_space": ["csv", "elf", "python", "randomtxt"], "thresholds": {"csv": 0.9},
        "overwrite_map": {"randomtxt": "txt"}})
}

fn kinds() -> Value {
    json!({"csv": {"mime_type": "text/csv", "is_text": true}, "elf": {"mime_type": null, "is_text": false},
        "txt": {"mime_type": "text/plain", "is_text": true}})
}

fn magika() -> Signature {
    signature(&[("bytes", Datatype::Int32, "b 2048")], &[("target_label", "b 4")])
}

fn types() -> Config {
    Config::parse(config().to_string().as_bytes()).unwrap()
}

fn features_of(name: &str) -> Vec<i32> {
    types().features(&fixture(&format!("files/{name}"))).expect("the file is long enough")
}

#[test]
fn features_equal_those_of_the_python_package() {
    let gate: Value = serde_json::from_slice(&fixture("magika.json")).unwrap();
    let expected: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let files = expected["magika"]["gate_files"].as_array().unwrap();
    assert_eq!(gate["inputs"].as_array().map(Vec::len), Some(files.len()));
    for (i, name) in files.iter().enumerate() {
        let name = name.as_str().unwrap();
        assert_eq!(gate["inputs"][i]["bytes"]["data"], json!(features_of(name)), "{name}");
    }
    for (name, answer) in expected["magika"]["files"].as_object().unwrap() {
        let sum: i64 = features_of(name).iter().zip(1..).map(|(v, i)| i64::from(*v) * i).sum();
        assert_eq!(answer["weighted_sum"], json!(sum), "{name}");
    }
}

#[test]
fn both_ends_are_stripped_cut_and_padded() {
    let types = types();
    let long = [vec![b'a'; 3_000], vec![b'b'; 3_000]].concat();
    let features = types.features(&long).unwrap();
    assert!(features[..1024].iter().all(|v| *v == i32::from(b'a')));
    assert!(features[1024..].iter().all(|v| *v == i32::from(b'b')));

    let features = types.features(b" \x0b\n12345678\x0c\r\t").unwrap();
    // Only the front is stripped of the beginning, only the back of the end.
    assert_eq!(features[..12], [49, 50, 51, 52, 53, 54, 55, 56, 12, 13, 9, 256]);
    assert_eq!(features[2036..], [256, 32, 11, 10, 49, 50, 51, 52, 53, 54, 55, 56]);
}

#[test]
fn the_network_is_not_asked_about_a_few_bytes() {
    let companions = companions(&[("config.min.json", config()), ("content_types_kb.min.json", kinds())]);
    let recipe = recipe(&magika(), ModelKind::Other, &companions).unwrap();
    let spaces = [b' '; 5_000];
    let cases: [(&[u8], &str); 5] = [
        (b"", "empty"),
        (b"1234567", "txt"),
        (b"       1234567", "txt"),
        (&spaces, "txt"),
        (b"\xff\xfe\x00", "unknown"),
    ];
    for (file, label) in cases {
        let mut dialogue = recipe.begin(&Input::File(Bytes::copy_from_slice(file))).unwrap();
        let findings = carry(&mut *dialogue, |ask| panic!("{ask:?}")).unwrap();
        let [Finding::FileType { label: told, network: None, .. }] = findings.as_slice() else { panic!() };
        assert_eq!(told, label);
    }
}

/// By the package's rule: a label's own threshold, else the general one; then what is sure, text or not.
#[test]
fn an_unsure_answer_is_told_as_what_is_sure() {
    let companions = companions(&[("config.min.json", config()), ("content_types_kb.min.json", kinds())]);
    let recipe = recipe(&magika(), ModelKind::Other, &companions).unwrap();
    let cases: [([f32; 4], &str, Option<&str>, &str); 6] = [
        ([0.95, 0.05, 0.0, 0.0], "csv", Some("text/csv"), "csv"),
        ([0.85, 0.15, 0.0, 0.0], "txt", Some("text/plain"), "csv"),
        ([0.0, 0.5, 0.25, 0.25], "elf", None, "elf"),
        ([0.1, 0.45, 0.25, 0.2], "unknown", None, "elf"),
        ([0.0, 0.0, 0.0, 1.0], "txt", Some("text/plain"), "randomtxt"),
        ([0.3, 0.0, 0.0, 0.4], "txt", Some("text/plain"), "randomtxt"),
    ];
    for (probabilities, label, mime_type, network) in cases {
        let mut dialogue = recipe.begin(&Input::File(fixture("files/weather.csv"))).unwrap();
        let findings =
            carry(&mut *dialogue, |_| vec![floats("target_label", &[1, 4], &probabilities)]).unwrap();
        let [Finding::FileType { label: told, mime_type: mime, network: Some(said) }] = findings.as_slice()
        else {
            panic!()
        };
        assert_eq!((told.as_str(), mime.as_deref(), said.label.as_str()), (label, mime_type, network));
    }
    let mut dialogue = recipe.begin(&Input::File(fixture("files/weather.csv"))).unwrap();
    let said = carry(&mut *dialogue, |_| vec![floats("y", &[1, 3], &[0.5; 3])]).unwrap_err().to_string();
    assert!(said.contains("3 probabilities for 4 labels"), "{said}");
}

#[test]
fn other_configurations_and_signatures_are_refused() {
    let of = |config: Value, signature: &Signature| {
        let companions = companions(&[("config.min.json", config), ("content_types_kb.min.json", kinds())]);
        FileTypes::new(&companions, signature).unwrap_err().to_string()
    };
    let mut middle = config();
    middle["mid_size"] = json!(4);
    let short = signature(&[("bytes", Datatype::Int32, "b 1024")], &[("target_label", "b 4")]);
    let cases = [
        (of(json!({}), &magika()), "missing field"),
        (of(middle, &magika()), "from elsewhere in a file"),
        (of(config(), &short), "does not take INT32 of [any, 2048]"),
    ];
    for (said, says) in cases {
        assert!(said.contains(says), "{said}");
    }
}
