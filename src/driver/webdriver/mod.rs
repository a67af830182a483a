//! Launches and steers browsers over classic WebDriver: `WebKitGTK`, Safari, and any browser behind a server elsewhere.
//!
//! A driver program that a recipe finds is started per instance, owned and ended like a browser. A server that a
//! recipe names runs already: sessions there are ours, the server is left alone. Nothing but opening a session,
//! navigating, asking for address and title, and ending the session is ever sent; no script among it.

mod program;
mod session;
mod wire;

use std::{ffi::OsString, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    program::Start,
    session::Session,
    wire::{Server, Trouble},
};
use super::{
    Driver, DriverError, Drivers, Instance, LaunchOrder,
    display::Display,
    loss::Loss,
    process::{Process, Watch},
    procs,
    recipe::{Recipe, Source},
    sandbox::bubblewrap_works,
};

/// What dies first breaks its connections; that a driver or a display has ended follows within milliseconds, and says more.
const EXIT_FOLLOWS: Duration = Duration::from_millis(300);

/// Launches one product by classic WebDriver.
pub struct WebDriverDriver {
    launcher: Arc<Launcher>,
}

struct Launcher {
    recipe: Recipe,
    drivers: Drivers,
}

impl WebDriverDriver {
    /// Tries once whether pages can be confined as the recipe asks, which starts a short command.
    pub fn new(mut recipe: Recipe, drivers: Drivers) -> Self {
        if asks_for_sandbox(&recipe.capabilities) && !bubblewrap_works() {
            tracing::warn!(recipe = recipe.name, "bubblewrap cannot confine pages here");
            forgo_sandbox(&mut recipe.capabilities);
        }
        Self { launcher: Arc::new(Launcher { recipe, drivers }) }
    }
}

impl Driver for WebDriverDriver {
    fn launch(&self, order: LaunchOrder) -> BoxFuture<'static, Result<Box<dyn Instance>, DriverError>> {
        let launcher = Arc::clone(&self.launcher);
        async move {
            let instance = launcher.launch(order).await?;
            Ok(Box::new(instance) as Box<dyn Instance>)
        }
        .boxed()
    }

    fn elsewhere(&self) -> bool {
        matches!(self.launcher.recipe.source, Source::Endpoint(_))
    }
}

/// Has `WebKitGTK`'s small browser confine its pages. Where that cannot work, no page would show.
const SANDBOX: &str = "--enable-sandbox";

fn asks_for_sandbox(capabilities: &Map<String, Value>) -> bool {
    let asks = |option: &Value| option["args"].as_array().is_some_and(|args| args.contains(&SANDBOX.into()));
    capabilities.values().any(asks)
}

fn forgo_sandbox(capabilities: &mut Map<String, Value>) {
    for option in capabilities.values_mut() {
        if let Some(Value::Array(args)) = option.get_mut("args") {
            args.retain(|arg| arg != SANDBOX);
        }
    }
}

/// What we started for one instance.
#[derive(Default)]
struct Owned {
    driver: Option<Process>,
    display: Option<Display>,
}

impl Owned {
    async fn end(self) {
        if let Some(driver) = self.driver {
            driver.end().await;
        }
        // Last, since what shows on it complains when it goes.
        if let Some(display) = self.display {
            display.end().await;
        }
    }

    fn watch(&self) -> Option<Watch> {
        self.driver.as_ref().map(|driver| driver.watch().clone())
    }
}

impl Launcher {
    async fn launch(&self, order: LaunchOrder) -> Result<WebDriverInstance, DriverError> {
        let started = Instant::now();
        let deadline = started + order.deadline;
        let mut owned = Owned::default();
        let begun = async {
            let server = self.server(&order, deadline, &mut owned).await?;
            self.begin(&server, &order, deadline, &owned).await
        };
        match begun.await {
            Ok((session, version, loss, attending)) => {
                let flags = self.telling(&order, &session.capabilities);
                let sandbox = owned.driver.as_ref().map(|driver| is_sandboxed(driver.pid()));
                if sandbox == Some(false) {
                    tracing::warn!(name = order.name, "the browser runs without a sandbox of its own");
                }
                tracing::info!(name = order.name, version, "browser launched");
                Ok(WebDriverInstance { session, owned, version, sandbox, flags, loss, _attending: attending })
            }
            Err(error) => {
                owned.end().await;
                Err(error)
            }
        }
    }

    /// The recipe's server, or one of our own with the display that it needs.
    async fn server(
        &self,
        order: &LaunchOrder,
        deadline: Instant,
        owned: &mut Owned,
    ) -> Result<Server, DriverError> {
        if let Source::Endpoint(endpoint) = &self.recipe.source {
            return Server::new(endpoint).map_err(|trouble| no_session(&self.recipe.name, &trouble));
        }
        let program = self.recipe.locate(&self.drivers.places)?;
        let mut environment: Vec<(&'static str, OsString)> = Vec::new();
        if self.recipe.display {
            match &self.drivers.display {
                Some(display) => environment.push(("DISPLAY", display.into())),
                None => {
                    let display =
                        Display::start(&self.recipe.product, &self.drivers, &order.name, deadline).await?;
                    environment.extend(display.environment());
                    owned.display = Some(display);
                }
            }
            // A desktop's Wayland would be preferred, and the window shown there.
            environment.push(("GDK_BACKEND", "x11".into()));
        }
        let flags =
            self.recipe.flags().iter().chain(&self.recipe.switches(order.gpu).flags).cloned().collect();
        let start = Start {
            tasks: &self.drivers.tasks,
            run: &self.drivers.run,
            name: &order.name,
            program: &program,
            flags,
            environment,
            deadline,
        };
        let (driver, port) = start.start().await?;
        owned.driver = Some(driver);
        Server::new(&format!("http://127.0.0.1:{port}"))
            .map_err(|trouble| no_session(&self.recipe.name, &trouble))
    }

    /// From the running server to the opened page.
    async fn begin(
        &self,
        server: &Server,
        order: &LaunchOrder,
        deadline: Instant,
        owned: &Owned,
    ) -> Result<(Session, String, Loss, DropGuard), DriverError> {
        let watch = owned.watch();
        let left = || deadline.saturating_duration_since(Instant::now());
        let opening = Session::open(server, self.wanted(order), left(), &self.drivers.tasks);
        let session = tokio::select! {
            session = opening => session.map_err(|trouble| no_session(&server.to_string(), &trouble))?,
            error = ended(watch.as_ref()) => return Err(error),
        };
        let Some(version) =
            session.capabilities.get("browserVersion").and_then(Value::as_str).map(str::to_owned)
        else {
            let answer = Value::Object(session.capabilities.clone()).to_string();
            session.end().await;
            return Err(no_session(&server.to_string(), &Trouble::Foreign { answer }));
        };
        let navigated = tokio::select! {
            done = session.steering.navigate(&order.url, left()) => {
                done.map_err(|trouble| DriverError::Navigate { message: trouble.to_string() })
            }
            error = ended(watch.as_ref()) => Err(error),
        };
        if let Err(error) = navigated {
            session.end().await;
            return Err(error);
        }
        let (loss, attending) =
            self.attend(&session, watch, owned.display.as_ref().map(|display| display.watch().clone()));
        Ok((session, version, loss, attending))
    }

    /// Starts the task that notices every way in which the browser can be lost.
    fn attend(&self, session: &Session, watch: Option<Watch>, display: Option<Watch>) -> (Loss, DropGuard) {
        let (loss, attending) = (Loss::new(), CancellationToken::new());
        let (steering, told, done) = (session.steering.clone(), loss.clone(), attending.clone());
        self.drivers.tasks.spawn("webdriver", async move {
            let cause = async || {
                tokio::select! {
                    error = ended(watch.as_ref()) => error.to_string(),
                    error = ended(display.as_ref()) => format!("its display is gone: {error}"),
                }
            };
            let reason = tokio::select! {
                reason = cause() => reason,
                silence = steering.silence() => {
                    tokio::time::timeout(EXIT_FOLLOWS, cause()).await.unwrap_or(silence)
                }
                () = done.cancelled() => return,
            };
            told.tell(reason);
        });
        (loss, attending.drop_guard())
    }

    /// What a new session is asked for. The recipe's word comes last.
    fn wanted(&self, order: &LaunchOrder) -> Map<String, Value> {
        let page_load = u64::try_from(order.deadline.as_millis()).unwrap_or(u64::MAX);
        let mut wanted = Map::new();
        // A driver that waits for a page longer than we do answers nothing else meanwhile.
        wanted.insert("timeouts".to_owned(), json!({"pageLoad": page_load}));
        wanted.insert("pageLoadStrategy".to_owned(), "normal".into());
        wanted.extend(self.recipe.capabilities.clone());
        if let (Some(pin), Source::Endpoint(_)) = (&self.drivers.certificate_pin, &self.recipe.source) {
            trust(&mut wanted, pin);
        }
        wanted
    }

    /// What can change a result: the switches of this mode, what was asked for, and whom the server chose.
    fn telling(&self, order: &LaunchOrder, given: &Map<String, Value>) -> Vec<String> {
        let mut flags = self.recipe.switches(order.gpu).flags;
        flags.extend(self.recipe.capabilities.iter().map(|(name, value)| format!("{name}={value}")));
        if let Source::Endpoint(_) = self.recipe.source {
            let chosen = ["browserName", "platformName"]
                .iter()
                .filter(|name| !self.recipe.capabilities.contains_key(**name));
            flags.extend(chosen.filter_map(|name| Some(format!("{name}={}", given.get(*name)?))));
        }
        flags
    }
}

/// Has a browser accept our own certificate.
/// The standard's capability does not reach Chromium's `WebSocket`s; its switch does, and for this one key alone.
fn trust(wanted: &mut Map<String, Value>, pin: &str) {
    wanted.entry("acceptInsecureCerts").or_insert(true.into());
    let options = match wanted.get("browserName").and_then(Value::as_str) {
        Some("chrome" | "chromium") => "goog:chromeOptions",
        Some("MicrosoftEdge") => "ms:edgeOptions",
        _ => return,
    };
    let options = wanted.entry(options).or_insert_with(|| json!({}));
    let args = options.as_object_mut().map(|options| options.entry("args").or_insert_with(|| json!([])));
    if let Some(Value::Array(args)) = args {
        args.push(format!("--ignore-certificate-errors-spki-list={pin}").into());
    }
}

fn no_session(server: &str, trouble: &Trouble) -> DriverError {
    DriverError::Session { server: server.to_owned(), message: trouble.to_string() }
}

/// Resolves when a process of ours has ended; never where there is none.
async fn ended(watch: Option<&Watch>) -> DriverError {
    let Some(watch) = watch else { return std::future::pending().await };
    let status = watch.ended().await;
    DriverError::Launch { program: watch.program().to_owned(), status, last_lines: watch.last_lines() }
}

/// Whether pages are confined: `WebKitGTK` starts its pages through bubblewrap when it confines them, and nothing else
/// below a driver tells. macOS confines Safari's pages always.
fn is_sandboxed(group: i32) -> bool {
    let confines =
        |words: &[u8]| words.split(|byte| *byte == 0).next().is_some_and(|word| word.ends_with(b"bwrap"));
    cfg!(target_os = "macos") || procs::all().iter().any(|proc| proc.group == group && confines(&proc.words))
}

/// A browser that has opened its page.
struct WebDriverInstance {
    session: Session,
    owned: Owned,
    version: String,
    sandbox: Option<bool>,
    flags: Vec<String>,
    loss: Loss,
    /// Ends the watch with the instance.
    _attending: DropGuard,
}

impl Instance for WebDriverInstance {
    fn version(&self) -> &str {
        &self.version
    }

    fn sandbox(&self) -> Option<bool> {
        self.sandbox
    }

    fn flags(&self) -> &[String] {
        &self.flags
    }

    /// The driver's, which the browser is below.
    fn process(&self) -> Option<i32> {
        self.owned.driver.as_ref().map(Process::pid)
    }

    fn navigate(&self, url: String, within: Duration) -> BoxFuture<'static, Result<(), DriverError>> {
        let (steering, loss) = (self.session.steering.clone(), self.loss.clone());
        async move {
            let message = tokio::select! {
                done = steering.navigate(&url, within) => match done {
                    Ok(()) => return Ok(()),
                    Err(trouble) => trouble.to_string(),
                },
                reason = loss.told() => reason,
            };
            Err(DriverError::Navigate { message })
        }
        .boxed()
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        self.loss.told().boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { session, owned, loss, .. } = *self;
        async move {
            loss.tell("the browser was closed".to_owned());
            session.end().await;
            owned.end().await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_asked_for_and_given_up_alone() {
        let cases = [
            (json!({}), json!({}), false),
            (json!({"a": {"args": ["--x"]}, "b": 7}), json!({"a": {"args": ["--x"]}, "b": 7}), false),
            (json!({"a": {"args": ["--x", SANDBOX]}, "b": 7}), json!({"a": {"args": ["--x"]}, "b": 7}), true),
        ];
        for (given, expected, asks) in cases {
            let mut capabilities = given.as_object().unwrap().clone();
            assert_eq!(asks_for_sandbox(&capabilities), asks, "{given}");
            forgo_sandbox(&mut capabilities);
            assert_eq!(Value::Object(capabilities), expected, "{given}");
        }
    }

    #[test]
    fn our_certificate_is_told_to_each_browser_in_its_own_way() {
        let flag = "--ignore-certificate-errors-spki-list=PIN";
        let cases = [
            (json!({}), json!({})),
            (json!({"browserName": "firefox"}), json!({"browserName": "firefox"})),
            (
                json!({"browserName": "chrome"}),
                json!({"browserName": "chrome", "goog:chromeOptions": {"args": [flag]}}),
            ),
            (
                json!({"browserName": "MicrosoftEdge", "ms:edgeOptions": {"args": ["--x"], "binary": "/b"}}),
                json!({"browserName": "MicrosoftEdge", "ms:edgeOptions": {"args": ["--x", flag], "binary": "/b"}}),
            ),
            (
                json!({"browserName": "chrome", "goog:chromeOptions": 7}),
                json!({"browserName": "chrome", "goog:chromeOptions": 7}),
            ),
        ];
        for (given, mut expected) in cases {
            let mut wanted = given.as_object().unwrap().clone();
            trust(&mut wanted, "PIN");
            expected["acceptInsecureCerts"] = true.into();
            assert_eq!(Value::Object(wanted), expected, "{given}");
        }
    }
}
