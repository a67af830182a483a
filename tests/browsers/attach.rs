//! Browsers that somebody else has started: a page of ours comes and goes, and they stay.

use std::{path::PathBuf, process::Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tokio_tungstenite::{connect_async, tungstenite::Message};
use weft::driver::recipe::{DriverKind, Recipe};

use crate::stage::{LIMIT, asked_for, lost, on_each, order, places, processes, recipe, serve};

/// A browser with a debugging port, as a user would start it.
struct Theirs {
    child: Child,
    profile: tempfile::TempDir,
    /// What it announced.
    address: String,
    driver: &'static str,
}

impl Theirs {
    async fn start(recipe: &Recipe) -> Self {
        let program = recipe.locate(&places()).unwrap();
        let profile = tempfile::tempdir().unwrap();
        let folder = profile.path().display();
        let (driver, args, announcement): (_, &[String], _) = match recipe.driver {
            DriverKind::Cdp => {
                let args = [
                    "--headless=new".to_owned(),
                    "--no-sandbox".to_owned(),
                    "--remote-debugging-port=0".to_owned(),
                    format!("--user-data-dir={folder}"),
                    "about:blank".to_owned(),
                ];
                ("cdp", &args.clone(), "DevTools listening on ")
            }
            _ => {
                let args =
                    ["about:blank", "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile"];
                let args: Vec<String> =
                    args.into_iter().map(str::to_owned).chain([folder.to_string()]).collect();
                ("bidi", &args.clone(), "WebDriver BiDi listening on ")
            }
        };
        let mut child = Command::new(program)
            .args(args)
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = timeout(LIMIT, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it announces its address");
                if let Some(address) = line.strip_prefix(announcement) {
                    break address.to_owned();
                }
            }
        });
        let address = address.await.unwrap();
        // Nobody else empties the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, profile, address, driver }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().cast_signed())
    }

    /// Every form of endpoint that leads here.
    fn endpoints(&self) -> Vec<String> {
        match self.driver {
            "cdp" => {
                let host = self.address.split('/').nth(2).unwrap();
                vec![self.address.clone(), format!("http://{host}"), format!("http://{host}/")]
            }
            _ => vec![self.address.clone(), format!("{}/session", self.address)],
        }
    }

    /// The addresses of its tabs, as a stranger is told.
    async fn tabs(&self) -> Vec<String> {
        let (method, list, url) = match self.driver {
            "cdp" => ("Target.getTargets", "targetInfos", "url"),
            _ => ("browsingContext.getTree", "contexts", "url"),
        };
        let path = if self.driver == "cdp" { "" } else { "/session" };
        let (mut socket, _) = connect_async(format!("{}{path}", self.address)).await.unwrap();
        let mut ask = async |id: u32, method: &str, params: Value| {
            let command = json!({"id": id, "method": method, "params": params});
            socket.send(Message::text(command.to_string())).await.unwrap();
            loop {
                let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
                let answer: Value = serde_json::from_str(&text).unwrap();
                if answer["id"] == id {
                    return answer["result"].clone();
                }
            }
        };
        if self.driver == "bidi" {
            ask(1, "session.new", json!({"capabilities": {}})).await;
        }
        let answer = ask(2, method, json!({})).await;
        if self.driver == "bidi" {
            ask(3, "session.end", json!({})).await;
        }
        let tabs = answer[list].as_array().unwrap().iter();
        let tabs = tabs.filter(|tab| tab["type"].is_null() || tab["type"] == "page");
        tabs.map(|tab| tab[url].as_str().unwrap().to_owned()).collect()
    }

    /// The processes of its pages.
    fn renderers(&self) -> Vec<i32> {
        let word = if self.driver == "cdp" { "--type=renderer" } else { "-isForBrowser" };
        let mut pids = processes(&[&PathBuf::from(word)]);
        pids.retain(|pid| nix::unistd::getpgid(Some(Pid::from_raw(*pid))).ok() == Some(self.group()));
        pids
    }

    async fn end(mut self) {
        killpg(self.group(), Signal::SIGKILL).unwrap();
        self.child.wait().await.unwrap();
        // Crash helpers leave the group.
        for pid in processes(&[self.profile.path()]) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_comes_and_goes_and_the_browser_stays() {
    on_each(|stage, product| async move {
        let mut theirs = Theirs::start(&product).await;
        let (url, mut arrived) = serve("attached").await;
        let before = theirs.tabs().await;
        for endpoint in theirs.endpoints() {
            let attached = recipe("theirs", theirs.driver, &format!("endpoint = '{endpoint}'"));
            let driver = stage.driver(attached, places());
            let instance = driver.launch(order("theirs-1", &url)).await.unwrap();
            asked_for(&mut arrived, "/").await;
            let said = (instance.process(), instance.sandbox(), instance.flags());
            assert_eq!(said, (None, None, [].as_slice()), "{endpoint}");
            assert!(instance.version().starts_with(|c: char| c.is_ascii_digit()), "{}", instance.version());
            instance.navigate(format!("{url}again"), LIMIT).await.unwrap();
            asked_for(&mut arrived, "/again").await;
            let lost = instance.lost();
            timeout(LIMIT, instance.close()).await.unwrap();
            assert_eq!(timeout(LIMIT, lost).await.unwrap(), "the browser was closed", "{endpoint}");
            assert_eq!(theirs.child.try_wait().unwrap(), None, "{endpoint}: the browser was not ours to end");
            assert_eq!(theirs.tabs().await, before, "{endpoint}");
        }
        theirs.end().await;
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_page_is_closed_all_the_same() {
    on_each(|stage, product| async move {
        let theirs = Theirs::start(&product).await;
        let before = theirs.tabs().await;
        let (url, _arrived) = serve("dropped").await;
        let endpoint = &theirs.endpoints()[0];
        let attached = recipe("theirs", theirs.driver, &format!("endpoint = '{endpoint}'"));
        drop(stage.driver(attached, places()).launch(order("theirs-1", &url)).await.unwrap());
        timeout(LIMIT, stage.tasks.stop()).await.expect("every task ends");
        assert_eq!(theirs.tabs().await, before);
        theirs.end().await;
        stage.assert_clear().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_crashed_page_and_its_end_are_noticed() {
    on_each(|stage, product| async move {
        let mut theirs = Theirs::start(&product).await;
        let (url, mut arrived) = serve("lost").await;
        let endpoint = &theirs.endpoints()[0];
        let attached = recipe("theirs", theirs.driver, &format!("endpoint = '{endpoint}'"));
        let driver = stage.driver(attached, places());
        let instance = driver.launch(order("theirs-1", &url)).await.unwrap();
        for pid in theirs.renderers() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        let reason = timeout(LIMIT, instance.crashed()).await.unwrap();
        assert!(reason.starts_with("the page crashed"), "{}: {reason}", product.name);
        instance.navigate(format!("{url}again"), LIMIT).await.unwrap();
        asked_for(&mut arrived, "/again").await;
        timeout(LIMIT, instance.close()).await.unwrap();
        assert_eq!(theirs.child.try_wait().unwrap(), None, "the browser was not ours to end");

        let instance = driver.launch(order("theirs-2", &url)).await.unwrap();
        kill(theirs.group(), Signal::SIGKILL).unwrap();
        let reason = lost(&*instance).await;
        assert!(reason.starts_with("the control socket"), "{}: {reason}", product.name);
        timeout(LIMIT, instance.close()).await.unwrap();
        theirs.end().await;
        stage.assert_clear().await;
    })
    .await;
}
