//! Real browsers, launched, lost and closed.

use std::{
    env, fs,
    future::Future,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use weft::{
    driver::{
        Driver as _, DriverError, Instance, LaunchOrder,
        cdp::CdpDriver,
        ledger::RunDir,
        recipe::{DriverKind, GpuMode, Places, Recipe},
    },
    tasks::Tasks,
};

/// A launch takes half a second here, a loaded machine gets this long.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Says what the browser can compute with, by trying.
const PROBE: &str = r#"<!doctype html><script type="module">
const trial = async (name, tried) => {
  let said;
  try { said = await tried(); } catch (error) { said = `error ${error}`; }
  await fetch(`/${name}?${encodeURIComponent(said)}`);
};
await trial("webgpu", async () => {
  const adapter = await navigator.gpu?.requestAdapter();
  return adapter ? `${adapter.info.vendor} ${adapter.info.architecture}` : "none";
});
await trial("webnn", async () => {
  const context = await navigator.ml?.createContext({ deviceType: "cpu" });
  return context ? "context" : "none";
});
await trial("focus", async () => `${document.visibilityState} ${document.hasFocus()}`);
</script>"#;

/// Everything that one test starts, below one home.
pub(crate) struct Stage {
    home: tempfile::TempDir,
    pub(crate) run: Arc<RunDir>,
    pub(crate) tasks: Tasks,
}

impl Stage {
    pub(crate) fn set() -> Self {
        let home = tempfile::tempdir().unwrap();
        let run = RunDir::create(home.path()).unwrap();
        Self { home, run, tasks: Tasks::new() }
    }

    fn driver(&self, recipe: Recipe, places: Places) -> CdpDriver {
        CdpDriver::new(recipe, places, Arc::clone(&self.run), self.tasks.clone())
    }

    /// A browser that is this shell script.
    fn script(&self, lines: &str) -> CdpDriver {
        let program = self.home.path().join("script");
        fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let recipe = "name = 'script'\nproduct = 'Script'\ndriver = 'cdp'\nfind = ['{cache}/script']\n\
            install = 'none'\nbackends = ['wasm']\ngpu.hardware = {}\ngpu.software = {}\n\
            limits = { instances = 1 }";
        let recipe = Recipe::parse("script.toml", recipe).unwrap();
        self.driver(recipe, Places { cache: self.home.path().to_owned(), path: "".into() })
    }

    /// Processes that carry or mention the run directory.
    pub(crate) fn processes(&self) -> Vec<i32> {
        processes(&[self.run.path()])
    }

    /// The browser's first process, as the ledger has it.
    fn leader(&self) -> Pid {
        let ledger = fs::read_to_string(self.run.path().join("ledger")).unwrap();
        let entry: serde_json::Value = serde_json::from_str(ledger.lines().nth(1).unwrap()).unwrap();
        Pid::from_raw(i32::try_from(entry["pid"].as_i64().unwrap()).unwrap())
    }

    /// The processes of the browser's group with these words on their command lines.
    fn members(&self, words: &str) -> Vec<i32> {
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

/// Runs a case on every browser that is installed; CI must have them all.
async fn on_each<F: Future<Output = ()>>(case: impl Fn(Stage, Recipe) -> F) {
    for recipe in Recipe::embedded().into_iter().filter(|recipe| recipe.driver == DriverKind::Cdp) {
        if let Err(missing) = recipe.locate(&places()) {
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
            let line = format!("skipped on {}: {missing}\n", recipe.name);
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            continue;
        }
        case(Stage::set(), recipe).await;
    }
}

async fn open(stage: &Stage, recipe: &Recipe, url: &str) -> Box<dyn Instance> {
    let name = format!("{}-1", recipe.name);
    stage.driver(recipe.clone(), places()).launch(order(&name, url)).await.unwrap()
}

pub(crate) async fn lost(instance: &dyn Instance) -> String {
    timeout(LIMIT, instance.lost()).await.expect("the loss is noticed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_opens_computes_and_leaves_nothing() {
    on_each(|stage, recipe| async move {
        let (url, mut arrived) = serve(PROBE).await;
        let instance = open(&stage, &recipe, &url).await;
        asked_for(&mut arrived, "/").await;
        assert!(instance.version().starts_with(|c: char| c.is_ascii_digit()), "{}", instance.version());
        assert_eq!(instance.sandbox(), !nix::unistd::geteuid().is_root());
        assert!(instance.flags().contains(&"--use-webgpu-adapter=swiftshader".to_owned()));
        assert!(!stage.processes().is_empty());

        assert_eq!(asked_for(&mut arrived, "/webgpu?").await, "google%20swiftshader", "{}", recipe.name);
        let webnn = asked_for(&mut arrived, "/webnn?").await;
        assert_eq!(webnn == "context", recipe.name == "chromium-webnn", "{}: {webnn}", recipe.name);
        assert_eq!(asked_for(&mut arrived, "/focus?").await, "visible%20true", "{}", recipe.name);

        let lost = instance.lost();
        instance.close().await;
        assert_eq!(timeout(LIMIT, lost).await.unwrap(), "the browser was closed");
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_one_product_share_nothing() {
    on_each(|stage, recipe| async move {
        let (url, mut arrived) = serve("two").await;
        let driver = stage.driver(recipe, places());
        let (one, two) = tokio::join!(driver.launch(order("x-1", &url)), driver.launch(order("x-2", &url)));
        let (one, two) = (one.unwrap(), two.unwrap());
        asked_for(&mut arrived, "/").await;
        one.close().await;
        assert!(!stage.processes().is_empty());
        assert!(timeout(Duration::from_millis(200), two.lost()).await.is_err(), "closing one lost the other");
        two.close().await;
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_instance_is_ended_all_the_same() {
    on_each(|stage, recipe| async move {
        let (url, _arrived) = serve("dropped").await;
        drop(open(&stage, &recipe, &url).await);
        timeout(LIMIT, stage.tasks.stop()).await.expect("every task ends");
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_browser_is_lost_with_its_status() {
    on_each(|stage, recipe| async move {
        let (url, _arrived) = serve("killed").await;
        let instance = open(&stage, &recipe, &url).await;
        kill(stage.leader(), Signal::SIGKILL).unwrap();
        let reason = lost(&*instance).await;
        assert!(reason.contains("signal: 9"), "{reason}");
        assert!(reason.contains("DevTools listening on"), "{reason}");
        instance.close().await;
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_page_is_lost() {
    on_each(|stage, recipe| async move {
        let (url, mut arrived) = serve("crashed").await;
        let instance = open(&stage, &recipe, &url).await;
        asked_for(&mut arrived, "/").await;
        let renderers = stage.members("--type=renderer");
        assert!(!renderers.is_empty());
        for pid in renderers {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        let reason = lost(&*instance).await;
        assert!(reason.starts_with("the page crashed"), "{reason}");
        instance.close().await;
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_browser_is_lost_and_still_closes() {
    on_each(|stage, recipe| async move {
        let (url, _arrived) = serve("stopped").await;
        let instance = open(&stage, &recipe, &url).await;
        for pid in stage.members("") {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        }
        let reason = lost(&*instance).await;
        assert!(reason.contains("no sign of life"), "{reason}");
        instance.close().await;
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_open_is_an_error() {
    on_each(|stage, recipe| async move {
        let refused = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("http://{}/", listener.local_addr().unwrap())
        };
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unanswered = format!("http://{}/", silent.local_addr().unwrap());
        let cases = [
            ("refused", refused, LIMIT, "ERR_CONNECTION_REFUSED"),
            ("unanswered", unanswered, Duration::from_secs(3), "did not answer within"),
        ];
        for (case, url, deadline, words) in cases {
            let driver = stage.driver(recipe.clone(), places());
            let launched = driver.launch(LaunchOrder { deadline, ..order("x-1", &url) }).await;
            match launched.err() {
                Some(DriverError::Navigate { message }) => {
                    assert!(message.contains(words), "{case}: {message}");
                }
                other => panic!("{case}: {other:?}"),
            }
        }
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_at_once_tells_its_last_words() {
    let stage = Stage::set();
    let driver = stage.script("echo cannot open display >&2; exit 7");
    match driver.launch(order("x-1", "about:blank")).await.err() {
        Some(DriverError::Launch { status, last_lines, .. }) => {
            assert_eq!((status.as_str(), last_lines.as_str()), ("exit status: 7", "cannot open display"));
        }
        other => panic!("{other:?}"),
    }
    stage.assert_clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_speaks_is_given_up_at_the_deadline() {
    let cases = [
        ("silent", "echo starting >&2; exec sleep 1000", "starting"),
        ("deaf", "trap '' TERM; echo starting >&2; sleep 1000; sleep 1000", "starting"),
        ("nobody there", "echo DevTools listening on ws://127.0.0.1:9/ >&2; exec sleep 1000", "refused"),
    ];
    for (case, lines, words) in cases {
        let stage = Stage::set();
        let started = Instant::now();
        let deadline = Duration::from_millis(500);
        let launched =
            stage.script(lines).launch(LaunchOrder { deadline, ..order("x-1", "about:blank") }).await;
        match launched.err() {
            Some(DriverError::Connect { last_lines, .. }) => {
                assert!(last_lines.contains(words), "{case}: {last_lines}");
            }
            other => panic!("{case}: {other:?}"),
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{case}: {:?}", started.elapsed());
        stage.assert_clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_why() {
    let stage = Stage::set();
    let driver = stage.script("exit 0");
    fs::write(stage.home.path().join("script"), "#!/nowhere/shell\n").unwrap();
    let cases = [("bad interpreter", "x-1"), ("a name that is a path", "../x")];
    for (case, name) in cases {
        let launched = driver.launch(order(name, "about:blank")).await;
        assert!(matches!(launched.err(), Some(DriverError::Spawn { .. })), "{case}");
    }
    fs::remove_file(stage.home.path().join("script")).unwrap();
    let launched = driver.launch(order("x-1", "about:blank")).await;
    assert!(matches!(launched.err(), Some(DriverError::NotInstalled { .. })));
    stage.assert_clear().await;
}
