//! Which lane runs a stage when its place cannot.

use super::{Absence, BackendKind, DEPTH, InstanceId, Is, Lanes, Outlook, decide};

/// The lanes of a stage: its place is `a-1/wasm`.
#[test]
fn another_lane_stands_in_for_the_only_one_wanted() {
    const PLACE: &str = "a-1/wasm";
    const NATIVE: (&str, Is) = ("native/ort-cpu", Is::Ready(0, 9));
    let ready = |running| Is::Ready(running, 100);
    let gone = "no lane offers a-1/wasm: none is configured";
    let cases: [(&str, Lanes<'_>, String); 15] = [
        ("", &[("a/wasm", ready(1)), ("b/wasm", ready(0))], PLACE.replace("-1", "")),
        ("stand-in native", &[("a/wasm", ready(DEPTH)), ("b/wasm", ready(0)), NATIVE], "wait".to_owned()),
        ("", &[("b/wasm", ready(0)), NATIVE], format!("fail no_backend: {gone}")),
        ("stand-in", &[("b/wasm", ready(0)), NATIVE], format!("b/wasm for {PLACE} because {gone}")),
        ("stand-in", &[("b/wasm", ready(DEPTH)), NATIVE], "wait".to_owned()),
        ("stand-in native", &[("b/wasm", ready(DEPTH)), NATIVE], "wait".to_owned()),
        // One is made ready, and native answers meanwhile if it may.
        ("stand-in", &[("b/wasm", Is::Fresh), ("c/wasm", Is::Fresh)], "wait +b/wasm".to_owned()),
        ("stand-in", &[("b/wasm", Is::Preparing), ("c/wasm", Is::Fresh)], "wait".to_owned()),
        ("stand-in", &[("a/wasm", Is::Fresh), ("b/wasm", Is::Fresh)], "wait +a/wasm".to_owned()),
        (
            "stand-in native",
            &[("b/wasm", Is::Fresh), NATIVE],
            format!("native/ort-cpu for {PLACE} because {gone} +b/wasm"),
        ),
        ("stand-in native", &[NATIVE], format!("native/ort-cpu for {PLACE} because {gone}")),
        ("stand-in", &[("b/wasm", Is::Quarantined)], format!("fail no_backend: {gone}")),
        // A software adapter stands in for nobody, and serves where it is the place.
        ("stand-in", &[("b/webgpu-software", ready(0))], format!("fail no_backend: {gone}")),
        (
            "stand-in",
            &[("a/wasm", Is::Preparing), ("b/wasm", ready(0))],
            format!("b/wasm for {PLACE} because the model is being loaded and proven there"),
        ),
        ("stand-in", &[("a/wasm", Is::Fresh), ("b/wasm", ready(DEPTH))], "wait +a/wasm".to_owned()),
    ];
    for (wanted, lanes, decision) in cases {
        assert_eq!(
            decide(&format!("{PLACE} {wanted}"), lanes, &[], &Outlook::default()),
            decision,
            "{wanted}"
        );
    }
    let software = [("a/webgpu-software", ready(0))];
    assert_eq!(decide("a-1/webgpu", &software, &[], &Outlook::default()), "a/webgpu-software");
    // What is known of the instance is told, and waited for.
    let (instance, mut outlook) = (InstanceId::new("a-1"), Outlook::default());
    outlook.starting.insert(instance.clone(), ("a".to_owned(), vec![BackendKind::Wasm]));
    assert_eq!(decide(PLACE, &[], &[], &outlook), "wait");
    assert_eq!(
        decide("a-1/webgpu", &[], &[], &outlook),
        format!("fail no_backend: {}", gone.replace("wasm", "webgpu"))
    );
    let absence = |backend| Absence { browser: "a".to_owned(), backend, reason: "no threads".to_owned() };
    let mut outlook = Outlook::default();
    outlook
        .absent
        .insert(instance, vec![absence(Some(BackendKind::Wasm)), absence(Some(BackendKind::Webgpu))]);
    outlook.absent.insert(InstanceId::new("a-2"), vec![absence(None)]);
    assert_eq!(
        decide(PLACE, &[], &[], &outlook),
        "fail no_backend: no lane offers a-1/wasm: wasm in a: no threads"
    );
}

/// What answers natively where no browser does.
#[test]
fn a_software_adapter_is_no_native_fallback_unless_it_is_asked_for() {
    const CPU: (&str, Is) = ("native/ort-cpu", Is::Ready(0, 100));
    let gpu = |micros| ("native/wgpu", Is::Ready(0, micros));
    let software = ("native/wgpu-software", Is::Ready(0, 9));
    let (gone, fails) =
        ("for a browser because no lane offers a browser: none is configured", "fail no_backend: ");
    let only = "no lane offers a browser: native/wgpu-software has a software adapter, which serves only when wgpu is \
                asked for";
    let cases: [(&str, Lanes<'_>, String); 7] = [
        ("native", &[CPU, gpu(300)], format!("native/ort-cpu {gone}")),
        ("native", &[CPU, gpu(9)], format!("native/wgpu {gone}")),
        // It is loaded there, and measured when it is worth a try.
        ("native", &[CPU, ("native/wgpu", Is::Fresh)], format!("native/ort-cpu {gone} +native/wgpu")),
        ("native", &[CPU, software], format!("native/ort-cpu for a browser because {only}")),
        ("native", &[software], format!("{fails}{only}")),
        ("wgpu", &[CPU, software], "native/wgpu-software".to_owned()),
        (
            "wgpu native",
            &[CPU, ("native/wgpu-software", Is::Quarantined)],
            "native/ort-cpu for wgpu because native/wgpu-software refuses".to_owned(),
        ),
    ];
    for (wanted, lanes, decision) in cases {
        assert_eq!(decide(wanted, lanes, &[], &Outlook::default()), decision, "{wanted}");
    }
}
