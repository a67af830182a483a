//! What the tests of drivers share: a home, a page's server, and what is left of either.

use std::{
    env, fs,
    future::Future,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::unistd::Pid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use weft::{
    driver::{
        Driver, Drivers, Instance, LaunchOrder,
        ledger::RunDir,
        recipe::{DriverKind, GpuMode, Places, Recipe},
    },
    tasks::Tasks,
};

/// A launch takes half a second here, a loaded machine gets this long.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Says what the browser can compute with, by trying.
pub(crate) const PROBE: &str = r#"<!doctype html><script type="module">
const trial = async (name, tried) => {
  let said;
  try { said = await tried(); } catch (error) { said = `error ${error}`; }
  await fetch(`/${name}?${encodeURIComponent(said)}`);
};
await trial("webgpu", async () => {
  const adapter = await navigator.gpu?.requestAdapter();
  const info = adapter?.info;
  return info ? `${info.vendor} ${info.architecture} ${info.isFallbackAdapter}`.trim() : "none";
});
await trial("webnn", async () => {
  const context = await navigator.ml?.createContext({ deviceType: "cpu" });
  return context ? "context" : "none";
});
await trial("focus", async () => `${document.visibilityState} ${document.hasFocus()}`);
</script>"#;

/// Everything that one test starts, below one home.
pub(crate) struct Stage {
    pub(crate) home: tempfile::TempDir,
    pub(crate) run: Arc<RunDir>,
    pub(crate) tasks: Tasks,
}

impl Stage {
    pub(crate) fn set() -> Self {
        let home = tempfile::tempdir().unwrap();
        let run = RunDir::create(home.path()).unwrap();
        Self { home, run, tasks: Tasks::new() }
    }

    pub(crate) fn driver(&self, recipe: Recipe, places: Places) -> Arc<dyn Driver> {
        let (run, tasks) = (Arc::clone(&self.run), self.tasks.clone());
        Drivers { places, run, tasks, display: None, certificate_pin: None }.of(recipe)
    }

    /// A browser that is this shell script, for this driver.
    pub(crate) fn script(&self, driver: &str, lines: &str) -> Arc<dyn Driver> {
        let program = self.home.path().join("script");
        fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let recipe = recipe("script", driver, "find = ['{cache}/script']");
        self.driver(recipe, Places { cache: self.home.path().to_owned(), path: "".into() })
    }

    /// Processes that carry or mention the run directory.
    pub(crate) fn processes(&self) -> Vec<i32> {
        processes(&[self.run.path()])
    }

    /// The browser's first process, as the ledger has it.
    pub(crate) fn leader(&self) -> Pid {
        let ledger = fs::read_to_string(self.run.path().join("ledger")).unwrap();
        let entry: serde_json::Value = serde_json::from_str(ledger.lines().nth(1).unwrap()).unwrap();
        Pid::from_raw(i32::try_from(entry["pid"].as_i64().unwrap()).unwrap())
    }

    /// The processes of the browser's group with these words on their command lines.
    pub(crate) fn members(&self, words: &str) -> Vec<i32> {
        let group = Some(self.leader());
        let mut pids = processes(&[Path::new(words)]);
        pids.retain(|pid| nix::unistd::getpgid(Some(Pid::from_raw(*pid))).ok() == group);
        pids
    }

    /// Nothing that this test started is left, in the process table or on disk.
    pub(crate) async fn assert_clear(self) {
        assert_eq!(self.processes(), [] as [i32; 0], "processes are left");
        let left: Vec<_> =
            fs::read_dir(self.run.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["ledger"], "folders are left");
        let ledger = fs::read_to_string(self.run.path().join("ledger")).unwrap();
        let line: serde_json::Value = serde_json::from_str(ledger.lines().next().unwrap()).unwrap();
        let scratch = PathBuf::from(line["scratch"].as_str().unwrap());
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "scratch is left");
        fs::remove_dir(scratch).unwrap();
        timeout(LIMIT, self.tasks.stop()).await.expect("every task ends");
    }
}

/// Processes whose command line or environment holds all of these.
pub(crate) fn processes(words: &[&Path]) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        let holds = |word: &&Path| {
            let word = word.as_os_str().as_encoded_bytes();
            word.is_empty() || text.windows(word.len()).any(|window| window == word)
        };
        *pid != std::process::id().cast_signed() && words.iter().all(holds)
    })
    .collect()
}

/// A page's server: every request's path comes out of the channel.
pub(crate) async fn serve(page: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (requests, arrived) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, page, requests.clone()));
        }
    });
    (url, arrived)
}

async fn answer(mut stream: TcpStream, page: &'static str, requests: mpsc::Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    // A test that has seen enough no longer listens.
    let _ = requests.send(path).await;
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    );
    let _ = stream.write_all(reply.as_bytes()).await;
}

pub(crate) async fn asked_for(arrived: &mut mpsc::Receiver<String>, start: &str) -> String {
    let wanted = async {
        loop {
            let path = arrived.recv().await.expect("the server listens");
            if let Some(rest) = path.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    };
    timeout(LIMIT, wanted).await.unwrap_or_else(|_| panic!("no request for {start} within {LIMIT:?}"))
}

pub(crate) fn places() -> Places {
    let under_home = || PathBuf::from(env::var_os("HOME").unwrap()).join(".cache");
    let cache = env::var_os("WEFT_CACHE").map(PathBuf::from);
    let shared = || env::var_os("XDG_CACHE_HOME").map_or_else(under_home, PathBuf::from).join("weft");
    Places { cache: cache.unwrap_or_else(shared), path: env::var_os("PATH").unwrap() }
}

pub(crate) fn order(name: &str, url: &str) -> LaunchOrder {
    LaunchOrder { name: name.to_owned(), url: url.to_owned(), gpu: GpuMode::Software, deadline: LIMIT }
}

/// What setup brings; the others are tried where somebody has them.
const EXPECTED: [&str; 3] = ["chromium", "chromium-webnn", "firefox"];

/// Runs a case on every browser that is installed and started by us; CI must have those that setup brings.
pub(crate) async fn on_each<F: Future<Output = ()>>(case: impl Fn(Stage, Recipe) -> F) {
    for recipe in Recipe::embedded() {
        if recipe.driver == DriverKind::Webdriver {
            continue;
        }
        if let Err(missing) = recipe.locate(&places()) {
            let expected = EXPECTED.contains(&recipe.name.as_str());
            assert!(!expected || env::var("CI").as_deref() != Ok("true"), "{missing}");
            let line = format!("skipped on {}: {missing}\n", recipe.name);
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            continue;
        }
        case(Stage::set(), recipe).await;
    }
}

/// A recipe of one's own, with nothing but its place.
pub(crate) fn recipe(name: &str, driver: &str, place: &str) -> Recipe {
    let text = format!(
        "name = '{name}'\nproduct = 'Script'\ndriver = '{driver}'\n{place}\ninstall = 'none'\n\
        backends = ['wasm']\ngpu.hardware = {{}}\ngpu.software = {{}}\nlimits = {{ instances = 1 }}"
    );
    Recipe::parse(&format!("{name}.toml"), &text).unwrap()
}

pub(crate) async fn open(stage: &Stage, recipe: &Recipe, url: &str) -> Box<dyn Instance> {
    let name = format!("{}-1", recipe.name);
    stage.driver(recipe.clone(), places()).launch(order(&name, url)).await.unwrap()
}

pub(crate) async fn lost(instance: &dyn Instance) -> String {
    timeout(LIMIT, instance.lost()).await.expect("the loss is noticed")
}
