//! A daemon in this process, on a port and in a home of its own.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;
use weft::{
    config::{Config, RawConfig, Surroundings},
    daemon::{Daemon, DaemonError},
    driver::{Driver, ledger::RunDir, recipe::GpuMode},
    pool::{Bounds, Fleet, InstanceLimits},
    tasks::Tasks,
};

use super::{Client, FakeBrowser, graphs, soon};

pub(crate) const LIBRARY: &str = concat!(env!("WEFT_NATIVE_DIR"), "/libonnxruntime.so.1");

pub(crate) struct TestDaemon {
    daemon: Daemon,
    pub(crate) home: Arc<TempDir>,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
}

impl TestDaemon {
    /// With an instance of each browser, settled, and the model `neg`.
    pub(crate) async fn start(browsers: &[&FakeBrowser]) -> Self {
        let daemon = Self::start_in(home(), browsers, |_| {}).await.expect("a good start");
        daemon.settled().await;
        daemon.add("neg", graphs::neg()).await;
        daemon
    }

    pub(crate) async fn start_in(
        home: Arc<TempDir>,
        browsers: &[&FakeBrowser],
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, DaemonError> {
        let fleet =
            |browser: &&FakeBrowser| fleet(&browser.name, browser.backends(), Arc::new((*browser).clone()));
        let fleets: Vec<_> = browsers.iter().map(fleet).collect();
        Self::start_with(home, move |_, _, _| fleets.clone(), change).await
    }

    pub(crate) async fn start_with(
        home: Arc<TempDir>,
        fleets: impl Fn(&Config, &Arc<RunDir>, &Tasks) -> Vec<Fleet> + Send + Sync + 'static,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, DaemonError> {
        let config = config(&home, change);
        let guarded = config.access.required;
        let daemon = Daemon::start_with(config, fleets).await?;
        let mut headers = HeaderMap::new();
        if guarded {
            let owner = format!("Bearer {}", daemon.local().key);
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&owner).expect("a header's value"));
        }
        let http = reqwest::Client::builder().no_proxy().default_headers(headers).build();
        let url = daemon.local().url;
        Ok(Self { url, daemon, home, http: http.expect("an HTTP client") })
    }

    /// What clients elsewhere call it.
    pub(crate) fn public_url(&self) -> String {
        self.daemon.url()
    }

    /// Makes a key; `order` says what differs from one that may ask and read.
    pub(crate) async fn key(&self, name: &str, order: Value) -> String {
        let mut whole = json!({"name": name, "scopes": "infer read"});
        let order = order.as_object().expect("an object").clone();
        whole.as_object_mut().expect("an object").extend(order);
        let (status, made) = self.post("/api/v1/keys", whole.to_string()).await;
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().expect("a key").to_owned()
    }

    pub(crate) async fn settled(&self) {
        soon("settling", self.daemon.settled()).await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.url).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.answer(self.http.get(format!("{}{path}", self.url))).await.1
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.answer(self.http.post(format!("{}{path}", self.url)).body(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.answer(self.http.put(format!("{}{path}", self.url)).body(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.answer(self.http.delete(format!("{}{path}", self.url))).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = soon("an answer", request.send()).await.expect("the daemon answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a whole answer");
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text:?} is no JSON")))
    }

    /// Uploads a file and names it; answers as the second step did. Its requests share no steps.
    pub(crate) async fn try_add(&self, name: &str, file: Vec<u8>) -> (u16, Value) {
        self.try_add_batching(name, file, &json!({"max": 1})).await
    }

    pub(crate) async fn try_add_batching(&self, name: &str, file: Vec<u8>, batch: &Value) -> (u16, Value) {
        let (_, upload) = self.post("/api/v1/blobs", file).await;
        let body = json!({"name": name, "digest": upload["digest"], "source": "a test", "batch": batch});
        self.post("/api/v1/models", body.to_string()).await
    }

    pub(crate) async fn add(&self, name: &str, file: Vec<u8>) {
        let (status, said) = self.try_add(name, file).await;
        assert_eq!(status, 200, "{said}");
    }

    /// Proves a model in every lane that `body` admits; answers the verdicts by backend.
    pub(crate) async fn verify(&self, model: &str, body: &Value) -> BTreeMap<String, Value> {
        let (status, shown) = self.post(&format!("/api/v1/models/{model}/verify"), body.to_string()).await;
        assert_eq!(status, 200, "{shown}");
        verdicts(&shown)
    }

    /// The latest runs, oldest first.
    pub(crate) async fn runs(&self) -> Vec<Value> {
        let page = self.get("/api/v1/runs?last=1000").await;
        let mut runs = page["items"].as_array().expect("a list").clone();
        runs.reverse();
        runs
    }

    /// One lane as the API shows it.
    pub(crate) async fn lane(&self, lane: &str) -> Value {
        let lanes = self.get("/api/v1/lanes").await;
        let found =
            lanes["items"].as_array().expect("a list").iter().find(|item| item["lane"] == lane).cloned();
        found.unwrap_or_else(|| panic!("no lane {lane} in {lanes}"))
    }

    pub(crate) async fn drain(&self) {
        soon("the end of draining", self.daemon.drain()).await;
    }

    pub(crate) async fn stop(self) -> Arc<TempDir> {
        soon("the daemon's end", self.daemon.stop()).await;
        self.home
    }
}

pub(crate) fn home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a temporary folder"))
}

/// The models' files in a folder, without what lies beside them.
pub(crate) fn blobs(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
    let mut files: Vec<_> = files.filter(named).collect();
    files.sort();
    files
}

pub(crate) fn config(home: &Arc<TempDir>, change: impl FnOnce(&mut Config)) -> Config {
    let nowhere = home.path().join("nowhere");
    let surroundings = Surroundings { home: nowhere.clone(), cache: nowhere, path: OsString::new() };
    let raw = RawConfig { listen: Some("127.0.0.1:0".to_owned()), ..RawConfig::default() };
    let mut config = raw.resolve(home.path().to_owned(), surroundings).expect("a good configuration");
    config.program = PathBuf::from(env!("CARGO_BIN_EXE_weft"));
    config.native.library = PathBuf::from(LIBRARY);
    config.native.threads = 1;
    // Looking for adapters costs more than all else at a start.
    config.native.wgpu = None;
    // Tests start processes of their own beside it.
    config.alone = false;
    change(&mut config);
    config
}

pub(crate) fn fleet(
    browser: &str,
    backends: Vec<weft::domain::BackendKind>,
    driver: Arc<dyn Driver>,
) -> Fleet {
    Fleet {
        browser: browser.to_owned(),
        version: None,
        driver,
        instances: Bounds { least: 1, most: 1 },
        backends,
        gpu: Some(GpuMode::Software),
        threads: 1,
        webnn_device: None,
        memory_max: 1 << 32,
        limits: InstanceLimits { memory: None, runs: None, idle: Duration::from_secs(600), restarts: 60 },
    }
}

pub(crate) fn verdicts(shown: &Value) -> BTreeMap<String, Value> {
    let list = shown["verdicts"].as_array().unwrap_or_else(|| panic!("no verdicts in {shown}"));
    let key = |stored: &Value| {
        let key = &stored["key"];
        format!("{}/{}", key["browser"].as_str().unwrap_or("?"), key["backend"].as_str().unwrap_or("?"))
    };
    list.iter().map(|stored| (key(stored), stored["verdict"].clone())).collect()
}
