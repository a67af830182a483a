//! `weft bench run` with real browsers, from nothing: it starts a daemon, brings the models, measures, and leaves nothing.

use std::process::Command;

use serde_json::Value;

use crate::{
    daemon::{FIXTURES, installed},
    serve::processes_of,
};

/// The shipped suite in two engines and natively, with fewer samples.
fn suite() -> String {
    let smoke = std::fs::read_to_string(format!("{FIXTURES}/workloads/smoke.toml")).unwrap();
    let (head, _) = smoke.split_once("[matrix]").unwrap();
    let head = head.replace("../", &format!("{FIXTURES}/"));
    let head = head.replace("time = \"4s\"", "time = \"1s\"").replace("samples_min = 9", "samples_min = 3");
    format!(
        "{head}[matrix]\nbrowser = [\"native\", \"chromium\", \"firefox\"]\nbackend = [\"ort-cpu\", \"wasm\"]\n\
         scenario = [\"single_stream\", \"offline\"]\n\n[[exclude]]\nmodel = [\"magika\"]\nscenario = [\"offline\"]\n\
         reason = \"it takes seconds\"\n"
    )
}

#[test]
fn a_suite_runs_from_nothing_and_leaves_nothing() {
    if !installed("chromium=1,firefox=1") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("small.toml");
    std::fs::write(&file, suite()).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["bench", "run", file.to_str().unwrap(), "--complete", "--json", "--home"])
        .arg(home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let cells = told["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 12, "{told}");
    let measured = cells.iter().filter(|cell| cell["outcome"] != "excluded");
    assert_eq!(measured.clone().count(), 9, "{told}");
    for cell in measured {
        assert_eq!(cell["outcome"], "ok", "{cell}");
        assert!(cell["error"].as_f64().unwrap() <= 1e-3, "{cell}");
        assert!(cell["figures"]["median"]["value"].as_f64().unwrap() > 0.0, "{cell}");
        assert_eq!(cell["provenance"]["browser"], cell["browser"], "{cell}");
    }
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
}

/// The library is a setup of its own; where nobody ran that, this is a skip by name.
fn openvino() -> bool {
    let cache = weft::config::Surroundings::read().unwrap().cache;
    let library = cache.join("native/onnxruntime-openvino-1.24.1/libonnxruntime.so.1.24.1");
    if !library.is_file() {
        eprintln!("skipped: {} is missing; `make prove-setup` brings it", library.display());
    }
    library.is_file()
}

#[test]
#[ignore = "its library is 150 MB: run by `make prove`"]
fn openvino_computes_what_the_native_lane_does() {
    if !openvino() {
        return;
    }
    let shipped = std::fs::read_to_string(format!("{FIXTURES}/workloads/roadmap-13.toml")).unwrap();
    let text = shipped.replace("../", &format!("{FIXTURES}/")).replace(", \"chromium-webnn\"]", "]");
    assert_ne!(text.len(), shipped.len());
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("natively.toml");
    std::fs::write(&file, text.replace("time = \"4s\"", "time = \"1s\"")).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["bench", "run", file.to_str().unwrap(), "--json", "--home"])
        .arg(home.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let cells = told["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 13 * 6, "{told}");
    let of = |backend: &str| {
        let measured = cells.iter().filter(|cell| cell["outcome"] != "excluded");
        measured.filter(|cell| cell["backend"] == backend).cloned().collect::<Vec<_>>()
    };
    for cell in of("ort-openvino") {
        assert_eq!((cell["outcome"].as_str(), cell["seeded"].as_bool()), (Some("ok"), Some(true)), "{cell}");
        let provenance = &cell["provenance"];
        assert_eq!(provenance["engine"], "onnxruntime@1.24.1/libonnxruntime.so.1.24.1", "{cell}");
        assert!(provenance["placement"]["openvino"].as_u64() > Some(0), "{cell}");
        assert_eq!(provenance["verdict"], "verified", "{cell}");
    }
    for cell in of("ort-qnn") {
        let reason = cell["reason"].as_str().unwrap();
        assert_eq!(cell["outcome"], "skipped", "{cell}");
        assert!(reason.starts_with("not available here: ") && reason.contains("ort-openvino of"), "{reason}");
    }
    assert_eq!((of("ort-openvino").len(), of("ort-cpu").len(), of("ort-qnn").len()), (11, 11, 11));
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
}

/// The shipped suite's models in Chromium alone, started cold.
fn cold() -> String {
    let smoke = std::fs::read_to_string(format!("{FIXTURES}/workloads/smoke.toml")).unwrap();
    let (head, _) = smoke.split_once("[matrix]").unwrap();
    format!(
        "{}[matrix]\nbrowser = [\"chromium\"]\nbackend = [\"wasm\"]\nscenario = [\"cold_start\"]\n\n\
         [scenario.cold_start]\nsamples = 2\n\n[[exclude]]\nmodel = [\"magika\"]\nreason = \"one is enough\"\n",
        head.replace("../", &format!("{FIXTURES}/"))
    )
}

#[test]
fn a_cold_start_is_told_part_by_part() {
    if !installed("chromium=1") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("cold.toml");
    std::fs::write(&file, cold()).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["bench", "run", file.to_str().unwrap(), "--complete", "--json", "--home"])
        .arg(home.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let measured: Vec<_> =
        told["cells"].as_array().unwrap().iter().filter(|cell| cell["outcome"] == "ok").collect();
    let starts: Vec<_> = measured.iter().map(|cell| cell["start"].as_str().unwrap()).collect();
    assert_eq!(starts, ["browser", "session"], "{told}");
    let of_browser = ["launch_us", "page_us", "lane_us", "import_us", "init_us"];
    let of_session = ["load_us", "fetch_us", "create_us", "first_us", "compute_us"];
    for cell in measured {
        for cold in cell["cold"].as_array().unwrap() {
            for part in of_session {
                assert!(cold[part].as_f64() > Some(0.0), "{part}: {cell}");
            }
            for part in of_browser {
                assert_eq!(cold[part].as_f64() > Some(0.0), cell["start"] == "browser", "{part}: {cell}");
            }
            let bytes = ["network_bytes", "cache_bytes"].map(|from| cold[from].as_u64().unwrap());
            assert!(bytes.iter().sum::<u64>() > 0, "{cell}");
            assert!(cell["start"] == "session" || bytes[1] == 0, "a new browser's cache is empty: {cell}");
        }
    }
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
}
