//! What browsers fetched of models' files, as the server that they fetched it from says in its log.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::serve::Served;

/// How the daemon says it: a line of JSON for each answer.
pub(super) const TELEMETRY: &str = "[telemetry]\nlog = \"json\"\nfilter = \"warn,weft=info,weft::bridge=debug,chromiumoxide::handler=off\"\n";

/// Bytes by browser and by the file's digest.
pub(super) type Fetched = BTreeMap<(String, String), u64>;

pub(super) fn fetched(served: &Served) -> Fetched {
    let log = std::fs::read_to_string(served.home().join("serve.log")).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut fetched = Fetched::new();
    for line in lines.filter(|line| line["message"] == "serving bytes of a model's file") {
        let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}")).to_owned();
        let browser = product(&text("browser")).to_owned();
        *fetched.entry((browser, text("digest"))).or_default() += text("bytes").parse::<u64>().unwrap();
    }
    fetched
}

/// Whose user agent it is, among the browsers of one slice.
fn product(agent: &str) -> &'static str {
    match agent {
        agent if agent.contains("Firefox/") => "firefox",
        agent if agent.contains("Chrome/147.") => "chromium-webnn",
        agent if agent.contains("Chrome/") => "chromium",
        agent if agent.contains("AppleWebKit/") => "webkitgtk",
        agent => panic!("whose is {agent:?}"),
    }
}
