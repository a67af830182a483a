//! Tables of cases for the parts that need no browser.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    DriverError,
    errand::{Errand, ErrandError, Workshop},
    ledger::{Account, RunDir},
    procs::{self, Proc},
    reaper,
    recipe::{EMBEDDED, GpuMode, Places, Recipe},
    sandbox::Ground,
    spawner::{self, Tie},
    sweep::{self, Claim, Leader, claimed},
    tail::{self, Tail},
};
use crate::{
    domain::{BackendKind, ModelKind},
    tasks::Tasks,
};

const GOOD: &str = r#"name = "sample"
product = "Sample"
driver = "cdp"
find = ["sample", "{cache}/sample"]
install = "install sample"
backends = ["wasm", "webgpu"]
flags = ["--headless=new"]
enable_features = ["A"]

[gpu.hardware]
flags = ["--hard"]
enable_features = ["B"]

[gpu.software]
flags = ["--soft"]

[limits]
instances = 1
"#;

#[test]
fn a_recipe_merges_its_switches_by_mode() {
    let recipe = Recipe::parse("browsers/sample.toml", GOOD).unwrap();
    let hard = recipe.switches(GpuMode::Hardware);
    assert_eq!(
        (hard.flags, hard.enable_features),
        (vec!["--hard".to_owned()], vec!["A".to_owned(), "B".to_owned()])
    );
    let soft = recipe.switches(GpuMode::Software);
    assert_eq!((soft.flags, soft.enable_features), (vec!["--soft".to_owned()], vec!["A".to_owned()]));
    assert_eq!(recipe.flags(), ["--headless=new"]);
}

#[test]
fn a_recipe_says_what_steps_take() {
    let text = format!("{GOOD}[priors.audio]\nwasm = 1.5\nwebgpu = 2\n[priors.other]\nwasm = 30\n");
    let priors = Recipe::parse("browsers/sample.toml", &text).unwrap().priors;
    let micros = |kind, backend| priors.get(&kind)?.get(&backend).map(Duration::as_micros);
    assert_eq!(micros(ModelKind::Audio, BackendKind::Wasm), Some(1_500));
    assert_eq!(micros(ModelKind::Audio, BackendKind::Webgpu), Some(2_000));
    assert_eq!(micros(ModelKind::Other, BackendKind::Wasm), Some(30_000));
    assert_eq!(micros(ModelKind::Vision, BackendKind::Wasm), None);
    assert!(Recipe::parse("browsers/sample.toml", GOOD).unwrap().priors.is_empty());
}

#[test]
fn a_wrong_recipe_names_its_line() {
    let cases = [
        ("unknown key", "instances = 1", "instances = 1\nlanes = 3", 19, "unknown field `lanes`"),
        ("unknown key at the top", "driver =", "colour = 1\ndriver =", 3, "unknown field `colour`"),
        (
            "no kind of model",
            "[limits]",
            "[priors.speech]\nwasm = 1\n[limits]",
            17,
            "unknown variant `speech`",
        ),
        ("a prior of no backend of its", "[limits]", "[priors.audio]\nwebnn = 1\n[limits]", 18, "backends"),
        ("no time at all", "[limits]", "[priors.audio]\nwasm = 0\n[limits]", 18, "more than 0"),
        ("no time that ends", "[limits]", "[priors.audio]\nwasm = inf\n[limits]", 18, "at most 60000"),
        ("unknown table", "[limits]", "[preferences]\na = 1\n[limits]", 17, "unknown field `preferences`"),
        ("no pref of Chromium's", "[limits]", "[prefs]\na = 1\n[limits]", 18, "only Firefox has preferences"),
        (
            "no capability of Chromium's",
            "[limits]",
            "[capabilities]\na = 1\n[limits]",
            17,
            "asks for capabilities",
        ),
        (
            "neither place nor address",
            "find = [\"sample\", \"{cache}/sample\"]\n",
            "",
            1,
            "find or endpoint is wanted",
        ),
        ("place and address", "install =", "endpoint = \"http://127.0.0.1:1\"\ninstall =", 5, "not both"),
        (
            "an address of another kind",
            "find = [\"sample\", \"{cache}/sample\"]",
            "endpoint = \"ftp://a\"",
            4,
            "starts with http://",
        ),
        ("unknown driver", "\"cdp\"", "\"cpd\"", 3, "unknown variant `cpd`"),
        ("wrong type", "instances = 1", "instances = \"1\"", 18, "invalid type: string"),
        ("negative limit", "instances = 1", "instances = -1", 18, "invalid value: integer `-1`"),
        ("missing key", "product = \"Sample\"\n", "", 1, "missing field `product`"),
        ("missing mode", "[gpu.software]\nflags = [\"--soft\"]\n", "", 10, "missing field `software`"),
        ("missing limit", "instances = 1\n", "", 17, "missing field `instances`"),
        ("not TOML", "driver = \"cdp\"", "driver = cdp", 3, "string values must be quoted"),
        ("other name", "\"sample\"\np", "\"simple\"\np", 1, "the file's name asks for name = \"sample\""),
        ("unknown backend", "\"webgpu\"", "\"webgl\"", 6, "\"webgl\" is no backend"),
        ("native backend", "\"webgpu\"", "\"ort-cpu\"", 6, "a browser holds no native backend"),
        ("nowhere to look", "[\"sample\", \"{cache}/sample\"]", "[]", 4, "at least one command or path"),
        ("unknown place", "{cache}/", "{home}/", 4, "{cache}/ and a path"),
        ("no flag", "--hard", "hard", 11, "a flag starts with --"),
        ("the driver's flag", "--soft", "--user-data-dir=/tmp", 15, "--user-data-dir is set by the driver"),
        ("two features in one", "\"B\"", "\"B,C\"", 12, "one feature's name"),
    ];
    for (case, from, to, line, message) in cases {
        assert!(GOOD.contains(from), "{case}");
        let error = Recipe::parse("browsers/sample.toml", &GOOD.replacen(from, to, 1)).expect_err(case);
        assert_eq!(error.line, line, "{case}: {error}");
        assert!(error.to_string().starts_with(&format!("browsers/sample.toml:{line}: ")), "{case}: {error}");
        assert!(error.message.contains(message), "{case}: {error}");
    }
}

#[test]
fn every_recipe_in_the_folder_is_embedded_and_parses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browsers");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "toml"))
        .map(|name| format!("browsers/{name}"))
        .collect();
    files.sort();
    let mut embedded: Vec<&str> = EMBEDDED.iter().map(|(file, _)| *file).collect();
    embedded.sort_unstable();
    assert_eq!(files, embedded);
    for (file, text) in EMBEDDED {
        Recipe::parse(file, text).unwrap_or_else(|error| panic!("{error}"));
    }
    let names: Vec<_> = Recipe::embedded().into_iter().map(|recipe| recipe.name).collect();
    let embedded = "attach chrome chromium chromium-webnn edge firefox remote safari webkitgtk";
    assert_eq!(names.join(" "), embedded);
}

fn put(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The name, the folders searched, the cache, and the file found or the words of the refusal.
type Search<'a> = (&'a str, &'a [&'a str], &'a str, Result<&'a str, &'a [&'a str]>);

#[test]
fn a_product_is_found_where_it_really_is() {
    let ground = tempfile::tempdir().unwrap();
    let place = |name: &str| ground.path().join(name);
    put(&place("shim/sample"), "#!/bin/sh\nexec /snap/bin/sample \"$@\"\n", 0o755);
    put(&place("ubuntu/sample"), "#!/bin/sh\necho snap install sample >&2\nexit 1\n", 0o755);
    put(&place("plain/sample"), "#!/bin/sh\nexec snapper\n", 0o755);
    put(&place("dead/sample"), "no program", 0o644);
    put(&place("snapd/snap"), "\u{7f}ELF", 0o755);
    fs::create_dir_all(place("link")).unwrap();
    symlink(place("snapd/snap"), place("link/sample")).unwrap();
    put(&place("cache/sample"), "\u{7f}ELF", 0o755);

    let recipe = Recipe::parse("browsers/sample.toml", GOOD).unwrap();
    let cases: [Search<'_>; 7] = [
        ("plain", &["plain"], "none", Ok("plain/sample")),
        ("cache", &["none"], "cache", Ok("cache/sample")),
        ("not executable", &["dead"], "none", Err(&["install sample"])),
        ("shim", &["shim"], "none", Err(&["shim/sample", "snap", "install sample"])),
        ("Ubuntu's shim", &["ubuntu"], "none", Err(&["ubuntu/sample", "snap"])),
        ("link to snap", &["link"], "none", Err(&["link/sample", "snap"])),
        ("shim before a real one", &["shim", "link", "plain"], "none", Ok("plain/sample")),
    ];
    for (case, folders, cache, expected) in cases {
        let path = std::env::join_paths(folders.iter().map(|folder| place(folder))).unwrap();
        let found = recipe.locate(&Places { cache: place(cache), path });
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, place(expected), "{case}"),
            (Err(DriverError::NotInstalled { product, hint }), Err(words)) => {
                assert_eq!(product, "Sample", "{case}");
                for word in words {
                    assert!(hint.contains(word), "{case}: {hint}");
                }
            }
            (found, _) => panic!("{case}: {found:?}"),
        }
    }
}

#[test]
fn a_sandbox_is_given_up_only_where_it_cannot_work() {
    let fine = Ground { most: Some(9), clone: Some(1), restricted: Some(0), tried: Some(true), root: false };
    let cases = [
        ("all well", fine.clone(), true),
        ("nothing known", Ground::default(), true),
        ("root", Ground { root: true, ..fine.clone() }, false),
        ("no namespaces", Ground { most: Some(0), ..fine.clone() }, false),
        ("not for users", Ground { clone: Some(0), ..fine.clone() }, false),
        ("forbidden by a filter", Ground { tried: Some(false), ..fine.clone() }, false),
        ("restricted, not tried", Ground { restricted: Some(1), tried: None, ..fine.clone() }, false),
        ("restricted, but not us", Ground { restricted: Some(1), ..fine }, true),
    ];
    for (case, ground, expected) in cases {
        assert_eq!(ground.allows(Path::new("/nowhere/browser")).is_ok(), expected, "{case}");
    }
}

fn proc(pid: i32, parent: i32, group: i32, start: u64, words: &str) -> Proc {
    Proc { pid, parent, group, start, zombie: false, words: words.as_bytes().to_vec() }
}

#[test]
fn only_ours_is_claimed() {
    let ours = "a\0WEFT_RUN=/home/run/1-1/x\0";
    let cases = [
        ("named by the ledger", vec![proc(50, 1, 50, 7, "")], vec![50]),
        ("its pid given away", vec![proc(50, 1, 50, 8, "")], vec![]),
        ("marked", vec![proc(60, 1, 60, 9, ours)], vec![60]),
        ("marked for another run", vec![proc(60, 1, 60, 9, "WEFT_RUN=/home/run/1-11/x\0")], vec![]),
        ("marked in passing", vec![proc(60, 1, 60, 9, "XWEFT_RUN=/home/run/1-1/x\0")], vec![]),
        ("only mentions the run", vec![proc(60, 1, 60, 9, "tail\0/home/run/1-1/x/log\0")], vec![]),
        ("in the leader's group", vec![proc(50, 1, 50, 7, ""), proc(51, 1, 50, 8, "")], vec![50, 51]),
        (
            "in its group, which it mentions, without the leader",
            vec![proc(51, 1, 50, 8, "--dir=/home/run/1-1/x/profile")],
            vec![51],
        ),
        ("in a group that only has the number", vec![proc(51, 1, 50, 8, "other")], vec![]),
        ("in a marked one's own group", vec![proc(60, 1, 60, 9, ours), proc(61, 1, 60, 9, "")], vec![60, 61]),
        (
            "in a stranger's group with a marked one",
            vec![proc(60, 1, 70, 9, ours), proc(71, 1, 70, 9, "")],
            vec![60],
        ),
        (
            "descends from ours",
            vec![proc(72, 71, 72, 9, ""), proc(71, 60, 71, 9, ""), proc(60, 1, 60, 9, ours)],
            vec![60, 71, 72],
        ),
        // An orphan that left its group and cleared its environment: the ledger alone tells it.
        ("adopted", vec![proc(50, 9, 50, 7, "sleep"), proc(52, 50, 52, 8, "sleep")], vec![50, 52]),
        ("ours descends from it", vec![proc(60, 40, 60, 9, ours), proc(40, 1, 40, 9, "")], vec![60]),
    ];
    let leaders = [Leader { pid: 50, start: 7 }];
    let claim = Claim { folder: Path::new("/home/run/1-1"), leaders: &leaders };
    for (case, table, expected) in cases {
        let mut pids: Vec<i32> = claimed(&table, claim).iter().map(|proc| proc.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, expected, "{case}");
    }
}

#[test]
fn the_table_knows_this_very_process() {
    let pid = std::process::id().cast_signed();
    let me = procs::all().into_iter().find(|proc| proc.pid == pid).unwrap();
    assert_eq!(me.parent, nix::unistd::getppid().as_raw());
    assert_eq!(me.group, nix::unistd::getpgrp().as_raw());
    assert_eq!(Some(me.start), procs::read(pid).map(|again| again.start));
    assert!(me.mentions(&std::env::current_exe().unwrap().file_name().map(PathBuf::from).unwrap()));
    assert!(!procs::boot().is_empty());
}

#[test]
fn a_ledger_is_read_past_what_a_crash_cut_short() {
    let daemon = r#"{"line":"daemon","pid":7,"start":9,"boot":"b","scratch":"/tmp/s"}"#;
    let process = r#"{"line":"process","name":"x","pid":8,"group":8,"start":10,"profile":"/p"}"#;
    let adopted = r#"{"line":"adopted","pid":11,"start":12}"#;
    let torn = &process[..20];
    let leader = Leader { pid: 8, start: 10 };
    let cases = [
        ("whole", format!("{daemon}\n{process}\n"), Some(Leader { pid: 7, start: 9 }), vec![leader]),
        (
            "torn at the end",
            format!("{daemon}\n{process}\n{torn}"),
            Some(Leader { pid: 7, start: 9 }),
            vec![leader],
        ),
        (
            "with an orphan",
            format!("{daemon}\n{process}\n{adopted}\n"),
            Some(Leader { pid: 7, start: 9 }),
            vec![leader, Leader { pid: 11, start: 12 }],
        ),
        ("torn in the middle", format!("{torn}\n{process}\n"), None, vec![leader]),
        ("empty", String::new(), None, vec![]),
    ];
    for (case, text, daemon, leaders) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ledger"), text).unwrap();
        let account = Account::read(folder.path());
        assert_eq!((account.daemon, account.leaders), (daemon, leaders), "{case}");
    }
}

#[test]
fn only_who_was_not_started_here_is_adopted() {
    let zombie = |pid, start| Proc { zombie: true, ..proc(pid, 1, pid, start, "") };
    let children =
        vec![proc(50, 1, 50, 7, ""), zombie(51, 8), zombie(52, 9), proc(53, 1, 53, 9, ""), zombie(54, 9)];
    // The number 52 was a child of ours once, and came back with an orphan.
    let own = [(50, 7), (51, 8), (52, 8), (54, spawner::UNKNOWN)].map(|(pid, start)| Leader { pid, start });
    let adopted: Vec<i32> = reaper::adopted(children, &own).iter().map(|proc| proc.pid).collect();
    assert_eq!(adopted, [52, 53]);
}

fn sleeper() -> tokio::process::Command {
    let mut command = tokio::process::Command::new("sleep");
    command.arg("1000").process_group(0).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_number_that_was_given_away_is_not_killed() {
    let mut child = spawner::spawn(sleeper(), Tie::Bound).unwrap();
    let pid = child.id().unwrap().cast_signed();
    let start = procs::read(pid).unwrap().start;
    assert!(spawner::own().contains(&Leader { pid, start }));
    let folder = Path::new("/nowhere/run");
    let sweep = |start| sweep::sweep(Claim { folder, leaders: &[Leader { pid, start }] });
    assert_eq!(sweep(start + 1), Ok(0));
    assert_eq!(child.try_wait().unwrap(), None, "another process with its number was killed");
    assert_eq!(sweep(start), Ok(1));
    assert!(!child.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_child_outlives_the_thread_that_asked_for_it() {
    let runtime = tokio::runtime::Handle::current();
    let asked = std::thread::spawn(move || {
        let _entered = runtime.enter();
        (spawner::spawn(sleeper(), Tie::Bound).unwrap(), nix::unistd::gettid())
    });
    let (mut child, thread) = tokio::task::spawn_blocking(|| asked.join().unwrap()).await.unwrap();
    let asked_for = child.id().unwrap().cast_signed();
    // The kernel kills the children of a thread before it forgets the thread, and joins it earlier than that.
    while Path::new(&format!("/proc/self/task/{thread}")).exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(child.try_wait().unwrap(), None);
    assert!(!procs::read(asked_for).unwrap().zombie);
    child.kill().await.unwrap();
}

#[tokio::test]
async fn an_errand_ends_whatever_it_started() {
    let home = tempfile::tempdir().unwrap();
    let run = RunDir::create(home.path()).unwrap();
    let tasks = Tasks::new();
    let shell = |script: &str, within| Errand {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        variables: vec![("SAID", "variable".into())],
        within,
    };
    let workshop = Arc::new(Workshop::open(&run, &tasks).unwrap());
    let folder = workshop.folder().to_owned();
    let soon = Duration::from_secs(20);
    let said = workshop.run(shell("echo $SAID; pwd >&2", soon)).await.unwrap();
    assert_eq!((said.stdout.trim(), Path::new(said.stderr.trim())), ("variable", folder.as_path()));
    let long = workshop.run(shell("yes | head -c 100000", soon)).await.unwrap();
    assert_eq!(long.stdout.len(), 8 << 10);
    let failed = workshop.run(shell("echo words >&2; exit 4", soon)).await.unwrap_err().to_string();
    assert!(failed.ends_with("ended with exit status: 4: words"), "{failed}");

    let marked = || procs::all().into_iter().filter(|proc| !proc.zombie && proc.mentions(&folder)).count();
    let hanging = "setsid sleep 1000 > /dev/null 2>&1 & sleep 1000";
    let late = workshop.run(shell(hanging, Duration::from_millis(300))).await.unwrap_err();
    assert!(matches!(late, ErrandError::TooLong { .. }), "{late}");
    assert_eq!(marked(), 0);
    // Also when its caller leaves.
    let left = tokio::time::timeout(Duration::from_millis(300), workshop.run(shell(hanging, soon))).await;
    assert!(left.is_err());
    let deadline = std::time::Instant::now() + soon;
    while marked() > 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tasks.stop().await;
    drop(workshop);
    assert!(!folder.exists());
}

#[tokio::test]
async fn last_words_are_bounded() {
    let long = "x".repeat(10_000);
    let many = (0..1000).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    let cases = [
        ("plain", "a\nb\r\n\nc".to_owned(), "ready", 3, None, "a | b | c".len()),
        ("announced", "a\nready at 1\nready at 2\n".to_owned(), "ready", 3, Some("ready at 1"), 27),
        ("long line", format!("{long}\n"), "ready", 1, None, 512),
        ("many lines", many, "line 0", 1000, Some("line 0"), "line 988 | ".len() * 12 - 3),
        ("nothing", String::new(), "ready", 0, None, "none".len()),
    ];
    for (case, text, announcement, count, announced, quoted) in cases {
        let (mut tail, mut seen) = (Tail::default(), 0);
        tail::read_lines(text.as_bytes(), |line| {
            seen += 1;
            tail.push(line, announcement);
        })
        .await;
        assert_eq!(seen, count, "{case}");
        assert_eq!(tail.announced.as_deref(), announced, "{case}");
        assert_eq!(tail.quote().len(), quoted, "{case}");
    }
}

#[test]
fn a_family_is_descendants_and_group() {
    let proc = |(pid, parent, group)| Proc { pid, parent, group, start: 0, zombie: false, words: Vec::new() };
    let procs =
        [(9, 1, 9), (10, 1, 10), (11, 10, 10), (12, 11, 12), (13, 1, 10), (14, 13, 14), (8, 12, 8)].map(proc);
    let cases: [(i32, &[i32]); 4] = [(10, &[8, 10, 11, 12, 13, 14]), (12, &[8, 12]), (9, &[9]), (77, &[77])];
    for (leader, wanted) in cases {
        let family: Vec<_> = procs::family(leader, &procs).into_iter().collect();
        assert_eq!(family, wanted, "of {leader}");
    }
}

/// A shell holds a text of known length; it is a grandchild that has left its group, as helpers of browsers do.
#[cfg(target_os = "linux")]
#[test]
fn a_family_holds_what_its_members_do() {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    const HELD: u64 = 48 << 20;
    let script = format!(
        "setsid sh -c 'x=$(head -c {HELD} /dev/zero | tr \"\\0\" a); echo ready; read end; echo \"${{#x}}\"'; true"
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let leader = child.id().cast_signed();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let held = procs::memory(leader).unwrap();
    // Shells keep a text up to a few times while they read it.
    assert!((HELD..8 * HELD).contains(&held), "{held} bytes");
    drop(child.stdin.take());
    assert_eq!(said.next().unwrap().unwrap(), HELD.to_string());
    assert!(child.wait().unwrap().success());
    assert_eq!(procs::memory(leader), None);
}
