//! Chaos: a daemon with real browsers is killed at random moments, over and over on one home. After each kill no
//! process of it is left; after the guardian, and at the latest after the next start, no profile, socket, lock or
//! temporary folder; and the store opens with whole rows.
//!
//! The kills are drawn from a seed, which is printed and may be given as [`SEED`].

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use weft::{
    domain::RunRecord,
    driver::recipe::{Places, Recipe},
};

use crate::{graphs, proof, serve::processes_of, table};

const SEED: &str = "WEFT_CHAOS_SEED";

const CYCLES: usize = 20;
const SLICE_CYCLES: usize = 50;

/// Guardian and kernel need milliseconds; a loaded machine gets this long.
const LIMIT: Duration = Duration::from_secs(60);

/// Browsers with recipes here that are asked for, as far as they are installed.
const BROWSERS: [&str; 3] = ["chromium", "firefox", "chromium-webnn"];

/// As many browsers run at once.
const BROWSERS_MAX: usize = 2;

/// When a daemon is killed, in milliseconds from the beginning of what it is named for.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Since its process was started: lock, run folder, guardian, store, first browser.
    Starting(u64),
    /// Since it listens: browsers start, requests wait for them or are computed natively.
    Launching(u64),
    /// Since a browser answered: requests run in it.
    Serving(u64),
}

impl Moment {
    fn draw(random: &mut StdRng) -> Self {
        match random.random_range(0..10) {
            0..4 => Self::Starting(random.random_range(0..250)),
            4..8 => Self::Launching(random.random_range(0..1200)),
            _ => Self::Serving(random.random_range(0..300)),
        }
    }

    fn describe(self) -> (&'static str, u64) {
        match self {
            Self::Starting(after) => ("starting", after),
            Self::Launching(after) => ("launching", after),
            Self::Serving(after) => ("serving", after),
        }
    }
}

/// One home, and a temporary folder that only its daemons use.
struct Ground {
    home: tempfile::TempDir,
    temporary: tempfile::TempDir,
    browsers: String,
    http: reqwest::Client,
}

struct Daemon {
    child: Child,
    /// Its first line, read by a thread of its own so that a kill need not wait for it.
    listening: mpsc::Receiver<String>,
}

impl Ground {
    /// `None` when no browser is installed.
    fn new() -> Option<Self> {
        let places =
            Places { cache: crate::serve::cache().unwrap(), path: std::env::var_os("PATH").unwrap() };
        let recipes = Recipe::embedded();
        let found = |name: &&&str| {
            recipes.iter().any(|recipe| recipe.name == **name && recipe.locate(&places).is_ok())
        };
        let browsers: Vec<_> =
            BROWSERS.iter().filter(found).take(BROWSERS_MAX).map(|name| format!("{name}=1")).collect();
        if browsers.is_empty() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no browser is installed");
            eprintln!("skipped: no browser of {BROWSERS:?} is installed");
            return None;
        }
        // Where what a browser leaves may be looked for, and short enough for its sockets.
        let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // One kind of lane each: the quickest to start.
        fs::write(home.path().join("weft.toml"), "lanes = { backends = [\"wasm\"] }\n").unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { home, temporary, browsers: browsers.join(","), http })
    }

    fn start(&self) -> Daemon {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(["serve", "--listen", "127.0.0.1:0", "--browsers", &self.browsers, "--home"])
            .arg(self.home.path())
            .env("TMPDIR", self.temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.log()).unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, listening) = mpsc::channel();
        std::thread::spawn(move || {
            let line = stdout.lines().next().and_then(Result::ok).unwrap_or_default();
            if let Some(url) = line.strip_prefix("listening on ") {
                // Nobody listens for a daemon that is killed while it starts.
                let _ = tell.send(url.to_owned());
            }
        });
        Daemon { child, listening }
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("serve.log")
    }

    fn runs(&self) -> Vec<String> {
        names(&self.home.path().join("run"))
    }

    /// Waits for the end of every process that knows this home, guardian included.
    fn settle(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = processes_of(self.home.path());
            let Some(first) = left.first() else { return };
            assert!(Instant::now() < deadline, "still running: {left:?}");
            let pid = first.trim_start_matches("/proc/").split(' ').next().unwrap().parse().unwrap();
            if let Some(handle) = table::open(pid) {
                assert!(table::ends(&handle, LIMIT), "still running: {left:?}");
            }
        }
    }

    /// What the folders hold once a killed daemon's processes have ended.
    /// A daemon that was killed before it had a guardian leaves its run to the next start, without any process in it.
    fn after_the_guardian(&self, moment: Moment) -> bool {
        let mut cleared = true;
        for run in self.runs() {
            let run = self.home.path().join("run").join(run);
            let inside = names(&run);
            let known = ["ledger", "guardian.log"];
            let bare = inside.iter().all(|name| known.contains(&name.as_str()));
            assert!(
                bare && matches!(moment, Moment::Starting(_)),
                "{moment:?} left {inside:?} in {}",
                run.display()
            );
            cleared = false;
        }
        if cleared {
            assert_eq!(names(self.temporary.path()), [""; 0], "{moment:?} left temporary folders");
        }
        cleared
    }

    /// What a daemon that has just started found and cleared: all folders are its own.
    fn after_the_next_start(&self, daemon: &Daemon) {
        let runs = self.runs();
        let own = format!("{}-", daemon.child.id());
        assert!(runs.len() == 1 && runs[0].starts_with(&own), "{runs:?} beside {own}");
        assert!(names(self.temporary.path()).len() <= 1, "{:?}", names(self.temporary.path()));
    }

    async fn get(&self, url: &str, path: &str) -> Value {
        self.http.get(format!("{url}{path}")).send().await.unwrap().json().await.unwrap()
    }

    async fn add_model(&self, url: &str) {
        let send = async |path: &str, body: Vec<u8>| -> Value {
            self.http.post(format!("{url}{path}")).body(body).send().await.unwrap().json().await.unwrap()
        };
        let upload = send("/api/v1/blobs", graphs::neg()).await;
        let named = json!({"name": "neg", "digest": upload["digest"], "source": "a test"});
        let added = send("/api/v1/models", named.to_string().into_bytes()).await;
        assert_eq!(added["name"], "neg", "{added}");
    }

    /// The rows that are kept, each whole.
    async fn rows(&self, url: &str) -> u64 {
        let (mut rows, mut cursor) = (0, String::new());
        loop {
            let page = self.get(url, &format!("/api/v1/runs?last=1000{cursor}")).await;
            for row in page["items"].as_array().unwrap_or_else(|| panic!("no rows in {page}")) {
                let whole: RunRecord =
                    serde_json::from_value(row.clone()).unwrap_or_else(|_| panic!("{row}"));
                assert_eq!(whole.model.as_str(), "neg");
                assert!(
                    whole.provenance.is_some() || whole.error.is_some(),
                    "neither answer nor error: {row}"
                );
                rows += 1;
            }
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A failed test leaves nobody: the guardian ends the rest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn url(&self) -> String {
        self.listening.recv_timeout(LIMIT).expect("the daemon listens")
    }
}

/// What came of one cycle.
struct Cycle {
    moment: Moment,
    /// The guardian cleared everything, and nothing was left to the next start.
    cleared: bool,
    answers: u64,
    rows_found: Option<u64>,
    swept_ms: u128,
}

impl Cycle {
    fn record(&self) -> Value {
        let (phase, after_ms) = self.moment.describe();
        json!({"phase": phase, "after_ms": after_ms, "cleared_by_guardian": self.cleared, "answers": self.answers,
            "rows_found": self.rows_found, "swept_ms": self.swept_ms})
    }
}

/// Requests without end, on a task of their own; counts the answers until the connection breaks.
async fn ask(url: String, lane: Value, first: tokio::sync::oneshot::Sender<()>) -> u64 {
    let mut first = Some(first);
    let Ok(mut client) = crate::serve::Client::connect(&url).await else { return 0 };
    let inputs = json!([{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]);
    let mut answers = 0;
    while let Ok(answer) = client.ask_with("neg", inputs.clone(), &lane).await {
        assert_eq!(answer["outputs"][0]["data"], json!([-1.0, -2.0, -3.0, -4.0]), "{answer}");
        answers += 1;
        if let Some(first) = first.take() {
            // Nobody waits where the moment does not depend on it.
            let _ = first.send(());
        }
    }
    answers
}

async fn cycle(ground: &Ground, moment: Moment) -> Cycle {
    let mut daemon = ground.start();
    let (mut rows_found, mut asking) = (None, Vec::new());
    if let Moment::Starting(after) = moment {
        tokio::time::sleep(Duration::from_millis(after)).await;
    } else {
        let url = daemon.url();
        ground.after_the_next_start(&daemon);
        rows_found = Some(ground.rows(&url).await);
        let (native_first, _) = tokio::sync::oneshot::channel();
        let (browser_first, served) = tokio::sync::oneshot::channel();
        asking.push(tokio::spawn(ask(url.clone(), json!({"backend": "ort-cpu"}), native_first)));
        asking.push(tokio::spawn(ask(url, json!({"backend": "wasm"}), browser_first)));
        let after = match moment {
            Moment::Serving(after) => {
                tokio::time::timeout(LIMIT, served)
                    .await
                    .expect("a browser answers in time")
                    .expect("it answers");
                after
            }
            Moment::Launching(after) | Moment::Starting(after) => after,
        };
        tokio::time::sleep(Duration::from_millis(after)).await;
    }
    daemon.kill();
    let killed = Instant::now();
    ground.settle();
    let swept_ms = killed.elapsed().as_millis();
    let cleared = ground.after_the_guardian(moment);
    let mut answers = 0;
    for asking in asking {
        answers += asking.await.unwrap();
    }
    Cycle { moment, cleared, answers, rows_found, swept_ms }
}

/// Cycles on one home, from its first daemon to one that ends well; `None` when there is no browser.
async fn chaos(seed: u64, cycles: usize) -> Option<Value> {
    let ground = Ground::new()?;
    eprintln!("chaos: {cycles} kills, {SEED}={seed}, {}", ground.browsers);
    let mut random = StdRng::seed_from_u64(seed);
    let daemon = ground.start();
    ground.add_model(&daemon.url()).await;
    end(&ground, daemon);
    let mut records = Vec::new();
    for number in 0..cycles {
        let moment = Moment::draw(&mut random);
        eprintln!("chaos: kill {number}: {moment:?}");
        records.push(cycle(&ground, moment).await);
    }
    let daemon = ground.start();
    let url = daemon.url();
    ground.after_the_next_start(&daemon);
    let rows = ground.rows(&url).await;
    end(&ground, daemon);
    assert_eq!((ground.runs(), names(ground.temporary.path())), (vec![], vec![]), "left after a good end");
    let answers: u64 = records.iter().map(|cycle| cycle.answers).sum();
    assert!(answers > 0 && rows > 0, "{answers} answers and {rows} rows: nothing was under way");
    Some(json!({
        "seed": seed,
        "browsers": ground.browsers,
        "kills": records.len(),
        "cleared_by_guardian": records.iter().filter(|cycle| cycle.cleared).count(),
        "left_to_next_start": records.iter().filter(|cycle| !cycle.cleared).count(),
        "survivors": 0,
        "answers": answers,
        "rows": rows,
        "cycles": records.iter().map(Cycle::record).collect::<Vec<_>>(),
    }))
}

fn end(ground: &Ground, mut daemon: Daemon) {
    kill(Pid::from_raw(daemon.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = daemon.child.wait().unwrap();
    assert!(status.success(), "{status}: {}", fs::read_to_string(ground.log()).unwrap_or_default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_at_random_leaves_nothing() {
    let given = std::env::var(SEED).ok().map(|seed| seed.parse().expect("a seed is a number"));
    chaos(given.unwrap_or_else(rand::random), CYCLES).await;
}

/// One slice of the thousand kills of `make prove`; it is written when it is whole, and is then not run again.
async fn slice(number: usize) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/measurements/chaos")
        .join(format!("slice-{number:02}.json"));
    let known: Option<Value> = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(known) = known {
        eprintln!("{} was run at {}", file.display(), known["commit"]);
        return;
    }
    let commit = proof::commit();
    let Some(mut record) = chaos(rand::random(), SLICE_CYCLES).await else { return };
    record["commit"] = json!(commit);
    record["machine"] = json!(proof::machine());
    record["command"] = json!(proof::COMMAND);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("{record}\n")).unwrap();
}

/// A test per slice: each has the time that one test gets, and a run that was cut short goes on where it was.
macro_rules! slices {
    ($($name:ident = $number:literal,)*) => {
        /// Together they are `make prove`'s thousand kills.
        mod prove {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "fifty kills of a thousand: run by `make prove`"]
                async fn $name() {
                    super::slice($number).await;
                }
            )*
        }
    };
}

slices! {
    kills_00 = 0, kills_01 = 1, kills_02 = 2, kills_03 = 3, kills_04 = 4,
    kills_05 = 5, kills_06 = 6, kills_07 = 7, kills_08 = 8, kills_09 = 9,
    kills_10 = 10, kills_11 = 11, kills_12 = 12, kills_13 = 13, kills_14 = 14,
    kills_15 = 15, kills_16 = 16, kills_17 = 17, kills_18 = 18, kills_19 = 19,
}
