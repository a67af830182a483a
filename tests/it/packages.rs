//! Models from hubs, packages and other wefts, as local servers have them.

use std::io::{Cursor, Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use weft::models::source::Token;
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::{
    access::guarded,
    downloads::{daemon, digest, download, ended, failed, is_done},
    support::{Heard, Origin, Said, TestDaemon, blobs, graphs},
};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files of this many bytes are refused.
const LIMIT: u64 = 100_000;

pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, body) in members {
        zip.start_file(*name, SimpleFileOptions::default()).expect("a member");
        zip.write_all(body).expect("room in memory");
    }
    zip.finish().expect("room in memory").into_inner()
}

/// With names as they are, also those that no packer writes.
pub(crate) fn tarball(members: &[(&str, &[u8])]) -> Vec<u8> {
    tarball_as(Compression::fast(), members)
}

fn tarball_as(compression: Compression, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), compression));
    for (name, body) in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(body.len() as u64);
        header.set_cksum();
        tar.append(&header, *body).expect("room in memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("room in memory")
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 4;
    bytes
}

/// A package index with one wheel, of which it promises what `promise` makes of it.
pub(crate) async fn index(wheel: Vec<u8>, promise: impl Fn(&mut Value) + Send + Sync + 'static) -> Origin {
    Origin::start(move |heard: &Heard, _| match heard.path.as_str() {
        "/pypi/pkg/1.0/json" => {
            let host = heard.header("host").expect("a host");
            let file = |name: &str, kind: &str| {
                let url = format!("http://{host}/files/{name}");
                let digests = json!({"sha256": digest(&wheel)});
                json!({"filename": name, "packagetype": kind, "url": url, "size": wheel.len(), "digests": digests})
            };
            let mut urls = json!([
                file("pkg-1.0.tar.gz", "sdist"),
                file("pkg-1.0-cp312-cp312-linux_x86_64.whl", "bdist_wheel"),
                file("pkg-1.0-py3-none-any.whl", "bdist_wheel"),
            ]);
            promise(&mut urls[2]);
            Said::json(&json!({"info": {}, "urls": urls}))
        }
        "/files/pkg-1.0-py3-none-any.whl" => Said::good(heard, &wheel, "\"w\""),
        _ => Said::status("404 Not Found"),
    })
    .await
}

async fn with_index(origin: &Origin) -> TestDaemon {
    let url = origin.url.parse().expect("an address");
    daemon(|settings| (settings.pypi, settings.download_max) = (url, LIMIT)).await
}

#[tokio::test]
async fn a_wheel_gives_the_model_in_it() {
    let neg = graphs::neg();
    let origin = index(zip(&[("pkg/__init__.py", b""), ("pkg/data/neg.onnx", &neg)]), |_| {}).await;
    let daemon = with_index(&origin).await;
    for source in ["pypi:pkg==1.0", "pypi:pkg==1.0/pkg/data/neg.onnx"] {
        let done = download(&daemon, source).await;
        is_done(&done, &neg);
        assert_eq!(done["source"], "pypi:pkg==1.0/pkg/data/neg.onnx");
        assert_eq!(done["revision"], "1.0");
    }
    let missing = download(&daemon, "pypi:pkg==1.0/pkg/other.onnx").await;
    failed(&missing, "invalid_request", "never", "has no \"pkg/other.onnx\"; it has pkg/data/neg.onnx");
    failed(&download(&daemon, "pypi:pkg==2.0").await, "invalid_request", "never", "is not there (404)");
    // The wheel was good and only the path was not, so it does not come again.
    let files = || origin.heard().iter().filter(|heard| heard.path.starts_with("/files/")).count();
    assert_eq!(files(), 3);
    is_done(&download(&daemon, "pypi:pkg==1.0").await, &neg);
    assert_eq!(files(), 3);
    clean_of_parts(&daemon, "nothing of an archive stays");
}

#[tokio::test]
async fn wheels_that_are_not_what_they_should_be_are_refused_by_name() {
    let neg = graphs::neg();
    let zeros = vec![0; 1 << 20];
    let good = zip(&[("neg.onnx", &neg)]);
    let mut lies = zip(&[("neg.onnx", &zeros)]);
    // The size in the member's own head, and in the list at the end.
    let honest = (1u32 << 20).to_le_bytes();
    for at in (0..lies.len() - 4).filter(|at| lies[*at..*at + 4] == honest).collect::<Vec<_>>() {
        lies[at..at + 4].copy_from_slice(&9u32.to_le_bytes());
    }
    let mut huge = good.clone();
    let end = huge.len() - 22;
    huge[end + 12..end + 16].copy_from_slice(&u32::MAX.to_le_bytes());
    // Renamed in place, since a packer refuses to write it.
    let out = |name: &str| {
        let mut bytes = zip(&[("xx/evil.onnx", &neg), ("neg.onnx", &neg)]);
        let from = b"xx/evil.onnx";
        for at in
            (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect::<Vec<_>>()
        {
            bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
        bytes
    };
    let (cut, flipped) = (good[..good.len() / 2].to_vec(), flipped(&good, 30 + "neg.onnx".len() + 9));
    let (two, none) = (zip(&[("a.onnx", &neg), ("b.onnx", &neg)]), zip(&[("a.txt", b"")]));
    let cases: [(&str, Vec<u8>, &str, &str); 10] = [
        ("a bomb", zip(&[("neg.onnx", &zeros)]), "too_large", "more than 100000 bytes come out of it"),
        ("a bomb that lies", lies, "source_unavailable", "is not readable"),
        ("an endless list", huge, "too_large", "bytes of names come out of it"),
        ("a way out", out("../evil.onnx"), "source_unavailable", "\"../evil.onnx\", which leads out of it"),
        ("a root", out("/x/evil.onnx"), "source_unavailable", "\"/x/evil.onnx\", which leads out of it"),
        ("half a zip", cut, "source_unavailable", "does not end as a zip does"),
        ("a changed bit", flipped, "source_unavailable", "is not readable"),
        ("no zip", b"x".repeat(100), "source_unavailable", "does not end as a zip does"),
        ("two models", two, "invalid_request", "several models, say which: a.onnx, b.onnx"),
        ("no model", none, "invalid_request", "has no .onnx file"),
    ];
    for (case, wheel, code, says) in cases {
        let origin = index(wheel, |_| {}).await;
        let daemon = with_index(&origin).await;
        failed(&download(&daemon, "pypi:pkg==1.0").await, code, "never", says);
        assert_eq!(origin.count(), 2, "{case}");
        assert!(blobs(&daemon.home.path().join("models")).is_empty(), "{case}");
        if code != "invalid_request" {
            clean(&daemon, case);
        }
    }
}

/// Nothing of what was refused is kept, and nothing got out.
#[track_caller]
fn clean(daemon: &TestDaemon, case: &str) {
    assert!(blobs(&daemon.home.path().join("models")).is_empty(), "{case}");
    clean_of_parts(daemon, case);
    assert!(!daemon.home.path().join("evil.onnx").exists(), "{case}");
}

#[track_caller]
fn clean_of_parts(daemon: &TestDaemon, case: &str) {
    let there: Vec<_> = std::fs::read_dir(daemon.home.path().join("downloads")).expect("a folder").collect();
    assert!(there.is_empty(), "{case}: {there:?}");
}

#[tokio::test]
async fn what_an_index_promises_is_checked_once() {
    type Promise = fn(&mut Value);
    let wheel = zip(&[("neg.onnx", &graphs::neg())]);
    let cases: [(Promise, usize, &str); 4] = [
        (|file| file["digests"]["sha256"] = json!("0".repeat(64)), 2, "was promised"),
        (|file| file["size"] = json!(7), 2, "7 were promised"),
        (|file| file["size"] = json!(LIMIT + 1), 1, "over the limit"),
        (|file| file["url"] = json!("ftp://host/file"), 1, "it leads to ftp:"),
    ];
    for (promise, asked, says) in cases {
        let origin = index(wheel.clone(), promise).await;
        let daemon = with_index(&origin).await;
        let code = if says.contains("limit") { "too_large" } else { "source_unavailable" };
        failed(&download(&daemon, "pypi:pkg==1.0").await, code, "never", says);
        assert_eq!(origin.count(), asked, "{says}");
        clean(&daemon, says);
    }
}

/// A registry with one tarball, of which it states this integrity.
pub(crate) async fn registry(tarball: Vec<u8>, integrity: Option<String>) -> Origin {
    Origin::start(move |heard: &Heard, _| match heard.path.as_str() {
        "/@scope%2Fpkg/1.0.0" => {
            let tarball = format!("http://{}/pkg-1.0.0.tgz", heard.header("host").expect("a host"));
            Said::json(&json!({"dist": {"tarball": tarball, "integrity": integrity, "shasum": "0"}}))
        }
        "/pkg-1.0.0.tgz" => Said::good(heard, &tarball, "\"t\""),
        _ => Said::status("404 Not Found"),
    })
    .await
}

pub(crate) fn integrity(bytes: &[u8]) -> String {
    format!("sha512-{}", BASE64_STANDARD.encode(Sha512::digest(bytes)))
}

async fn with_registry(origin: &Origin) -> TestDaemon {
    let url = origin.url.parse().expect("an address");
    daemon(|settings| (settings.npm, settings.download_max) = (url, LIMIT)).await
}

#[tokio::test]
async fn a_tarball_gives_the_model_in_it() {
    let neg = graphs::neg();
    let bytes = tarball(&[("package/package.json", b"{}"), ("package/dist/neg.onnx", &neg)]);
    let origin = registry(bytes.clone(), Some(integrity(&bytes))).await;
    let daemon = with_registry(&origin).await;
    for source in ["npm:@scope/pkg@1.0.0", "npm:@scope/pkg@1.0.0/dist/neg.onnx"] {
        let done = download(&daemon, source).await;
        is_done(&done, &neg);
        assert_eq!(done["source"], "npm:@scope/pkg@1.0.0/dist/neg.onnx");
        assert_eq!(done["revision"], "1.0.0");
    }
}

#[tokio::test]
async fn tarballs_that_are_not_what_they_should_be_are_refused_by_name() {
    let neg = graphs::neg();
    let zeros = vec![0; 1 << 21];
    let good = tarball(&[("package/neg.onnx", &neg)]);
    let mut long = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut record = tar::Header::new_gnu();
    record.set_entry_type(tar::EntryType::GNULongName);
    record.set_size(zeros.len() as u64);
    record.set_cksum();
    long.append(&record, zeros.as_slice()).expect("room in memory");
    let long = long.into_inner().and_then(GzEncoder::finish).expect("room in memory");
    let right = |bytes: &[u8]| Some(integrity(bytes));
    let bomb = tarball(&[("package/zeros", &zeros), ("package/neg.onnx", &neg)]);
    let out = tarball(&[("package/../../evil.onnx", &neg), ("package/neg.onnx", &neg)]);
    let cut = good[..good.len() - 12].to_vec();
    // Of what is not compressed the tar itself would not tell; it lies behind gzip's head, a block's and the member's.
    let stored = tarball_as(Compression::none(), &[("package/neg.onnx", &neg)]);
    let flipped = flipped(&stored, 10 + 5 + 512 + 9);
    let cases: [(&str, Vec<u8>, Option<String>, &str, &str); 9] = [
        ("a bomb", bomb.clone(), right(&bomb), "too_large", "more than 100000 bytes come out of it"),
        ("a long name", long.clone(), right(&long), "too_large", "bytes of a name come out of it"),
        ("a way out", out.clone(), right(&out), "source_unavailable", "which leads out of it"),
        ("a cut one", cut.clone(), right(&cut), "source_unavailable", "is not readable"),
        ("a changed bit", flipped.clone(), right(&flipped), "source_unavailable", "is not readable"),
        ("no gzip", b"x".repeat(99), right(&b"x".repeat(99)), "source_unavailable", "is not readable"),
        ("others' bytes", good.clone(), right(b"others"), "source_unavailable", "has sha512"),
        ("a sha1 alone", good.clone(), Some("sha1-AAAA".into()), "source_unavailable", "states no sha512"),
        ("no integrity", good, None, "source_unavailable", "states no sha512"),
    ];
    for (case, bytes, integrity, code, says) in cases {
        let origin = registry(bytes, integrity).await;
        let daemon = with_registry(&origin).await;
        failed(&download(&daemon, "npm:@scope/pkg@1.0.0").await, code, "never", says);
        assert_eq!(origin.count(), if says.contains("states") { 1 } else { 2 }, "{case}");
        clean(&daemon, case);
    }
}

/// A hub with one private repository, whose file lies elsewhere.
pub(crate) async fn hub(sha256: String) -> (Origin, Origin) {
    let storage = Origin::start(|heard, _| Said::good(heard, &graphs::neg(), "\"s\"")).await;
    let to = format!("{}/bytes?signature=abc", storage.url);
    let hub = Origin::start(move |heard: &Heard, before| {
        if heard.header("authorization") != Some("Bearer hf_secret") {
            return Said::status("401 Unauthorized");
        }
        let file = format!("/owner/neg/resolve/{COMMIT}/onnx/model.onnx");
        let revision = heard.path.strip_prefix("/api/models/owner/neg/revision/");
        match revision.and_then(|rest| rest.strip_suffix("?blobs=true")).unwrap_or(&heard.path) {
            "main" if before == 0 => Said::status("503 Service Unavailable"),
            "main" | "refs%2Fpr%2F1" | COMMIT => {
                let lfs = json!({"sha256": sha256, "size": graphs::neg().len()});
                let model = json!({"rfilename": "onnx/model.onnx", "size": graphs::neg().len(), "lfs": lfs});
                let other = json!({"rfilename": "onnx/model_q4.onnx", "size": 1, "lfs": lfs});
                Said::json(&json!({"sha": COMMIT, "siblings": [{"rfilename": "README.md"}, model, other]}))
            }
            path if path == file => Said::leads(&to),
            _ => Said::status("404 Not Found"),
        }
    });
    (hub.await, storage)
}

async fn with_hub(hub: &Origin, token: Option<&str>) -> TestDaemon {
    daemon(|settings| {
        settings.hub = hub.url.parse().expect("an address");
        let token = token.map(|token| (hub.url.clone(), Token::Text(token.to_owned())));
        settings.tokens.extend(token);
    })
    .await
}

#[tokio::test]
async fn a_hub_gives_the_file_of_a_commit_to_who_may_have_it() {
    let neg = graphs::neg();
    let (hub, storage) = hub(digest(&neg)).await;
    let daemon = with_hub(&hub, Some("hf_secret")).await;
    for source in ["hf:owner/neg", "hf:owner/neg@main/onnx/model.onnx", "hf:owner/neg@refs%2Fpr%2F1"] {
        let done = download(&daemon, source).await;
        is_done(&done, &neg);
        assert_eq!(done["revision"], COMMIT, "{source}");
    }
    assert!(storage.heard().iter().all(|heard| heard.header("authorization").is_none()));
    let done = download(&daemon, "hf:owner/neg@main").await;
    let (status, model) =
        daemon.post("/api/v1/models", json!({"name": "neg", "download": done["id"]}).to_string()).await;
    assert_eq!(status, 200, "{model}");
    assert_eq!(
        (&model["source"], &model["revision"]),
        (&json!("hf:owner/neg@main/onnx/model.onnx"), &json!(COMMIT))
    );
    let (before, pinned) = (hub.count(), format!("hf:owner/neg@{COMMIT}"));
    is_done(&ended(&daemon, &json!({"source": pinned, "offline": true})).await, &neg);
    assert_eq!(hub.count(), before, "offline asks nobody");
    let told = daemon.get("/api/v1/downloads").await.to_string();
    assert!(!told.contains("hf_secret") && !told.contains("signature"), "{told}");
}

#[tokio::test]
async fn a_hub_refuses_who_may_not_have_it_and_wrong_bytes_are_refused_by_us() {
    let (private, _storage) = hub(digest(&graphs::neg())).await;
    for token in [None, Some("hf_other")] {
        let daemon = with_hub(&private, token).await;
        let before = private.count();
        let refused = download(&daemon, "hf:owner/neg").await;
        failed(&refused, "invalid_request", "never", "refuses us (401): a token");
        assert_eq!(private.count(), before + 1, "{token:?}");
    }
    let (wrong, storage) = hub("0".repeat(64)).await;
    let daemon = with_hub(&wrong, Some("hf_secret")).await;
    failed(&download(&daemon, "hf:owner/neg").await, "source_unavailable", "never", "has sha256");
    assert_eq!(storage.count(), 1);
    clean(&daemon, "wrong bytes");
    failed(&download(&daemon, "hf:owner/none").await, "invalid_request", "never", "is not there");
}

#[tokio::test]
async fn another_weft_gives_its_models_to_who_may_read_them() {
    let neg = graphs::neg();
    let far = guarded(&[]).await;
    let key = far.key("peer", json!({"scopes": "read"})).await;
    let asks = far.key("asks", json!({"scopes": "infer"})).await;
    let source = format!("weft:{}/neg", far.url);
    let near = async |key: Option<&str>| {
        let token = key.map(|key| (far.url.clone(), Token::Text(key.to_owned())));
        daemon(|settings| settings.tokens.extend(token)).await
    };
    let peer = near(Some(&key)).await;
    let done = download(&peer, &source).await;
    is_done(&done, &neg);
    assert_eq!((&done["source"], &done["revision"]), (&json!(source), &json!(digest(&neg))));
    is_done(&download(&peer, &format!("{source}@{}", digest(&neg))).await, &neg);
    let other = download(&peer, &format!("{source}@{}", "0".repeat(64))).await;
    failed(&other, "invalid_request", "never", "is not there");
    let none = download(&peer, &format!("weft:{}/none", far.url)).await;
    failed(&none, "invalid_request", "never", "is not there");
    failed(&download(&near(None).await, &source).await, "invalid_request", "never", "refuses us (401)");
    failed(
        &download(&near(Some(&asks)).await, &source).await,
        "invalid_request",
        "never",
        "refuses us (403)",
    );
    assert!(!peer.get("/api/v1/downloads").await.to_string().contains(&key));
}

#[tokio::test]
async fn a_model_s_file_is_served_whole_and_in_parts() {
    let daemon = TestDaemon::start(&[]).await;
    let neg = graphs::neg();
    let etag = format!("\"{}\"", digest(&neg));
    let url = format!("{}/api/v1/blobs/{}", daemon.url, digest(&neg));
    let cases: [(&[(&str, &str)], u16, usize); 6] = [
        (&[], 200, 0),
        (&[("range", "bytes=10-")], 206, 10),
        (&[("range", "bytes=10-"), ("if-range", &etag)], 206, 10),
        (&[("range", "bytes=10-"), ("if-range", "\"other\"")], 200, 0),
        (&[("range", "bytes=10-19")], 200, 0),
        (&[("range", "bytes=1000000-")], 200, 0),
    ];
    for (headers, status, from) in cases {
        let request = headers
            .iter()
            .fold(daemon.http.get(&url), |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["etag"].to_str().ok()),
            (status, Some(etag.as_str()))
        );
        let range =
            answer.headers().get("content-range").map(|range| range.to_str().expect("text").to_owned());
        let expected = format!("bytes {from}-{}/{}", neg.len() - 1, neg.len());
        assert_eq!(range, (status == 206).then_some(expected), "{headers:?}");
        assert_eq!(answer.content_length(), Some((neg.len() - from) as u64), "{headers:?}");
        assert_eq!(answer.bytes().await.expect("a body"), neg[from..], "{headers:?}");
    }
    // What no name stands for is nobody's.
    let (_, unnamed) = daemon.post("/api/v1/blobs", b"x".to_vec()).await;
    let url = format!("{}/api/v1/blobs/{}", daemon.url, unnamed["digest"].as_str().expect("a digest"));
    assert_eq!(daemon.http.get(url).send().await.expect("an answer").status(), 404);
}
