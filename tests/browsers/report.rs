//! A suite's report in real browsers: it shows every cell, exports its charts, and asks nobody for anything.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::stage::{LIMIT, on_each, open, serve};

/// A name that would be markup if anything took it for that.
const STRANGE: &str = "</script><img src=http://127.0.0.1:9/x onerror=alert(1)>\"'&模型🦊";

/// The report in a frame as wide as a phone, which the page around it may look into.
const AROUND: &str = r##"<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<iframe style="width: 360px; height: 640px; border: 0" srcdoc="{{REPORT}}"></iframe><script type="module">
const frame = document.querySelector("iframe");
const look = async () => {
  if (frame.contentDocument.readyState !== "complete" || !frame.contentDocument.querySelector("#page")) {
    await new Promise((loaded) => frame.addEventListener("load", loaded));
  }
  const [view, page] = [frame.contentWindow, frame.contentDocument];
  const count = (selector) => page.querySelectorAll(selector).length;
  // Charts that nobody has come near to are drawn when nothing else is to be done.
  while (count(".drawing svg") < count("figure")) await new Promise((next) => setTimeout(next, 20));
  const blobs = [];
  let arrived;
  const exported = new Promise((all) => { arrived = all; });
  const make = view.URL.createObjectURL;
  view.HTMLAnchorElement.prototype.click = () => {};
  view.URL.createObjectURL = (blob) => {
    blobs.push(blob);
    if (blob.type === "image/png") arrived();
    return make.call(view.URL, blob);
  };
  for (const button of page.querySelector("figure").querySelectorAll(".exports button")) button.click();
  await Promise.race([exported, new Promise((late) => setTimeout(late, 20_000))]);
  const png = new Uint8Array(await (blobs.find(({ type }) => type === "image/png") ?? new Blob()).arrayBuffer());
  const sorted = page.querySelector("#cells th button");
  sorted.click();
  const table = page.querySelector("#cells").textContent;
  const asked = view.performance.getEntriesByType("resource").map(({ name }) => name);
  return {
    alerts: [...page.querySelectorAll("[role=alert]")].map((alert) => alert.textContent),
    rows: count("#cells tbody tr"),
    absent: count("#absent tbody tr"),
    figures: count("figure"),
    drawn: count(".drawing svg"),
    head: page.querySelector("header").textContent.includes("weft 0.1.0, commit 0123456789-dirty"),
    parts: count("#starts .drawing rect"),
    dots: count("#roofs [aria-label=dot] path"),
    images: count("img"),
    asked: asked.filter((name) => !name.startsWith("blob:")),
    tooWide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    partial: count(".state.partial"),
    order: sorted.parentElement.getAttribute("aria-sort"),
    strange: table.includes(`<\/script><img src=http://127.0.0.1:9/x onerror=alert(1)>"'&模型🦊/wasm`),
    exports: blobs.map(({ type, size }) => `${type} ${size > 100}`).sort(),
    png: String.fromCharCode(...png.slice(1, 4)),
  };
};
const said = await look().catch((error) => ({ error: `${error} ${error.stack}` }));
const told = [...new TextEncoder().encode(JSON.stringify(said))].map((byte) => byte.toString(16).padStart(2, "0"));
await fetch(`/told?${told.join("")}`);
</script>"##;

/// An interrupted result of two models in lanes with strange names.
fn result() -> Value {
    let place = json!({"browser_version": "1", "engine": "an engine", "threads": 1, "adapter": STRANGE,
        "software_adapter": true, "sandbox": true, "gpu": null});
    let cell = |model: &str, browser: &str, scenario: &str, middle: u32| {
        let samples: Vec<_> = (0..400).map(|at| f64::from(middle + at * 7 % 97)).collect();
        let backend = if browser == "native" { "ort-cpu" } else { "wasm" };
        json!({"model": model, "model_digest": null, "browser": browser, "backend": backend, "scenario": scenario,
            "outcome": "ok", "reason": null, "error": 1e-7, "tolerance": 1e-3, "samples_us": samples,
            "warm_up_us": [9000.0, 2000.0, 1000.0], "warm": true, "provenance": null,
            "work": {"flops": 5_000_000, "bytes": 2_000_000, "nodes": 9, "known": 8}})
    };
    let mut cells = vec![
        cell("one", "native", "single_stream", 900),
        cell("one", "firefox", "single_stream", 1900),
        cell("one", STRANGE, "single_stream", 1700),
        cell("one", "firefox", "offline", 1900),
        cell("two", "firefox", "single_stream", 1900),
        cell("two", "edge", "single_stream", 1),
        cell("two", "firefox", "cold_start", 300_000),
    ];
    cells[5]["outcome"] = json!("timed_out");
    cells[5]["reason"] = json!(STRANGE);
    cells[6]["start"] = json!("browser");
    cells[6]["warm_up_us"] = json!([]);
    let cold = json!({"launch_us": 9e4, "page_us": 5e4, "lane_us": 8e4, "import_us": 2e4, "init_us": 3e4, "first_us": 9e3});
    cells[6]["cold"] = json!([cold, cold, cold]);
    json!({"id": "a-1", "copied": 1e10, "suite": STRANGE, "suite_sha256": "", "started_at_us": 0, "ended_at_us": 1000, "complete": false,
        "warnings": [STRANGE], "calibration_us": [1.0, 1.0], "cells": cells,
        "environment": {"weft": "0.1.0", "commit": "0123456789abcdef-dirty", "processor": STRANGE, "processor_flags": "", "cores": 2, "memory_bytes": 1,
            "kernel": "6", "cpu_limit": null, "memory_limit": null, "places": {"firefox/wasm": place}}})
}

/// The page of a result, and what the call took.
fn report(result: &Value) -> (String, Duration) {
    let home = tempfile::tempdir().unwrap();
    let [from, to] = ["result.json", "report.html"].map(|file| home.path().join(file));
    fs::write(&from, result.to_string()).unwrap();
    let started = Instant::now();
    let ran = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["bench", "report", from.to_str().unwrap(), "--html", to.to_str().unwrap(), "--home"])
        .arg(home.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    (fs::read_to_string(to).unwrap(), started.elapsed())
}

fn unhex(text: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    String::from_utf8((0..text.len()).step_by(2).map(byte).collect()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_shows_its_cells_and_asks_nobody() {
    let page =
        AROUND.replace("{{REPORT}}", &report(&result()).0.replace('&', "&amp;").replace('"', "&quot;"));
    let page: &'static str = page.leak();
    on_each(|stage, recipe| async move {
        // Other products show pages by the same engines.
        if !["chromium", "firefox"].contains(&recipe.name.as_str()) {
            return;
        }
        let (url, mut arrived) = serve(page).await;
        let instance = open(&stage, &recipe, &url).await;
        let mut asked = Vec::new();
        let said = loop {
            let path = timeout(LIMIT, arrived.recv()).await.expect("the page tells").unwrap();
            match path.strip_prefix("/told?") {
                Some(said) => break unhex(said),
                None => asked.push(path),
            }
        };
        let said: Value = serde_json::from_str(&said).unwrap();
        let wanted = json!({
            "alerts": [], "rows": 7, "absent": 1, "figures": 11, "drawn": 11, "head": true,
            // Six parts with their marks in the legend.
            "parts": 12, "dots": 5, "images": 0, "asked": [], "tooWide": 0,
            "partial": 1, "order": "ascending", "strange": true, "png": "PNG",
            // The picture is drawn from a copy of the chart.
            "exports": ["image/png true", "image/svg+xml true", "image/svg+xml true", "text/csv true"],
        });
        assert_eq!(said, wanted, "{}", recipe.name);
        assert_eq!(asked, ["/"], "{}", recipe.name);
        instance.close().await;
        stage.assert_clear().await;
    })
    .await;
}

/// A hundred models in ten lanes, asked for ten batches.
const CELLS: usize = 10_000;

/// Opens the report as a file is opened, and tells when all of it was drawn.
const OPENED: &str = r##"<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>
<script>const PAGE = {{REPORT}};</script><script type="module">
const open = async () => {
  const frame = document.createElement("iframe");
  frame.width = 1200;
  frame.height = 800;
  const loaded = new Promise((there) => { frame.addEventListener("load", there); });
  frame.src = URL.createObjectURL(new Blob([PAGE], { type: "text/html" }));
  const begun = performance.now();
  document.body.append(frame);
  await loaded;
  const view = frame.contentWindow;
  for (let at = 0; at < 2; at += 1) await new Promise((next) => { view.requestAnimationFrame(next); });
  const ms = performance.now() - begun;
  const count = (selector) => view.document.querySelectorAll(selector).length;
  const undrawn = () => count("figure") - count(".drawing svg");
  const late = begun + 20_000;
  while (undrawn() > 0 && performance.now() < late) await new Promise((next) => { view.setTimeout(next, 5); });
  const all_ms = performance.now() - begun;
  frame.remove();
  return { ms, all_ms, alerts: count("[role=alert]"), undrawn: undrawn(), rows: count("#cells tbody tr") };
};
const said = [];
for (let at = 0; at < 5; at += 1) said.push(await open());
const told = [...new TextEncoder().encode(JSON.stringify(said))].map((byte) => byte.toString(16).padStart(2, "0"));
await fetch(`/told?${told.join("")}`);
</script>"##;

/// A result of so many.
fn large() -> Value {
    let lanes = ["native/ort-cpu", "native/ort-openvino", "firefox/wasm", "firefox/webgpu", "chromium/wasm"];
    let lanes =
        [lanes, ["chromium/webgpu", "chromium/webnn", "edge/wasm", "edge/webgpu", "webkit/wasm"]].concat();
    let cells = (0..CELLS).map(|at| {
        let (browser, backend) = lanes[at % 10].split_once('/').unwrap();
        let middle = 1000 + at * 7919 % 9973;
        let samples: Vec<_> = (0..30).map(|sample| (middle + sample * 37 % 101) as f64).collect();
        json!({"model": format!("model-{}", at / 100), "model_digest": null, "browser": browser, "backend": backend,
            "scenario": "single_stream", "batch": 1 + at / 10 % 10, "outcome": "ok", "reason": null, "error": 0.0,
            "tolerance": 1e-3, "samples_us": samples, "warm_up_us": samples[..5], "warm": true, "provenance": null,
            "work": {"flops": 5_000_000 + at, "bytes": 2_000_000, "nodes": 9, "known": 9}})
    });
    let mut large = result();
    large["cells"] = cells.collect();
    large
}

/// What `docs/methodology.md` has.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_report_of_10_000_cells_is_built_and_opened() {
    let large = large();
    let mut built: Vec<_> = (0..5).map(|_| report(&large)).collect();
    built.sort_by_key(|(_, took)| *took);
    let (page, took) = &built[2];
    let words = json!(page).to_string().replace('<', "\\u003c");
    let mib = page.len() >> 20;
    eprintln!("the call: {took:?} (median of 5, {:?} to {:?}), {mib} MiB", built[0].1, built[4].1);
    let page: &'static str = OPENED.replace("{{REPORT}}", &words).leak();
    on_each(|stage, recipe| async move {
        if !["chromium", "firefox"].contains(&recipe.name.as_str()) {
            return;
        }
        let (url, mut arrived) = serve(page).await;
        let instance = open(&stage, &recipe, &url).await;
        let said = loop {
            let path = timeout(LIMIT, arrived.recv()).await.expect("the page tells").unwrap();
            if let Some(said) = path.strip_prefix("/told?") {
                break unhex(said);
            }
        };
        eprintln!("{}: {said}", recipe.name);
        let said: Value = serde_json::from_str(&said).unwrap();
        for opened in said.as_array().unwrap() {
            assert_eq!((&opened["alerts"], &opened["undrawn"]), (&json!(0), &json!(0)), "{said}");
        }
        instance.close().await;
        stage.assert_clear().await;
    })
    .await;
}
