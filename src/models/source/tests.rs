//! Spellings, choices and waits, as tables.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{
    Backoff, Locator, SourceError, Token,
    backoff::{PROGRESS, Tries, WAIT_MAX},
    choose::choose,
    digest::Expected,
    web::{content_range, retry_after},
};

const DIGEST: &str = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn sources_are_written_as_they_are_read() {
    let peer = format!("weft:http://127.0.0.1:9338/neg@{DIGEST}");
    let cases = [
        ("model.onnx", "model"),
        ("./some folder", "some-folder"),
        ("hf:./odd", ""),
        ("https://example.org/models/m.onnx", "m"),
        ("http://127.0.0.1:1/", ""),
        ("hf:owner/name", "name"),
        ("hf:owner/name/onnx/model.onnx", "name"),
        ("hf:owner/name@v1.0/model.onnx", "name"),
        ("hf:owner/name@refs%2Fpr%2F1", "name"),
        ("pypi:silero-vad==6.2.3", "silero-vad"),
        ("pypi:silero-vad==6.2.3+local/silero_vad/data/x.onnx", "silero-vad"),
        ("npm:name@1.2.3-beta.1+b", "name"),
        ("npm:@scope/name@1.2.3/dist/model.onnx", "name"),
        ("weft:http://127.0.0.1:9338/neg", "neg"),
        ("weft:https://far.example/below/neg", "neg"),
        (peer.as_str(), "neg"),
    ];
    for (text, name) in cases {
        match text.parse::<Locator>() {
            Ok(locator) => assert_eq!((locator.to_string(), locator.name()), (text.into(), name.into())),
            Err(error) => assert!(name.is_empty() && text == "hf:./odd", "{text}: {error}"),
        }
    }
    assert_eq!("C:/m.onnx".parse::<Locator>().unwrap(), Locator::Path(PathBuf::from("C:/m.onnx")));
}

#[test]
fn what_may_be_secret_is_neither_written_nor_told() {
    let signed: Locator = "https://example.org/m.onnx?signature=abc#part".parse().unwrap();
    assert_eq!(signed.to_string(), "https://example.org/m.onnx");
    assert!(matches!(&signed, Locator::Web(url) if url.query() == Some("signature=abc")));
    for text in ["https://user:word@example.org/m?signature=abc", "weft:http://user:word@h/neg"] {
        let told = text.parse::<Locator>().unwrap_err().to_string();
        assert!(!told.contains("word@") && !told.contains("abc"), "{told}");
    }
    assert_eq!(format!("{:?}", Token::Text("hf_secret".into())), "Text(…)");
}

#[test]
fn what_is_no_source_is_refused() {
    let long = "x".repeat(2049);
    let cases = [
        "",
        long.as_str(),
        "a\nb",
        "https://",
        "hf:name",
        "hf:../name",
        "hf:owner/..",
        "hf:owner/name@",
        "hf:owner/name@../main",
        "hf:owner/name@main/a//b",
        "hf:owner/name@main/../b",
        "hf:owner/name@main/./b",
        "hf:owner/name@main/a\\b",
        "pypi:name",
        "pypi:name==",
        "pypi:../name==1",
        "pypi:name==1/../x",
        "npm:name",
        "npm:@scope@1",
        "npm:@/name@1",
        "npm:name@1/../../x",
        "weft:neg",
        "weft:ftp://h/neg",
        "weft:http://h/.neg",
        "weft:http://h?q/neg",
        "weft:http://h/neg@123",
    ];
    for text in cases {
        assert!(matches!(text.parse::<Locator>(), Err(SourceError::Malformed { .. })), "{text:?}");
    }
}

#[test]
fn what_is_held_is_found_by_any_spelling_of_it() {
    let hub = "hf:o/n@main/onnx/model.onnx";
    let pinned = format!("hf:o/n@{COMMIT}");
    let peer = format!("weft:http://h:1/neg@{DIGEST}");
    let cases: [(&str, &str, Option<&str>, bool); 15] = [
        (hub, hub, Some(COMMIT), true),
        ("hf:o/n", hub, Some(COMMIT), true),
        ("hf:o/n@main", hub, Some(COMMIT), true),
        (&pinned, hub, Some(COMMIT), true),
        ("hf:o/n@v2", hub, Some(COMMIT), false),
        ("hf:o/n@main/other.onnx", hub, Some(COMMIT), false),
        ("hf:o/m", hub, Some(COMMIT), false),
        ("pypi:p==1", "pypi:p==1/a/m.onnx", Some("1"), true),
        ("pypi:p==2", "pypi:p==1/a/m.onnx", Some("1"), false),
        ("npm:p@1/m.onnx", "pypi:p==1/m.onnx", Some("1"), false),
        ("https://h/m.onnx?signature=2", "https://h/m.onnx", None, true),
        ("weft:http://h:1/neg", "weft:http://h:1/neg", Some(DIGEST), true),
        (&peer, "weft:http://h:1/neg", Some(DIGEST), true),
        (&peer, "weft:http://h:1/neg", Some(COMMIT), false),
        ("pypi:p==1", "PyPI p 1", None, false),
    ];
    for (wanted, source, revision, admitted) in cases {
        let locator: Locator = wanted.parse().unwrap();
        assert_eq!(locator.admits(source, revision), admitted, "{wanted} by {source} {revision:?}");
    }
}

#[test]
fn the_model_is_the_one_that_is_named_or_the_only_one_or_the_usual_one() {
    let cases: [(&[&str], Option<&str>, Result<&str, &str>); 8] = [
        (&["README.md", "a.onnx"], None, Ok("a.onnx")),
        (&["a.onnx", "b.onnx"], Some("b.onnx"), Ok("b.onnx")),
        (&["onnx/model.onnx", "onnx/model_fp16.onnx"], None, Ok("onnx/model.onnx")),
        (&["onnx/model.onnx", "model.onnx"], None, Ok("model.onnx")),
        (&["b.onnx", "a.onnx"], None, Err("x has several models, say which: a.onnx, b.onnx")),
        (&["README.md"], None, Err("x has no .onnx file, and no weights to make one of")),
        (&["a.onnx", "t.json"], Some("c.onnx"), Err("x has no \"c.onnx\"; it has a.onnx")),
        (&["a.onnx", "t.json"], Some("t.json"), Ok("t.json")),
    ];
    for (files, wanted, expected) in cases {
        let files: Vec<_> = files.iter().map(ToString::to_string).collect();
        let chosen = choose("x", &files, wanted).map_err(|error| error.to_string());
        assert_eq!(chosen.as_deref().map_err(String::as_str), expected, "{files:?} {wanted:?}");
    }
}

#[test]
fn headers_are_read_as_their_standards_have_them() {
    let ranges = [
        ("bytes 5-9/10", Some(10)),
        ("bytes 4-9/10", None),
        ("bytes 5-8/10", None),
        ("bytes 5-9/*", None),
        ("bytes */10", None),
        ("items 5-9/10", None),
        ("bytes 5-18446744073709551615/0", None),
    ];
    for (text, total) in ranges {
        assert_eq!(content_range(text, 5), total, "{text}");
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let waits = [
        ("7", Some(7)),
        (" 0 ", Some(0)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
        ("-1", None),
        ("soon", None),
    ];
    for (text, seconds) in waits {
        assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
    }
    let zeros = format!("sha512-{}==", "A".repeat(86));
    let expected = Some(Expected::Sha512(Box::new([0; 64])));
    assert_eq!(Expected::integrity(&format!("sha1-AAAA {zeros}?opt")), expected);
    assert_eq!(Expected::integrity("sha1-AAAA"), None);
    assert_eq!(Expected::integrity("sha512-AAAA"), None);
}

#[test]
fn waits_double_and_differ_within_bounds() {
    let backoff = Backoff { retries: 5, first: Duration::from_secs(1) };
    let cases =
        [(1, 500, 1000), (2, 1000, 2000), (3, 2000, 4000), (8, 60_000, 120_000), (u32::MAX, 60_000, 120_000)];
    for (failures, least, most) in cases {
        assert_eq!(backoff.wait(failures, 0.0).as_millis(), least, "{failures}");
        assert_eq!(backoff.wait(failures, 1.0).as_millis(), most, "{failures}");
    }
}

fn busy(after: u64) -> SourceError {
    SourceError::Status { place: "x".into(), status: 429, after: Some(Duration::from_secs(after)) }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_left_alone_as_long_as_it_asks() {
    let mut tries = Tries::new(Backoff { retries: 2, first: Duration::from_millis(1) });
    let (begin, mut told) = (tokio::time::Instant::now(), Vec::new());
    tries.again(busy(60), 0, |wait, _| told.push(wait)).await.unwrap();
    assert_eq!((begin.elapsed(), told.as_slice()), (Duration::from_secs(60), &[Duration::from_secs(60)][..]));
    // Longer than anybody waits: at once.
    assert!(tries.again(busy(WAIT_MAX.as_secs() + 1), 0, |_, _| panic!("no wait")).await.is_err());
    assert_eq!(begin.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn tries_are_counted_anew_only_when_more_came_than_ever() {
    let mut tries = Tries::new(Backoff { retries: 2, first: Duration::from_millis(1) });
    // How far each try came, and whether another follows.
    let cases = [
        (0, true),
        (PROGRESS, true),
        (2 * PROGRESS, true),
        // Starting over is no progress.
        (PROGRESS, true),
        (2 * PROGRESS, false),
    ];
    for (at, again) in cases {
        assert_eq!(tries.again(busy(0), at, |_, _| {}).await.is_ok(), again, "{at}");
    }
    let gone = SourceError::NotThere { place: "x".into() };
    let mut fresh = Tries::new(Backoff { retries: 2, first: Duration::from_millis(1) });
    assert!(fresh.again(gone, 0, |_, _| panic!("no wait")).await.is_err());
}
