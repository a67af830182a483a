//! Real browsers, launched, lost and closed.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::TcpListener, time::timeout};
use weft::driver::{
    DriverError, LaunchOrder,
    recipe::{DriverKind, Recipe},
};

use crate::stage::{LIMIT, PROBE, Stage, asked_for, lost, on_each, open, order, places, serve};

/// How the engines differ in what these tests see.
struct Traits {
    announcement: &'static str,
    /// On the command lines of processes that hold pages.
    renderer: &'static str,
    sandbox: bool,
    flag: &'static str,
    adapter: &'static str,
    focus: &'static str,
    refused: &'static str,
    /// Longer than a start takes.
    patience: Duration,
}

impl Traits {
    fn of(recipe: &Recipe) -> Self {
        match recipe.driver {
            DriverKind::Bidi => Self {
                announcement: "WebDriver BiDi listening on",
                renderer: "-isForBrowser",
                // Firefox keeps it for root.
                sandbox: true,
                flag: "gfx.webgpu.ignore-blocklist=true",
                adapter: "true",
                // Headless, its window has no focus; what slows hidden pages goes by visibility.
                focus: "visible%20false",
                refused: "NS_ERROR_CONNECTION_REFUSED",
                patience: Duration::from_secs(12),
            },
            _ => Self {
                announcement: "DevTools listening on",
                renderer: "--type=renderer",
                sandbox: !nix::unistd::geteuid().is_root(),
                flag: "--use-webgpu-adapter=swiftshader",
                adapter: "google%20swiftshader%20true",
                focus: "visible%20true",
                refused: "ERR_CONNECTION_REFUSED",
                patience: Duration::from_secs(3),
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_opens_computes_and_leaves_nothing() {
    on_each(|stage, recipe| async move {
        let (url, mut arrived) = serve(PROBE).await;
        let instance = open(&stage, &recipe, &url).await;
        asked_for(&mut arrived, "/").await;
        assert!(instance.version().starts_with(|c: char| c.is_ascii_digit()), "{}", instance.version());
        let traits = Traits::of(&recipe);
        assert_eq!(instance.sandbox(), Some(traits.sandbox), "{}", recipe.name);
        assert!(instance.flags().contains(&traits.flag.to_owned()), "{:?}", instance.flags());
        assert_eq!(instance.process(), Some(stage.leader().as_raw()));
        assert!(!stage.processes().is_empty());

        assert_eq!(asked_for(&mut arrived, "/webgpu?").await, traits.adapter, "{}", recipe.name);
        let webnn = asked_for(&mut arrived, "/webnn?").await;
        assert_eq!(webnn == "context", recipe.name == "chromium-webnn", "{}: {webnn}", recipe.name);
        assert_eq!(asked_for(&mut arrived, "/focus?").await, traits.focus, "{}", recipe.name);

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
        assert!(reason.contains(Traits::of(&recipe).announcement), "{reason}");
        instance.close().await;
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_page_is_told_and_another_opens_in_the_same_browser() {
    on_each(|stage, recipe| async move {
        let (url, mut arrived) = serve("crashed").await;
        let instance = open(&stage, &recipe, &url).await;
        asked_for(&mut arrived, "/").await;
        for again in ["again", "once-more"] {
            // A browser keeps spare processes for pages to come, and nothing tells them from the page's own; a browser
            // that has lost both at once may never open another page.
            let mut reason = None;
            for pid in stage.members(Traits::of(&recipe).renderer) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
                reason = timeout(Duration::from_secs(2), instance.crashed()).await.ok();
                if reason.is_some() {
                    break;
                }
            }
            let reason = reason.expect("the page's process is among them");
            assert!(reason.starts_with("the page crashed"), "{reason}");
            instance.navigate(format!("{url}{again}"), LIMIT).await.unwrap();
            asked_for(&mut arrived, &format!("/{again}")).await;
            let ended = timeout(Duration::from_millis(500), async {
                tokio::select! {
                    reason = instance.crashed() => reason,
                    reason = instance.lost() => reason,
                }
            });
            assert_eq!(ended.await.ok(), None, "{}: the new page is well", recipe.name);
        }
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
            ("refused", refused, LIMIT, Traits::of(&recipe).refused),
            ("unanswered", unanswered, Traits::of(&recipe).patience, "did not answer within"),
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
    for driver in ["cdp", "bidi"] {
        let stage = Stage::set();
        let driver = stage.script(driver, "echo cannot open display >&2; exit 7");
        match driver.launch(order("x-1", "about:blank")).await.err() {
            Some(DriverError::Launch { status, last_lines, .. }) => {
                assert_eq!((status.as_str(), last_lines.as_str()), ("exit status: 7", "cannot open display"));
            }
            other => panic!("{other:?}"),
        }
        stage.assert_clear().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_speaks_is_given_up_at_the_deadline() {
    let deaf = "trap '' TERM; echo starting >&2; sleep 1000; sleep 1000";
    let cdp = "echo DevTools listening on ws://127.0.0.1:9/ >&2; exec sleep 1000";
    let bidi = "echo WebDriver BiDi listening on ws://127.0.0.1:9 >&2; exec sleep 1000";
    let cases = [
        ("silent", "cdp", "echo starting >&2; exec sleep 1000", "starting"),
        ("silent", "bidi", "echo starting >&2; exec sleep 1000", "starting"),
        ("deaf", "cdp", deaf, "starting"),
        ("deaf", "bidi", deaf, "starting"),
        ("nobody there", "cdp", cdp, "refused"),
        ("nobody there", "bidi", bidi, "refused"),
    ];
    for (case, driver, lines, words) in cases {
        let stage = Stage::set();
        let started = Instant::now();
        let deadline = Duration::from_millis(500);
        let driver = stage.script(driver, lines);
        let launched = driver.launch(LaunchOrder { deadline, ..order("x-1", "about:blank") }).await;
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
    let driver = stage.script("cdp", "exit 0");
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
