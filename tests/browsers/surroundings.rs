//! Surroundings that are not a developer's machine: a container without an init, an ordinary user with the sandbox on,
//! no room for profiles or models, no file descriptors, no room for processes.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command as Blocking,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::{Value, json};
use tokio::process::Command;
use weft::driver::recipe::{Places, Recipe};

use crate::{
    daemon::{FIXTURES, frame},
    serve::{Client, Lane, Served, processes_of},
    silero, table,
};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");
const NATIVE: Lane = Lane { browser: "native", backend: "ort-cpu" };
const WASM: Lane = Lane { browser: "chromium", backend: "wasm" };

/// Debian's `nobody`, who exists everywhere and owns nothing.
const NOBODY: u32 = 65534;

/// Several launches in a row, ever more slowly, before an instance is given up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(60);

/// The browsers that are tried as an ordinary user, as far as there are recipes for them.
const AS_A_USER: [&str; 3] = ["chromium", "firefox", "webkitgtk"];

fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// A browser of this name, unless its recipe is to come or it is not installed here.
fn installed(name: &str) -> bool {
    let Some(recipe) = Recipe::embedded().into_iter().find(|recipe| recipe.name == name) else {
        skipped(&format!("there is no recipe {name}"));
        return false;
    };
    let cache = crate::serve::cache().unwrap();
    let places = Places { cache: cache.clone(), path: std::env::var_os("PATH").unwrap() };
    let found = recipe.locate(&places);
    if let Err(error) = &found {
        crate::skip(name, Path::new(&error.to_string()));
    }
    found.is_ok()
}

/// A command in namespaces of its own, where making them is allowed.
fn unshare(namespaces: &[&str]) -> Option<Command> {
    let mut arguments = namespaces.to_vec();
    if !geteuid().is_root() {
        arguments.extend(["--user", "--map-root-user"]);
    }
    let allowed = Blocking::new("unshare").args(&arguments).args(["--fork", "true"]).output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        skipped(&format!("this machine does not allow unshare {}", arguments.join(" ")));
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(arguments);
    Some(command)
}

async fn with_models(served: Served) -> (Served, Client) {
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml")]).await.unwrap();
    let client = served.connect().await.unwrap();
    (served, client)
}

/// An answer of the lane, with its provenance.
async fn answered(client: &mut Client, lane: Lane) -> Value {
    let state = json!(vec![0.0f32; silero::STATE_SHAPE.iter().product()]);
    let answer = client.ask("silero-vad", frame(&vec![0.01; silero::FRAME], &state), lane).await.unwrap();
    let provenance = answer["parameters"]["provenance"].clone();
    assert_eq!(
        (&provenance["browser"], &provenance["backend"]),
        (&json!(lane.browser), &json!(lane.backend)),
        "{answer}"
    );
    provenance
}

/// The daemon's browser, by the command line that names its profile. Its zygotes and pages do not.
fn browser_of(run: &Path) -> i32 {
    let profile = format!("\0--user-data-dir={}", run.display());
    let first = |pid: &i32| {
        !fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("\0--type=")
    };
    table::saying(&profile).into_iter().find(first).expect("the browser runs")
}

#[tokio::test]
async fn it_works_as_the_first_process_of_a_container() {
    if !installed("chromium") {
        return;
    }
    let Some(mut unshare) = unshare(&["--pid", "--mount-proc", "--kill-child"]) else { return };
    unshare.arg("--fork").arg(WEFT);
    let home = tempfile::tempdir().unwrap();
    let served = Served::launch(unshare, Path::new(WEFT), home, "chromium=1").await.unwrap();
    let outer = served.pid().unwrap().as_raw();
    let daemon = table::children(outer)[0].pid;
    let record: Value =
        serde_json::from_slice(&fs::read(served.home().join("daemon.json")).unwrap()).unwrap();
    assert_eq!(record["pid"], 1);
    let (served, mut client) = with_models(served).await;
    answered(&mut client, WASM).await;

    // Orphans of others in the container: one that ends and one that lives, which is none of our business.
    let stranger = format!("{}", 1_000_000_000 + u64::from(rand::random::<u32>()));
    let entered = Blocking::new("nsenter")
        .args(["--target", &daemon.to_string(), "--pid", "--mount", "sh", "-c"])
        .arg(format!("true & sleep {stranger} & exit"))
        .status()
        .unwrap();
    assert!(entered.success());
    // Helpers of the browser lose their parent.
    kill(Pid::from_raw(browser_of(&served.home().join("run"))), Signal::SIGKILL).unwrap();
    answered(&mut client, WASM).await;
    table::until("an end of all zombies", Duration::from_secs(30), || {
        table::children(daemon).iter().all(|child| !child.zombie)
    });
    assert_eq!(table::saying(&stranger).len(), 1, "a stranger was killed");

    // `unshare` itself passes no signal on.
    kill(Pid::from_raw(daemon), Signal::SIGTERM).unwrap();
    let home = served.ended().await.unwrap();
    assert_eq!(fs::read_dir(home.path().join("run")).unwrap().count(), 0);
    assert_eq!(processes_of(home.path()), Vec::<String>::new());
    assert_eq!(table::saying(&stranger), [] as [i32; 0], "the container went with its first process");
}

/// A folder that `nobody` can reach and owns, with the program and its libraries when those lie elsewhere.
fn for_nobody() -> (tempfile::TempDir, Command) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(WEFT);
    fs::create_dir(home.path().join("tmp")).unwrap();
    if geteuid().is_root() {
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = home.path().join("program");
        fs::create_dir(&program).unwrap();
        fs::copy(WEFT, program.join("weft")).unwrap();
        for library in ["libduckdb.so", "libonnxruntime.so.1"] {
            fs::copy(Path::new(env!("WEFT_NATIVE_DIR")).join(library), program.join(library)).unwrap();
        }
        for owned in [home.path().to_owned(), home.path().join("tmp")] {
            chown(owned, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command = Command::new(program.join("weft"));
        command.uid(NOBODY).gid(NOBODY).env("LD_LIBRARY_PATH", &program);
    }
    let cache = home.path().join("cache");
    command.env("HOME", home.path()).env("TMPDIR", home.path().join("tmp")).env("WEFT_CACHE", cache);
    command.current_dir(home.path());
    (home, command)
}

/// Why the kernel lets an ordinary user have no sandbox; a test of one proves nothing then.
fn namespaces_forbidden() -> Option<&'static str> {
    let mut unshare = Blocking::new("unshare");
    unshare.args(["--user", "--map-root-user", "true"]);
    if geteuid().is_root() {
        use std::os::unix::process::CommandExt as _;
        unshare.uid(NOBODY).gid(NOBODY);
    }
    match unshare.output() {
        Ok(tried) if tried.status.success() => None,
        _ => Some("the kernel forbids user namespaces to ordinary users here"),
    }
}

#[tokio::test]
async fn an_ordinary_user_has_the_sandbox_on() {
    if let Some(why) = namespaces_forbidden() {
        return skipped(why);
    }
    for name in AS_A_USER {
        if !installed(name) {
            continue;
        }
        let (home, command) = for_nobody();
        let served = Served::launch(command, Path::new(WEFT), home, &format!("{name}=1")).await.unwrap();
        if geteuid().is_root() {
            use std::os::unix::fs::MetadataExt as _;
            let daemon = fs::metadata(format!("/proc/{}", served.pid().unwrap())).unwrap();
            assert_eq!(daemon.uid(), NOBODY, "the test would prove nothing");
        }
        let (served, mut client) = with_models(served).await;
        let provenance = answered(&mut client, Lane { browser: name, backend: "wasm" }).await;
        assert_eq!(provenance["sandbox"], true, "{provenance}");
        let temporary = served.home().join("tmp");
        assert!(fs::read_dir(&temporary).unwrap().count() > 0, "its sockets are there");
        kill(served.pid().unwrap(), Signal::SIGTERM).unwrap();
        let home = served.ended().await.unwrap();
        assert_eq!(fs::read_dir(home.path().join("run")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(home.path().join("tmp")).unwrap().count(), 0);
        assert_eq!(processes_of(home.path()), Vec::<String>::new());
    }
}

/// The instance as the API shows it, asked over a connection that is open already.
async fn instance(http: &reqwest::Client, url: &str, id: &str) -> Value {
    let shown: Value =
        http.get(format!("{url}/api/v1/instances")).send().await.unwrap().json().await.unwrap();
    let items = shown["items"].as_array().unwrap().clone();
    items.into_iter().find(|item| item["instance"] == id).expect("it is configured")
}

/// Waits until the instance is given up, and answers why.
async fn given_up(http: &reqwest::Client, url: &str, id: &str) -> String {
    let wait = async {
        loop {
            let shown = instance(http, url, id).await;
            if shown["state"] == "failed" {
                return shown["reason"].as_str().expect("a failed instance says why").to_owned();
            }
            // Nothing that this connection hears tells of a state.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GIVEN_UP_WITHIN, wait).await.expect("the instance is given up")
}

#[tokio::test]
async fn a_full_disk_for_profiles_fails_an_instance_and_no_other() {
    if !installed("chromium") {
        return;
    }
    let Some(mut command) = unshare(&["--mount"]) else { return };
    // The mount is the daemon's alone and goes with it.
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    fs::create_dir(&run).unwrap();
    let mount = r#"mount -t tmpfs -o size=400m,mode=700 weft "$0" && exec "$@""#;
    command.args(["sh", "-c", mount]).arg(&run).arg(WEFT);
    let served = Served::launch(command, Path::new(WEFT), home, "chromium=2").await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (served, mut client) = with_models(served).await;
    answered(&mut client, WASM).await;
    table::until("both browsers", GIVEN_UP_WITHIN, || {
        ["chromium-1", "chromium-2"]
            .iter()
            .all(|name| !table::saying(&format!("/{name}/profile\0")).is_empty())
    });
    let inside = format!("/proc/{}/root{}", served.pid().unwrap(), run.display());
    fill(&Path::new(&inside).join("filler"));
    let own = fs::read_dir(&inside).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
    let second = browser_of(&run.join(own.file_name()).join("chromium-2"));
    kill(Pid::from_raw(second), Signal::SIGKILL).unwrap();
    let why = given_up(&http, &served.url, "chromium-2").await;
    assert!(why.contains("no room for a profile") && why.contains("MiB left"), "{why}");
    // The other instance and the native lane serve on.
    answered(&mut client, WASM).await;
    answered(&mut client, NATIVE).await;
    served.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_for_models_refuses_by_name_and_leaves_what_there_was() {
    let Some(mut command) = unshare(&["--mount"]) else { return };
    let home = tempfile::tempdir().unwrap();
    let (models, downloads) = (home.path().join("models"), home.path().join("downloads"));
    fs::create_dir(&models).unwrap();
    fs::create_dir(&downloads).unwrap();
    let mount = r#"mount -t tmpfs -o size=6m,mode=700 weft "$0" && mount -t tmpfs -o size=4m,mode=700 weft "$1" &&
        shift && exec "$@""#;
    command.args(["sh", "-c", mount]).args([&models, &downloads]).arg(WEFT);
    let served = Served::launch(command, Path::new(WEFT), home, "chromium=0").await.unwrap();
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml#silero-vad")]).await.unwrap();
    let mut client = served.connect().await.unwrap();
    let inside = format!("/proc/{}/root{}", served.pid().unwrap(), models.display());
    let files = || {
        let names = fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = files();
    // The daemon closes a connection whose body it refused in the middle.
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let upload = http.post(format!("{}/api/v1/blobs", served.url)).body(vec![1; 8 << 20]).send();
    let refused: Value = upload.await.unwrap().json().await.unwrap();
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("No space left")), "{refused}");
    assert_eq!(files(), before);
    let api = async |path: &str, body: Value| -> Value {
        let sent = http.post(format!("{}/api/v1/{path}", served.url)).body(body.to_string()).send();
        sent.await.unwrap().json().await.unwrap()
    };
    let ordered = api("downloads", json!({"source": large(8 << 20)})).await;
    let ended =
        http.get(format!("{}/api/v1/downloads/{}?wait=30s", served.url, ordered["id"].as_str().unwrap()));
    let refused: Value = ended.send().await.unwrap().json().await.unwrap();
    assert!(refused["error"].to_string().contains("No space left"), "{refused}");
    fill(&Path::new(&inside).join("filler"));
    let refused = api("conversions", json!({"model": "silero-vad", "precision": "fp16"})).await;
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("No space left")), "{refused}");
    fs::remove_file(Path::new(&inside).join("filler")).unwrap();
    assert_eq!(files(), before);
    // What is there serves on, and what there is room for comes.
    answered(&mut client, NATIVE).await;
    let upload = http.post(format!("{}/api/v1/blobs", served.url)).body(vec![1; 1 << 20]).send();
    assert!(upload.await.unwrap().status().is_success());
    served.stop().await.unwrap();
}

/// Where a file of this many bytes is to be had, as often as it is asked for.
fn large(bytes: usize) -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let asked = BufReader::new(stream.try_clone().unwrap()).lines();
            asked.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n");
            // Whoever has no room hangs up.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![1; bytes]));
        }
    });
    format!("http://{address}/model.onnx")
}

/// Leaves nothing of the file system, as far as it gives.
fn fill(file: &Path) {
    use std::io::Write as _;
    let mut filler = fs::File::create(file).unwrap();
    let block = vec![1; 1 << 20];
    while filler.write_all(&block).is_ok() {}
}

/// Sets a limit of the running daemon, as its own user: that needs no privilege.
fn limit(served: &Served, resource: &str) {
    use std::os::unix::{fs::MetadataExt as _, process::CommandExt as _};
    let pid = served.pid().unwrap();
    let mut prlimit = Blocking::new("prlimit");
    if geteuid().is_root() {
        let daemon = fs::metadata(format!("/proc/{pid}")).unwrap();
        prlimit.uid(daemon.uid()).gid(daemon.gid());
    }
    let status = prlimit.args(["--pid", &pid.to_string(), resource]).status().unwrap();
    assert!(status.success(), "prlimit {resource}");
}

/// Has the browser of a daemon with too little launched anew, and answers why that failed.
async fn starved(served: &Served, client: &mut Client, limits: [&str; 2]) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    instance(&http, &served.url, "chromium-1").await;
    let [starving, fed] = limits;
    limit(served, starving);
    kill(Pid::from_raw(browser_of(&served.home().join("run"))), Signal::SIGKILL).unwrap();
    let why = given_up(&http, &served.url, "chromium-1").await;
    // What needs nothing new serves on.
    answered(client, NATIVE).await;
    limit(served, fed);
    why
}

#[tokio::test]
async fn without_descriptors_an_instance_fails_and_the_daemon_lives() {
    if !installed("chromium") {
        return;
    }
    let served = Served::start(Path::new(WEFT), "chromium=1").await.unwrap();
    let (served, mut client) = with_models(served).await;
    for lane in [WASM, NATIVE] {
        answered(&mut client, lane).await;
    }
    let why = starved(&served, &mut client, ["--nofile=8:", "--nofile=1000:"]).await;
    assert!(why.contains("Too many open files"), "{why}");
    served.stop().await.unwrap();
}

#[tokio::test]
async fn without_room_for_processes_an_instance_fails_and_the_daemon_lives() {
    if !installed("chromium") {
        return;
    }
    // The limit does not bind root.
    let (home, command) = for_nobody();
    let served = Served::launch(command, Path::new(WEFT), home, "chromium=1").await.unwrap();
    let (served, mut client) = with_models(served).await;
    for lane in [WASM, NATIVE] {
        answered(&mut client, lane).await;
    }
    let why = starved(&served, &mut client, ["--nproc=1:", "--nproc=10000:"]).await;
    assert!(why.contains("Resource temporarily unavailable"), "{why}");
    served.stop().await.unwrap();
}

#[tokio::test]
async fn too_few_descriptors_are_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n 100 && exec "$0" "$@""#, WEFT]);
    let refused =
        Served::launch(command, Path::new(WEFT), home, "chromium=0").await.err().unwrap().to_string();
    assert!(refused.contains("this process may open 100 files and needs at least 128"), "{refused}");
}
