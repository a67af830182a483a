//! A browser on another host: a network namespace with a WebDriver server of its own, over a veth pair.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    daemon::{FIXTURES, PROBABILITY_TOLERANCE, expected_probabilities, frame},
    serve::{Lane, Served, numbers},
    silero,
    stage::LIMIT,
};

const PORT: u16 = 9515;
const WASM: Lane = Lane { browser: "remote", backend: "wasm" };

/// Another host, as far as a network can tell; taken down with all that runs in it.
struct Host {
    name: String,
    ours: Ipv4Addr,
    theirs: Ipv4Addr,
    driver: Child,
    _scratch: tempfile::TempDir,
}

fn ip(arguments: &str) -> Result<String, String> {
    let output =
        Command::new("ip").args(arguments.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Takes down what a test left that was killed.
fn sweep() {
    for line in ip("netns list").unwrap_or_default().lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name.strip_prefix("weft").and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            network(name);
        }
    }
}

fn network(name: &str) {
    for pid in ip(&format!("netns pids {name}")).unwrap_or_default().lines() {
        if let Ok(pid) = pid.trim().parse() {
            // It may have ended since it was listed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    // Whatever is missing was never made.
    let _ = ip(&format!("link del {name}a"));
    let _ = ip(&format!("netns del {name}"));
}

impl Host {
    /// `Err` says why this machine cannot hold it.
    fn set_up() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root makes network namespaces".to_owned());
        }
        let chromedriver = ["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver"];
        let chromedriver = chromedriver.into_iter().find(|path| Path::new(path).exists());
        let chromedriver = chromedriver.ok_or("chromedriver is not installed (Debian: chromium-driver)")?;
        sweep();
        let number = std::process::id() % 250 + 1;
        let name = format!("weft{}", std::process::id());
        let (ours, theirs) = (format!("10.213.{number}.1"), format!("10.213.{number}.2"));
        let steps = [
            format!("netns add {name}"),
            format!("link add {name}a type veth peer name {name}b"),
            format!("link set {name}b netns {name}"),
            format!("addr add {ours}/30 dev {name}a"),
            format!("link set {name}a up"),
            format!("-n {name} addr add {theirs}/30 dev {name}b"),
            format!("-n {name} link set {name}b up"),
            format!("-n {name} link set lo up"),
        ];
        for step in steps {
            if let Err(wrong) = ip(&step) {
                network(&name);
                return Err(wrong);
            }
        }
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let driver = Command::new("ip")
            .args([
                "netns",
                "exec",
                &name,
                chromedriver,
                &format!("--port={PORT}"),
                &format!("--allowed-ips={ours}"),
            ])
            .env("TMPDIR", scratch.path())
            .env("HOME", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match driver {
            Ok(driver) => Ok(Self {
                name,
                ours: ours.parse().unwrap(),
                theirs: theirs.parse().unwrap(),
                driver,
                _scratch: scratch,
            }),
            Err(error) => {
                network(&name);
                Err(error.to_string())
            }
        }
    }

    /// The server's end, by SIGKILL.
    fn kill_server(&mut self) {
        self.driver.kill().unwrap();
        self.driver.wait().unwrap();
    }

    /// Everything that runs there.
    fn processes(&self) -> Vec<Pid> {
        let pids = ip(&format!("netns pids {}", self.name)).unwrap_or_default();
        pids.lines().filter_map(|pid| pid.trim().parse().ok()).map(Pid::from_raw).collect()
    }

    /// Waits until only the server itself runs there.
    async fn without_browsers(&self) {
        let server = Pid::from_raw(i32::try_from(self.driver.id()).unwrap());
        let emptied = async {
            while self.processes().iter().any(|pid| *pid != server) {
                // Nothing tells of the end of processes that are not our children.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let left = || self.processes();
        timeout(LIMIT, emptied).await.unwrap_or_else(|_| panic!("browsers are left: {:?}", left()));
    }

    async fn listens(&self) {
        let answered = async {
            while TcpStream::connect(SocketAddr::from((self.theirs, PORT))).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, answered).await.expect("chromedriver listens");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        network(&self.name);
        // Killed with the rest there; it is our child.
        let _ = self.driver.wait();
    }
}

fn recipe(host: &Host) -> String {
    let binary = if Path::new("/usr/lib/chromium/chromium").exists() {
        "/usr/lib/chromium/chromium"
    } else {
        "/usr/bin/chromium"
    };
    format!(
        r#"name = "remote"
product = "Chromium on another host"
driver = "webdriver"
endpoint = "http://{}:{PORT}"
install = "none"
backends = ["wasm"]
gpu.hardware = {{}}
gpu.software = {{}}
limits = {{ instances = 4 }}

[capabilities]
browserName = "chrome"

[capabilities."goog:chromeOptions"]
binary = "{binary}"
args = ["--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
"#,
        host.theirs
    )
}

/// Waits until the only instance's state and reason satisfy; answers with it.
async fn instance(served: &Served, is: impl Fn(&Value) -> bool) -> Value {
    let seen = async {
        loop {
            let text =
                reqwest::get(format!("{}/api/v1/instances", served.url)).await.unwrap().text().await.unwrap();
            let instances: Value = serde_json::from_str(&text).unwrap();
            if is(&instances["items"][0]) {
                return instances["items"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LIMIT * 2, seen).await.expect("the instance comes to that state")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_on_another_host_answers_over_tls_and_is_let_go() {
    let mut host = match Host::set_up() {
        Ok(host) => host,
        Err(why) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
            std::io::stderr().write_all(format!("skipped on remote: {why}\n").as_bytes()).unwrap();
            return;
        }
    };
    host.listens().await;
    let config = format!("[bridge]\nlisten = \"{}:0\"\n[lanes]\nthreads = 2\n", host.ours);
    let weft = Path::new(env!("CARGO_BIN_EXE_weft"));
    let files = [("weft.toml", config.as_str()), ("browsers/remote.toml", &recipe(&host))];
    let served = Served::start_with(weft, "remote=1", &files).await.unwrap();
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml")]).await.unwrap();
    let mut client = served.connect().await.unwrap();
    let samples =
        silero::samples(&fs::read(format!("{FIXTURES}/inputs/speech.wav")).unwrap().into()).unwrap();
    let elements: usize = silero::STATE_SHAPE.iter().product();
    let mut state = json!(vec![0.0f32; elements]);
    for (samples, expected) in silero::frames(&samples).into_iter().zip(expected_probabilities()).take(5) {
        let asked = client.ask("silero-vad", frame(&samples, &state), WASM);
        let answer = timeout(LIMIT, asked).await.expect("the browser answers in time").unwrap();
        assert_eq!(answer["type"], "result", "{answer}");
        state = answer["outputs"][1]["data"].clone();
        let probability = numbers(&answer, "output").unwrap()[0];
        assert!(
            (probability - expected as f32).abs() < PROBABILITY_TOLERANCE,
            "{probability} for {expected}"
        );
        let provenance = &answer["parameters"]["provenance"];
        assert_eq!((&provenance["browser"], &provenance["verdict"]), (&json!("remote"), &json!("verified")));
        assert_eq!(provenance["fallback"], Value::Null);
        assert_eq!(provenance["threads"], 2, "a secure origin has shared memory: {provenance}");
    }
    let page = instance(&served, |instance| instance["state"] == "ready").await["page"].clone();
    assert_eq!(page["cross_origin_isolated"], true, "{page}");
    assert!(host.processes().len() > 2, "the browser runs on the other host");

    // The session ends with the daemon, the server stays.
    served.stop().await.unwrap();
    host.without_browsers().await;
    assert!(host.driver.try_wait().unwrap().is_none(), "the server is not ours to end");

    // A server that dies in the middle of a session.
    let served = Served::start_with(weft, "remote=1", &files).await.unwrap();
    instance(&served, |instance| instance["state"] == "ready").await;
    host.kill_server();
    let refused = format!("no session at http://{}:{PORT}: no connection", host.theirs);
    let told = |instance: &Value| instance["reason"].as_str().is_some_and(|reason| reason.contains(&refused));
    instance(&served, told).await;
    let native = Lane { browser: "native", backend: "ort-cpu" };
    served.weft(&["models", "add", &format!("{FIXTURES}/models.toml")]).await.unwrap();
    let mut client = served.connect().await.unwrap();
    let answer =
        client.ask("silero-vad", frame(&samples[..silero::FRAME], &json!(vec![0.0f32; elements])), native);
    assert_eq!(answer.await.unwrap()["type"], "result", "the rest serves on");
    served.stop().await.unwrap();
}
