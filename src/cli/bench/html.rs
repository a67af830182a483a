//! The report as a page of one file, which asks nobody for anything.

use std::path::Path;

use anyhow::Context as _;
use rust_embed::RustEmbed;

use crate::bench::{Report, Results};

#[derive(RustEmbed)]
#[folder = "web-harness/dist"]
#[include = "report/*"]
struct Dist;

/// Where the report's numbers go in the page.
const MARKER: &str = "{{REPORT}}";

pub(super) fn write(path: &Path, results: &Results) -> anyhow::Result<()> {
    let page = page(results)?;
    std::fs::write(path, page).with_context(|| format!("writing the report to {}", path.display()))
}

fn page(results: &Results) -> anyhow::Result<String> {
    let template = Dist::get("report/index.html").expect("the build embeds the report's page");
    let template = std::str::from_utf8(&template.data).expect("the page is UTF-8");
    let (head, tail) = template.split_once(MARKER).expect("the page has a place for the report");
    Ok([head, &inert(&serde_json::to_string(&Report::of(results))?), tail].concat())
}

/// Within a script's element only `<` begins what could end it, and JSON has that in texts alone.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A result with these words wherever a document has words of others.
    fn results(words: &str) -> Results {
        let text = json!({"id": words, "suite": words, "suite_sha256": "", "started_at_us": 0, "ended_at_us": 1,
            "complete": false, "warnings": [words], "calibration_us": [1.0, 1.0],
            "environment": {"weft": "0.1.0", "processor": words, "processor_flags": "", "cores": 2,
                "memory_bytes": 1, "kernel": words, "cpu_limit": null, "memory_limit": null,
                "places": {words: {"browser_version": words, "engine": words, "threads": 1, "adapter": words,
                    "software_adapter": false, "sandbox": null, "gpu": null}}},
            "cells": [{"model": "one", "model_digest": null, "browser": words, "backend": "wasm",
                "scenario": "single_stream", "outcome": "ok", "reason": words, "error": 0.0, "tolerance": 1e-3,
                "samples_us": [1.0, 2.0, 900.0], "warm_up_us": [3.0], "warm": true, "provenance": null}]});
        Results::read(text.to_string().as_bytes()).expect("a result")
    }

    /// What stands between the element's tags.
    fn data(page: &str) -> &str {
        let (_, rest) =
            page.split_once("<script id=\"report\" type=\"application/json\">").expect("the element");
        rest.split_once("</script>").expect("its end").0
    }

    #[test]
    fn whatever_a_document_says_stays_data() {
        let cases = [
            "plain",
            "</script><script>alert(1)</script>",
            "<!--<script>",
            "</SCRIPT >",
            "\"quoted\" 'twice' \\ & &lt;",
            "{{REPORT}} {{SCRIPT}} $& $1",
            "ünïcödé 模型 🦊 \u{2028}\u{2029}\u{0}\u{7f}",
        ];
        for words in cases {
            let results = results(words);
            let page = page(&results).expect("a page");
            let data = data(&page);
            assert!(!data.contains('<'), "{words}");
            let told: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(told["results"], json!(results), "{words}");
            assert_eq!(told["results"]["cells"][0]["browser"], words);
            // Nothing of it stands elsewhere: the page around it is the same for all.
            let around = page.replace(data, "");
            assert_eq!(
                around,
                super::page(&self::results("")).map(|page| page.replace(self::data(&page), "")).unwrap()
            );
        }
    }

    #[test]
    fn the_page_allows_itself_no_network() {
        let page = page(&results("")).expect("a page");
        let policy = page.split_once("Content-Security-Policy\" content=\"").expect("a policy").1;
        let policy = policy.split_once('"').expect("its end").0;
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        for word in ["http", "connect-src", "unsafe-eval", "*", "script-src 'unsafe-inline'"] {
            assert!(!policy.contains(word), "{policy}");
        }
        assert!(!page.contains("{{"), "a marker is left");
        for element in ["<script src", "<link rel=\"stylesheet\"", "@import", "url(http"] {
            assert!(!page.contains(element), "{element}");
        }
    }
}
