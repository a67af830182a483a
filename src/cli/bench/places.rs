//! The lanes that a suite names: which are there, what they are, and which browsers they are in.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::{client::Client, output};
use super::{measure::Measuring, socket::Socket, suites::Found};
use crate::{
    bench::{Place, Suite},
    domain::BackendKind,
};

/// How long a lease is held beyond the suite's budget: browsers load models before anything is measured.
const MARGIN_S: u64 = 300;
const LEASE_MAX_S: u64 = 3600;

/// How the daemon says that a lease is over.
const GONE: &str = "no lease is called";

/// A browser takes seconds to start.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// Browsers that are had to oneself, by the recipe's name.
#[derive(Default)]
pub(super) struct Leases(BTreeMap<String, String>);

/// Waits until each of the suite's browsers serves or has failed with a reason, also one that is launched once more.
pub(super) async fn settled(client: &Client, suite: &Suite) -> anyhow::Result<()> {
    let mut socket = Socket::open(client).await?;
    socket.subscribe().await?;
    let mut said = String::new();
    while let Some(browsers) = unsettled(client, suite).await? {
        if said != browsers {
            output::progress(&format!("waiting for {browsers}"));
            said = browsers;
        }
        // What changed before the subscription held is told by nobody.
        if let Ok(changed) = timeout(ASKED_AGAIN, socket.changed()).await {
            changed?;
        }
    }
    Ok(())
}

/// The suite's browsers that are on their way.
async fn unsettled(client: &Client, suite: &Suite) -> anyhow::Result<Option<String>> {
    let instances = client.get("/api/v1/instances").await?;
    let browsers = suite.browsers();
    let wanted = |instance: &&Value| browsers.iter().any(|browser| instance["browser"] == *browser);
    let coming = |instance: &&Value| {
        ["starting", "recovering", "draining"].iter().any(|state| instance["state"] == *state)
    };
    let instances = instances["items"].as_array().into_iter().flatten().filter(wanted).filter(coming);
    let names: Vec<_> = instances.filter_map(|instance| instance["instance"].as_str()).collect();
    Ok((!names.is_empty()).then(|| names.join(", ")))
}

/// Every lane that the suite names, or why it is not there.
pub(super) async fn lanes(
    client: &Client,
    found: &Found,
) -> anyhow::Result<BTreeMap<(String, BackendKind), Result<Place, String>>> {
    let suite = &found.suite;
    let (lanes, instances) = tokio::try_join!(client.get("/api/v1/lanes"), client.get("/api/v1/instances"))?;
    let list = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let (lanes, instances) = (list(&lanes), list(&instances));
    let wanted: BTreeSet<_> =
        suite.cells.iter().map(|cell| (cell.browser.clone(), cell.backend.clone())).collect();
    let told = wanted.into_iter().map(|(browser, backend)| {
        let of_browser = |item: &&Value| item["browser"] == browser.as_str();
        let lane = lanes.iter().filter(of_browser).find(|lane| lane["backend"] == json!(backend));
        let instance = instances.iter().find(of_browser);
        let place = match (lane, instance) {
            (Some(lane), instance) => place(lane, instance),
            (None, Some(instance)) => {
                let reason = instance["reason"].as_str().unwrap_or("it has no such lane");
                Err(format!("{browser}: {reason}"))
            }
            (None, None) if backend.is_native() => Err(missing(found, &backend, &lanes)?),
            (None, None) => Err(format!("the daemon runs no {browser}: `weft serve --browsers {browser}=1`")),
        };
        Ok::<_, anyhow::Error>(((browser, backend), place))
    });
    told.collect()
}

/// Why no native lane is on a backend: what was looked for, and what there is.
fn missing(found: &Found, backend: &BackendKind, lanes: &[Value]) -> anyhow::Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let native = lanes.iter().filter(|lane| lane["browser"] == "native");
    let native =
        native.map(|lane| format!("{} of {}", text(&lane["backend"]), text(&lane["capability"]["engine"])));
    let native = native.collect::<Vec<_>>().join(", ");
    if *backend == BackendKind::Wgpu {
        let looked = "no adapter gives wgpu, and `weft doctor` says why";
        return Ok(format!("not available here: {looked}; native lanes: {native}"));
    }
    let looked = found.looked_for(backend)?;
    Ok(format!(
        "not available here: no ONNX Runtime library gives {backend}; {looked}; native lanes: {native}"
    ))
}

fn place(lane: &Value, instance: Option<&Value>) -> Result<Place, String> {
    if lane["state"] == "absent" || lane["capability"].is_null() {
        let reason = lane["reason"].as_str().unwrap_or("it is not ready");
        return Err(format!("{}: {reason}", lane["lane"].as_str().unwrap_or("the lane")));
    }
    let capability = &lane["capability"];
    let of_instance = |key: &str| instance.map(|instance| &instance[key]);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let adapter = Some(&capability["adapter"]).filter(|adapter| !adapter.is_null());
    let described = adapter.map(|adapter| {
        let words = ["vendor", "architecture", "device", "description"];
        let words = words.iter().filter_map(|key| adapter[key].as_str()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    });
    Ok(Place {
        browser_version: text(of_instance("browser_version")),
        engine: text(Some(&capability["engine"])).unwrap_or_default(),
        threads: capability["threads"].as_u64().unwrap_or(0) as u32,
        software_adapter: adapter.is_some_and(|adapter| adapter["software"] == true),
        adapter: described,
        sandbox: of_instance("sandbox").and_then(Value::as_bool),
        gpu: text(of_instance("gpu")),
    })
}

impl Leases {
    /// Has these browsers to itself.
    pub(super) async fn take(
        &mut self,
        client: &Client,
        browsers: BTreeSet<&String>,
        suite: &Suite,
    ) -> anyhow::Result<()> {
        let ttl = (suite.budget.as_secs() + MARGIN_S).min(LEASE_MAX_S);
        for browser in browsers {
            let order = json!({"browser": browser, "ttl": format!("{ttl}s")});
            let lease = client.post("/api/v1/leases", &order).await;
            let lease = lease.with_context(|| format!("having {browser} to oneself"))?;
            let id = lease["lease"].as_str().context("a lease has an id")?;
            self.0.insert(browser.clone(), id.to_owned());
        }
        Ok(())
    }

    async fn give_back(&mut self, client: &Client, browser: &str) {
        if let Some(lease) = self.0.remove(browser) {
            released(client, lease).await;
        }
    }

    pub(super) fn of(&self, browser: &str) -> Option<&String> {
        self.0.get(browser)
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.0.values().cloned().collect()
    }

    /// Gives all back; one that ran out is gone already.
    pub(super) async fn release(self, client: &Client) {
        for lease in self.0.into_values() {
            released(client, lease).await;
        }
    }
}

impl Measuring<'_> {
    /// Has a browser to oneself again.
    pub(super) async fn lease(&mut self, browser: &str) -> anyhow::Result<()> {
        self.leases.take(self.client, [&browser.to_owned()].into(), &self.found.suite).await?;
        self.told.leases(self.leases.ids());
        Ok(())
    }

    /// Before a browser's end, with which its lease ends.
    pub(super) async fn unlease(&mut self, browser: &str) {
        self.leases.give_back(self.client, browser).await;
        self.told.leases(self.leases.ids());
    }
}

async fn released(client: &Client, lease: String) {
    let deleted = client.delete(&format!("/api/v1/leases/{lease}")).await;
    // The daemon gives back by itself what a suite had that tells nothing any more.
    if let Err(error) = deleted
        && !error.to_string().contains(GONE)
    {
        output::progress(&format!("a lease was not given back: {error:#}"));
    }
}
