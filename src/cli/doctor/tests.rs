use serde_json::{Value, json};

use super::{Finding, State, adapter_row, adapters, batches, finding, rows};
use crate::{
    backend::wgpu::{AdapterInfo, AdapterKind, Wanted},
    driver::{presence::Presence, recipe::Recipe},
    kernels::gpu::Limits,
    pool::PoolStatus,
};

fn chromium() -> Recipe {
    Recipe::embedded().into_iter().find(|recipe| recipe.name == "chromium").expect("an embedded recipe")
}

fn status(state: &str, reason: &Value, lanes: &Value) -> PoolStatus {
    let instance = json!({
        "instance": "chromium-1", "browser": "chromium", "browser_version": "156.0", "state": state,
        "reason": reason, "sandbox": null, "gpu": "software", "page": null, "launches": 1, "executed": 0,
        "memory_bytes": null, "lease": null, "process": null, "lanes": lanes,
    });
    serde_json::from_value(json!({"chromium-1": instance})).expect("a status")
}

fn lane(backend: &str, state: &str, capability: &Value) -> Value {
    json!({
        "lane": format!("chromium-1/{backend}"), "instance": "chromium-1", "browser": "chromium",
        "backend": backend, "state": state, "reason": "no adapter", "capability": capability,
    })
}

fn capability() -> Value {
    json!({
        "backend": "webgpu", "threads": 1, "engine": "onnxruntime-web@1/ort.wasm", "features": null, "limits": null,
        "adapter": {"vendor": "", "architecture": "", "device": "", "description": "", "software": true},
        "webnn": null, "webnn_device": null, "timing_us": {},
    })
}

#[test]
fn every_recipe_has_a_state_with_its_reason() {
    let hint = || "say please".to_owned();
    let proven = status(
        "ready",
        &json!(null),
        &json!({
            "chromium-1/wasm": lane("wasm", "absent", &json!(null)),
            "chromium-1/webgpu": lane("webgpu", "ready", &capability()),
        }),
    );
    let idle =
        status("ready", &json!(null), &json!({"chromium-1/wasm": lane("wasm", "absent", &json!(null))}));
    let failed = status(
        "failed",
        &json!("it crashed"),
        &json!({"chromium-1/wasm": lane("wasm", "absent", &json!(null))}),
    );
    let none = PoolStatus::new();
    let cases = [
        (Presence::Here, &proven, State::Proven, None, 2),
        (Presence::Here, &idle, State::Failing, Some("no adapter"), 1),
        (Presence::Here, &failed, State::Failing, Some("it crashed"), 1),
        (Presence::NotInstalled { hint: hint() }, &none, State::NotInstalled, Some("say please"), 1),
        (Presence::NotRunning { hint: hint() }, &none, State::NotRunning, Some("say please"), 1),
        (Presence::Unproven { hint: hint() }, &none, State::Unproven, Some("say please"), 1),
    ];
    for (presence, status, state, reason, lines) in cases {
        let Finding { state: found, reason: why, .. } = finding(&chromium(), presence.clone(), status);
        assert_eq!((found, why.as_deref()), (state, reason), "{presence:?}");
        let rows = rows(&finding(&chromium(), presence.clone(), status));
        assert_eq!(rows.len(), lines, "{presence:?}: {rows:?}");
        assert!(rows.iter().all(|row| row[1] == state.words()), "{presence:?}: {rows:?}");
    }
    let rows = rows(&finding(&chromium(), Presence::Here, &proven));
    assert_eq!(rows[0], ["chromium", "proven here", "156.0", "unknown", "wasm", "no", "no adapter"]);
    assert_eq!(rows[1][6], "software adapter without a name, 1 thread, ort.wasm");
}

#[test]
fn an_engine_that_keeps_no_weights_is_told() {
    for (fault, told) in [(json!(null), "keeps weights"), (json!("no room"), "keeps no weights: no room")] {
        let lanes = json!({"chromium-1/webgpu": lane("webgpu", "ready", &capability())});
        let mut status = status("ready", &json!(null), &lanes);
        let page = json!({
            "user_agent": "", "cross_origin_isolated": true, "shared_array_buffer": true, "hardware_concurrency": 2,
            "simd": true, "relaxed_simd": false, "threads": false, "jspi": false, "visibility": "visible",
            "cache_fault": fault,
        });
        status.values_mut().next().expect("an instance").page = serde_json::from_value(page).expect("a page");
        let rows = rows(&finding(&chromium(), Presence::Here, &status));
        assert_eq!(rows[0][6], format!("software adapter without a name, 1 thread, SIMD, {told}, ort.wasm"));
    }
}

#[test]
fn no_more_browsers_at_once_than_cores() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let names: Vec<String> = (0..=cores).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let split: Vec<usize> = batches(&names).iter().map(Vec::len).collect();
    assert_eq!(split, [cores, 1]);
    assert_eq!(batches(&[]), [Vec::<&str>::new()]);
}

#[test]
fn an_adapter_without_a_lane_says_why() {
    let adapter = |name: &str, kind| AdapterInfo {
        name: name.to_owned(),
        driver: "Mesa 25".to_owned(),
        api: "vulkan".to_owned(),
        kind,
        limits: Limits::PROMISED,
        features: vec!["subgroups"],
    };
    let card = adapter("a card", AdapterKind::Discrete);
    let software = adapter("llvmpipe", AdapterKind::Software);
    let (both, alone) = ([card, software.clone()], [software]);
    let (hardware, any) = (Some(&Wanted::Hardware), Some(&Wanted::Any));
    let (off, another) = (Some("native.wgpu is off"), Some("native.wgpu takes another"));
    let cases: [(_, &[AdapterInfo], &[Option<&str>]); 4] = [
        (None, &both, &[off, off]),
        (hardware, &both, &[None, another]),
        (hardware, &alone, &[Some("native.wgpu does not ask for a software adapter")]),
        (any, &alone, &[None]),
    ];
    for (wanted, found, reasons) in cases {
        let told: Vec<_> = adapters(wanted, found).into_iter().map(|found| found.reason).collect();
        assert_eq!(told, reasons, "{wanted:?}");
    }
    let row = adapter_row(&adapters(hardware, &alone)[0]);
    let said = "software adapter vulkan llvmpipe Mesa 25, bindings of 128 MiB: native.wgpu does not ask for a \
                software adapter";
    assert_eq!(row, ["native", "-", "-", "-", "wgpu", "no", said]);
}
