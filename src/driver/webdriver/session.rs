//! One WebDriver session: asked for, steered and ended.
//!
//! A session belongs to a task that outlives its handle, and even the asking for it: one that comes when its caller
//! has gone is ended at once, and one whose handle is dropped just the same.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tokio::{
    sync::{Mutex, oneshot, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::wire::{Command, Server, Trouble};
use crate::tasks::Tasks;

/// An unanswered sign of life is at most this much older than the loss; one costs a round trip and a short
/// connection.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Reading a page's title waits for its main thread, which computes nothing.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// Ending a session closes its browser, which takes a second or two; a server that hangs is not waited for.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The server's place for a session.
#[derive(Clone)]
pub(super) struct Steering {
    server: Server,
    path: String,
    /// One command is in flight at a time: drivers queue the next one behind it without telling.
    turn: Arc<Mutex<()>>,
}

pub(super) struct Session {
    pub(super) steering: Steering,
    /// What the server says it gave.
    pub(super) capabilities: Map<String, Value>,
    end: DropGuard,
    ended: watch::Receiver<()>,
}

impl Session {
    /// Asks for a session; returns with it, or why there is none.
    pub(super) async fn open(
        server: &Server,
        wanted: Map<String, Value>,
        within: Duration,
        tasks: &Tasks,
    ) -> Result<Self, Trouble> {
        let (tell, told) = oneshot::channel();
        let body = json!({"capabilities": {"alwaysMatch": wanted, "firstMatch": [{}]}});
        tasks.spawn("webdriver session", keep(server.clone(), body, within, tasks.stopping(), tell));
        told.await.unwrap_or_else(|_| Err(Trouble::Unreachable { message: "the daemon stops".to_owned() }))
    }

    /// Ends the session; returns when the server has said so or will not in time.
    pub(super) async fn end(self) {
        let Self { end, mut ended, .. } = self;
        drop(end);
        // An error means that its task is over.
        let _ = ended.changed().await;
    }
}

async fn keep(
    server: Server,
    body: Value,
    within: Duration,
    stopping: CancellationToken,
    tell: oneshot::Sender<Result<Session, Trouble>>,
) {
    let command = Command::post("session".to_owned(), body);
    let stopped = async {
        stopping.cancelled().await;
        // What the server begins now would be nobody's, so its answer is worth a short wait.
        tokio::time::sleep(END_WITHIN).await;
    };
    let answer = tokio::select! {
        answer = server.ask(command, within) => answer.and_then(read),
        () = stopped => {
            tracing::warn!(%server, "stopped while it was asked for a session, which may be left there");
            return;
        }
    };
    let (id, capabilities) = match answer {
        Ok(session) => session,
        Err(trouble) => {
            // Whoever asked may have gone; there is nothing to end.
            let _ = tell.send(Err(trouble));
            return;
        }
    };
    let end = CancellationToken::new();
    let (_told, ended) = watch::channel(());
    let steering = Steering { server, path: format!("session/{id}"), turn: Arc::default() };
    let session = Session { steering: steering.clone(), capabilities, end: end.clone().drop_guard(), ended };
    // One that nobody takes is dropped here, which asks for its end.
    let _ = tell.send(Ok(session));
    tokio::select! {
        () = end.cancelled() => {}
        () = stopping.cancelled() => {}
    }
    steering.delete().await;
}

fn read(answer: Value) -> Result<(String, Map<String, Value>), Trouble> {
    let Value::Object(mut answer) = answer else { return Err(foreign(&answer)) };
    match (answer.remove("sessionId"), answer.remove("capabilities")) {
        // The id becomes part of addresses.
        (Some(Value::String(id)), Some(Value::Object(capabilities)))
            if !id.is_empty()
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) =>
        {
            Ok((id, capabilities))
        }
        (id, capabilities) => Err(foreign(&json!({"sessionId": id, "capabilities": capabilities}))),
    }
}

fn foreign(answer: &Value) -> Trouble {
    Trouble::Foreign { answer: answer.to_string() }
}

impl Steering {
    /// Sends the page to `url`; returns once it has loaded.
    pub(super) async fn navigate(&self, url: &str, within: Duration) -> Result<(), Trouble> {
        let steps = async {
            let _turn = self.turn.lock().await;
            self.server.ask(Command::post(self.at("url"), json!({"url": url})), within).await?;
            let shown = self.server.ask(Command::get(self.at("url")), within).await?;
            // WebKitGTK answers that all is well when it did not go there.
            let same = shown.as_str().and_then(|shown| Url::parse(shown).ok()) == Url::parse(url).ok();
            if same {
                Ok(())
            } else {
                Err(Trouble::Refused { error: format!("it shows {shown}"), message: String::new() })
            }
        };
        let late = |_| Err(Trouble::Silent { waited_ms: within.as_millis() });
        timeout(within, steps).await.unwrap_or_else(late)
    }

    /// Resolves when the session gives no sign of life any more.
    pub(super) async fn silence(&self) -> String {
        let mut ticks = interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let turn = self.turn.lock().await;
            if let Err(trouble) = self.server.ask(Command::get(self.at("title")), PING_LIMIT).await {
                return format!("the browser gave no sign of life: {trouble}");
            }
            drop(turn);
        }
    }

    /// Ends the session without waiting for its turn.
    async fn delete(&self) {
        match self.server.ask(Command::delete(self.path.clone()), END_WITHIN).await {
            Ok(_) => {}
            // Its browser or its server is gone, and the session with it.
            Err(Trouble::Refused { error, .. }) if error == "invalid session id" => {}
            Err(trouble) => {
                tracing::debug!(server = %self.server, %trouble, "the session did not end by itself");
            }
        }
    }

    fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_an_id_and_says_what_it_is() {
        let cases = [
            (json!({"sessionId": "a-1", "capabilities": {"browserName": "x"}}), Some("a-1")),
            (json!({"sessionId": "a/../b", "capabilities": {}}), None),
            (json!({"sessionId": "", "capabilities": {}}), None),
            (json!({"sessionId": 7, "capabilities": {}}), None),
            (json!({"sessionId": "a", "capabilities": []}), None),
            (json!({"capabilities": {}}), None),
            (json!("a"), None),
            (Value::Null, None),
        ];
        for (answer, id) in cases {
            assert_eq!(read(answer.clone()).ok().map(|read| read.0).as_deref(), id, "{answer}");
        }
    }
}
