//! A daemon with browsers behind a proxy, and one trial after the other on it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft::domain::Digest;

use crate::{
    FIXTURES,
    engines::Engine,
    hog,
    load::{Asking, Load, MODEL, Questions, TOLERANCE, Tally},
    proxy::Proxy,
    scenarios::{self, Scenario},
    serve::Served,
    sightings::Sightings,
};

/// Two may be lost at once and one is left to serve.
pub(crate) const INSTANCES: usize = 3;

/// A loaded machine starts three browsers in a fraction of this.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(60);

/// Answers before a fault and after the return from it: every client has had some by then.
const WARM: u64 = 30;

pub(crate) struct Stage {
    engines: Vec<&'static Engine>,
    /// Of each engine.
    each: usize,
    pub(crate) served: Served,
    pub(crate) proxy: Proxy,
    pub(crate) sightings: Sightings,
    pub(crate) questions: Arc<Questions>,
    http: reqwest::Client,
}

/// What a trial is about: how requests are asked, and which instance is hit first, with those after it.
pub(crate) struct Aim {
    pub(crate) asking: Asking,
    pub(crate) fallback: &'static str,
    pub(crate) instances: Vec<String>,
}

/// What came of one fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) fallback: String,
    pub(crate) accepted: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) retried: u64,
    pub(crate) fell_back: u64,
    /// Per instance that was hit: from the fault until it was ready again.
    pub(crate) recovery_ms: Vec<f64>,
    pub(crate) longest_ms: f64,
}

impl Trial {
    pub(crate) fn line(&self) -> String {
        let recovery: Vec<_> = self.recovery_ms.iter().map(|ms| format!("{ms:.0}")).collect();
        format!(
            "fallback {:6}  accepted {:5}  succeeded {:5}  failed {:?}  retried {:3}  native {:4}  back after [{}] ms  longest {:.0} ms",
            self.fallback,
            self.accepted,
            self.succeeded,
            self.failed,
            self.retried,
            self.fell_back,
            recovery.join(", "),
            self.longest_ms
        )
    }
}

impl Stage {
    /// With so many browsers of each engine.
    pub(crate) async fn start(engines: &[&'static Engine], each: usize) -> anyhow::Result<Self> {
        let bridge = free_address()?;
        let proxy = Proxy::start(bridge, 1).await?;
        let config = format!(
            "[bridge]\nlisten = \"{bridge}\"\npublic = \"http://127.0.0.1:{}\"\n\
             [lanes]\nbackends = [\"wasm\"]\nthreads = 1\n[native]\nthreads = 1\n[limits]\nrestarts = 1000000\n",
            proxy.port
        );
        let browsers: Vec<_> = engines.iter().map(|engine| format!("{}={each}", engine.recipe)).collect();
        let weft = Path::new(env!("CARGO_BIN_EXE_weft"));
        let served = Served::start_with(weft, &browsers.join(","), &[("weft.toml", &config)]).await?;
        let stage = async {
            served.weft(&["models", "add", &format!("{FIXTURES}/models.toml#{MODEL}")]).await?;
            let sightings = Sightings::start(&served.url).await?;
            let questions = Arc::new(Questions::ask(&served.url).await?);
            anyhow::Ok((sightings, questions))
        };
        let (sightings, questions) = stage.await.with_context(|| log(&served))?;
        let http = reqwest::Client::new();
        let engines = engines.to_vec();
        let stage = Self { engines, each, served, proxy, sightings, questions, http };
        stage.add_hog().await?;
        Ok(stage)
    }

    async fn add_hog(&self) -> anyhow::Result<()> {
        let blob: Value = self.post("/api/v1/blobs", hog::model()).await?;
        let digest: Digest = serde_json::from_value(blob["digest"].clone()).context("an upload's digest")?;
        self.post("/api/v1/models", hog::addition(&digest).to_string()).await?;
        Ok(())
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> anyhow::Result<Value> {
        self.send(reqwest::Method::POST, path, body).await
    }

    pub(crate) async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.served.url);
        let response = self.http.request(method, url).body(body).send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        ensure!(status.is_success(), "{path}: {status} {answer}");
        Ok(answer)
    }

    /// Requests that the lanes of an instance have and have not answered.
    pub(crate) async fn running(&self, instance: &str) -> anyhow::Result<u64> {
        let listed = self.http.get(format!("{}/api/v1/lanes", self.served.url)).send().await?;
        let listed: Value = listed.error_for_status()?.json().await?;
        let lanes = listed["items"].as_array().context("lanes are a list")?;
        // A lane that is not there at the moment tells no load.
        let running = |lane: &Value| lane["load"]["running"].as_u64().unwrap_or_default();
        Ok(lanes.iter().filter(|lane| lane["instance"] == instance).map(running).sum())
    }

    /// The engine of an instance, which is named after its recipe.
    pub(crate) fn engine(&self, instance: &str) -> anyhow::Result<&'static Engine> {
        let of = |engine: &&&Engine| instance.starts_with(&format!("{}-", engine.recipe));
        self.engines.iter().find(of).copied().with_context(|| format!("{instance} is of no engine here"))
    }

    /// Waits until every lane of an engine holds the model and is proven for it.
    pub(crate) async fn proven(&self, model: &str, engine: &Engine) -> anyhow::Result<()> {
        self.sightings.all_ready(READY_WITHIN).await?;
        let which = json!({"backend": ["wasm"], "browser": [engine.recipe]}).to_string();
        let proven = self.post(&format!("/api/v1/models/{model}/verify"), which).await?;
        let lanes = proven["lanes"].as_array().context("lanes are a list")?;
        let right = lanes.iter().filter(|lane| lane["verdict"] == "verified").count();
        ensure!(right == self.each, "{model} is proven in {right} of {} lanes: {lanes:?}", self.each);
        Ok(())
    }

    /// Trials after which what the fault does is no more what it did at first: the ladder loads the page of one browser
    /// anew twice and then launches the browser anew.
    pub(crate) fn bears(&self, scenario: Scenario) -> usize {
        let reloads = scenario == Scenario::BrowserReload && self.engines.iter().any(|engine| engine.reloads);
        if reloads { 2 * self.each } else { usize::MAX }
    }

    /// One fault while requests for the whole model run. Later numbers choose other victims and the other rule for
    /// fallback.
    pub(crate) async fn trial(&self, scenario: Scenario, number: usize) -> anyhow::Result<Trial> {
        let engine = self.engines[0];
        self.proven(MODEL, engine).await?;
        let mut instances = self.sightings.instances();
        ensure!(instances.len() == INSTANCES, "{instances:?}");
        instances.rotate_left(number % INSTANCES);
        let fallback = if number % 2 == 1 { "native" } else { "none" };
        let parameters = json!({"browser": engine.recipe, "backend": "wasm", "fallback": fallback});
        let asking = Asking { parameters, tolerance: TOLERANCE };
        self.suffer(scenario, &Aim { asking, fallback, instances }).await
    }

    /// One fault while requests run.
    pub(crate) async fn suffer(&self, scenario: Scenario, aim: &Aim) -> anyhow::Result<Trial> {
        self.run(scenario, aim).await.with_context(|| format!("{}\n{}", scenario.name(), log(&self.served)))
    }

    async fn run(&self, scenario: Scenario, aim: &Aim) -> anyhow::Result<Trial> {
        let load = Load::start(&self.served.url, &self.questions, &aim.asking).await?;
        load.answers(WARM, READY_WITHIN).await?;
        let struck = scenarios::strike(self, scenario, aim, &load).await?;
        let mut recovery_ms = Vec::new();
        for (instance, at) in &struck.lost {
            let back = self.sightings.back(instance, *at, READY_WITHIN).await?;
            recovery_ms.push((back - *at).as_secs_f64() * 1e3);
        }
        if let Some((instance, root)) = &struck.kept {
            let now = scenarios::root(self, instance)?;
            ensure!(now == *root, "{instance} was launched anew: process {root} became {now}");
        }
        struck.mend();
        load.answers(WARM, READY_WITHIN).await?;
        let tally = load.finish().await?;
        law(&tally)?;
        ensure!(
            tally.longest >= struck.felt,
            "the fault was not felt: the longest request took {:?}, at least {:?} were due",
            tally.longest,
            struck.felt
        );
        ensure!(tally.retried >= struck.retried, "{} requests were tried again: {tally:?}", tally.retried);
        Ok(Trial {
            fallback: aim.fallback.to_owned(),
            accepted: tally.accepted,
            succeeded: tally.succeeded,
            failed: tally.failed,
            retried: tally.retried,
            fell_back: tally.fell_back,
            recovery_ms,
            longest_ms: tally.longest.as_secs_f64() * 1e3,
        })
    }
}

/// Every scenario leaves a lane that serves, so nothing may fail.
pub(crate) fn law(tally: &Tally) -> anyhow::Result<()> {
    ensure!(tally.strays == 0, "answers that nobody waited for: {tally:?}");
    ensure!(tally.wrong == 0, "wrong answers: {tally:?}");
    ensure!(tally.accepted == tally.succeeded + tally.failures(), "not each is answered once: {tally:?}");
    ensure!(tally.failures() == 0, "requests failed while a lane could serve: {tally:?}");
    Ok(())
}

/// A port that nobody listens on; the next moment belongs to whoever asks first.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The end of what the daemon has said.
fn log(served: &Served) -> String {
    let log = std::fs::read_to_string(served.home().join("serve.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
