//! Which file a name, a version or a digest means.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::{NotFound, Versions};
use crate::{
    domain::{Batching, Digest, Model, ModelKind, ModelName, Signature, Tolerance, Uses},
    models::{Entry, History},
};

fn name(text: &str) -> ModelName {
    text.parse().expect("a name")
}

/// Begins with these bytes and goes on with zeros.
fn digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest[..bytes.len()].copy_from_slice(bytes);
    Digest::new(digest)
}

fn entry(called: &str, digest: Digest) -> Entry {
    let model = Model {
        name: name(called),
        digest,
        bytes: 0,
        signature: Signature::default(),
        tolerance: Tolerance::FP32,
        source: String::new(),
        revision: None,
        licence: None,
        opset: 17,
        kind: ModelKind::Other,
        batching: Batching::barred("nothing runs"),
        external: BTreeMap::new(),
        companions: BTreeMap::new(),
        conversion: None,
    };
    Entry::new(model, PathBuf::new(), History::default(), Uses::default())
}

const OLD: &[u8] = &[0xab, 0xcd, 0xef, 0x01, 0x23];
const NEW: &[u8] = &[0xab, 0xcd, 0xef, 0x01, 0x99];
const OTHER: &[u8] = &[0x77];

fn versions() -> Versions {
    let mut versions = Versions::default();
    versions.push(entry("m", digest(OLD)));
    versions.add(Arc::new(entry("m", digest(NEW))));
    versions.push(entry("other", digest(OTHER)));
    versions
}

#[test]
fn a_name_a_version_and_a_digest_mean_one_file() {
    let versions = versions();
    let old = digest(OLD).to_string();
    let found = [
        ("m", None, NEW),
        ("m", Some(old.as_str()), OLD),
        ("m", Some("abcdef0123"), OLD),
        ("m", Some("abcdef0199"), NEW),
        ("other", Some("77000000"), OTHER),
        (&old, None, OLD),
    ];
    for (called, version, wanted) in found {
        let found = versions.find(&name(called), version).expect("a version");
        assert_eq!(found.model.digest, digest(wanted), "{called} {version:?}");
    }
    let refused = [
        ("n", None, "no model is called \"n\""),
        ("n", Some("abcdef01"), "no model is called \"n\""),
        ("m", Some("2"), "model m has no version \"2\", only abcdef0199"),
        ("m", Some(""), "model m has no version \"\""),
        ("m", Some("abcdef0"), "model m has no version \"abcdef0\""),
        ("m", Some("ABCDEF0123"), "model m has no version \"ABCDEF0123\""),
        ("m", Some("77000000"), "model m has no version \"77000000\""),
        ("m", Some("abcdef01"), "model m has several versions that begin with \"abcdef01\": abcdef0199"),
        (&digest(&[1]).to_string(), None, "no model is called \"01000000"),
        (&old, Some("abcdef01"), "no model is called \"abcdef0123"),
    ];
    for (called, version, wanted) in refused {
        let refused = versions.find(&name(called), version).expect_err(called).to_string();
        assert!(refused.starts_with(wanted), "{called} {version:?}: {refused}");
    }
}

#[test]
fn what_is_added_last_is_the_latest_and_never_there_twice() {
    let mut versions = versions();
    versions.add(Arc::new(entry("m", digest(OLD))));
    let digests = |versions: &Versions| versions.all().map(|entry| entry.model.digest).collect::<Vec<_>>();
    assert_eq!(digests(&versions), [digest(OLD), digest(NEW), digest(OTHER)]);
    // What replaces a version stays in its place; what is gone is not replaced.
    versions.replace(&Arc::new(entry("m", digest(NEW))));
    versions.replace(&Arc::new(entry("m", digest(OTHER))));
    assert_eq!(digests(&versions), [digest(OLD), digest(NEW), digest(OTHER)]);
    assert_eq!(versions.latest().count(), 2);
    assert_eq!([versions.count(&name("m")), versions.count(&name("n"))], [2, 0]);
}

#[test]
fn one_version_or_all_are_removed() {
    let mut some = versions();
    assert_eq!(some.remove(&name("m"), Some(digest(NEW))).len(), 1);
    assert_eq!(some.find(&name("m"), None).expect("the older one").model.digest, digest(OLD));
    assert_eq!(some.remove(&name("m"), Some(digest(OTHER))).len(), 0);
    assert_eq!(some.remove(&name("m"), Some(digest(OLD))).len(), 1);
    let gone = some.find(&name("m"), None);
    assert_eq!(gone.expect_err("nothing is left"), NotFound::Name { name: "m".to_owned() });
    assert_eq!(versions().remove(&name("m"), None).len(), 2);
    assert_eq!(versions().remove(&name("n"), None).len(), 0);
}
