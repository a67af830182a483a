//! One command to a WebDriver server, over a connection of its own that can be cut.
//!
//! fantoccini runs one command at a time and waits for its answer without a limit, even when nobody wants it any
//! more; what follows stands behind it in an unbounded queue, the end of the session included. It adds Chrome's
//! options to every new session, and its own way to end a session forgets the password. So it is given one command
//! here per client, each written in full, and a connection that breaks once the answer has come, its time is up or
//! its caller has gone: nothing can queue, and nothing stays behind.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use fantoccini::{
    Client,
    error::{CmdError, NewSessionError},
    wd::WebDriverCompatibleCommand,
};
use futures_util::future::BoxFuture;
use http::{Method, Uri};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::connect::{Connect, Connected, Connection},
    rt::TokioIo,
};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use url::Url;

/// Answers here are a title, an address or a list of capabilities.
const ANSWER_MAX: u64 = 1 << 20;

/// How much of a wrong answer goes into an error's message.
const QUOTED: usize = 200;

/// What fantoccini takes for the session of its client; our commands name theirs themselves.
const NO_SESSION: &str = "none";

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("no answer within {waited_ms} ms")]
    Silent { waited_ms: u128 },
    #[error("no connection: {message}")]
    Unreachable { message: String },
    /// The server's own word for it, as `invalid session id`.
    #[error("{error}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused { error: String, message: String },
    #[error("no WebDriver server answers there, but: {answer}")]
    Foreign { answer: String },
}

/// A WebDriver server. Clones share its certificates.
#[derive(Clone)]
pub(super) struct Server {
    /// Ends in a slash, so that commands are below it.
    base: Url,
    tls: Option<Arc<ClientConfig>>,
}

/// Without the password that may be in the address.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.base.clone();
        // Both fail only for addresses that can have neither.
        let _ = shown.set_password(None);
        let _ = shown.set_username("");
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

/// One request of the protocol.
#[derive(Debug)]
pub(super) struct Command {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Command {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None }
    }

    pub(super) fn post(path: String, body: Value) -> Self {
        Self { method: Method::POST, path, body: Some(body) }
    }

    pub(super) fn delete(path: String) -> Self {
        Self { method: Method::DELETE, path, body: None }
    }
}

impl WebDriverCompatibleCommand for Command {
    fn endpoint(&self, base: &Url, _session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&self.path)
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(Value::to_string))
    }
}

impl Server {
    pub(super) fn new(address: &str) -> Result<Self, Trouble> {
        let unreachable = |message: String| Trouble::Unreachable { message };
        let slash = if address.ends_with('/') { "" } else { "/" };
        let base = Url::parse(&format!("{address}{slash}"))
            .map_err(|error| unreachable(format!("its address is wrong: {error}")))?;
        let tls = if base.scheme() == "https" {
            let roots = ClientConfig::builder()
                .with_native_roots()
                .map_err(|error| unreachable(format!("no certificates of this system: {error}")))?;
            Some(Arc::new(roots.with_no_client_auth()))
        } else {
            None
        };
        Ok(Self { base, tls })
    }

    pub(super) async fn ask(&self, command: Command, within: Duration) -> Result<Value, Trouble> {
        let cut = CancellationToken::new();
        let _hang_up = cut.clone().drop_guard();
        let dial = Dial { cut };
        let asked = async {
            match &self.tls {
                None => self.send(command, dial).await,
                Some(tls) => {
                    let builder = HttpsConnectorBuilder::new().with_tls_config((**tls).clone());
                    let connector = builder.https_only().enable_http1().wrap_connector(dial);
                    self.send(command, connector).await
                }
            }
        };
        match timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Silent { waited_ms: within.as_millis() }),
        }
    }

    async fn send<C>(&self, command: Command, connector: C) -> Result<Value, Trouble>
    where
        C: Connect + Unpin + 'static + Clone + Send + Sync,
    {
        let client = Client::with_existing_session(self.base.as_str(), NO_SESSION, connector)
            .await
            .map_err(|error| Trouble::from(&error))?;
        // Else it would end the session that it thinks to have.
        client.persist().await.map_err(|error| Trouble::from(&error))?;
        client.issue_cmd(command).await.map_err(|error| Trouble::from(&error))
    }
}

impl From<&NewSessionError> for Trouble {
    fn from(error: &NewSessionError) -> Self {
        Self::Unreachable { message: error.to_string() }
    }
}

impl From<&CmdError> for Trouble {
    fn from(error: &CmdError) -> Self {
        match error {
            CmdError::Standard(told) => Self::Refused {
                error: told.error.to_string(),
                message: told.message.lines().next().unwrap_or_default().to_owned(),
            },
            CmdError::NotJson(text) => Self::Foreign { answer: quote(text) },
            CmdError::NotW3C(value) => Self::Foreign { answer: quote(&value.to_string()) },
            CmdError::Json(error) => Self::Foreign { answer: format!("no JSON ({error})") },
            CmdError::Failed(error) => Self::Unreachable { message: root_of(error) },
            CmdError::FailedC(error) => Self::Unreachable { message: root_of(error) },
            CmdError::Lost(_) => Self::Unreachable { message: "its answer cannot be read".to_owned() },
            other => Self::Foreign { answer: other.to_string() },
        }
    }
}

/// The innermost cause says what happened; those around it only who was told.
fn root_of(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

fn quote(text: &str) -> String {
    let text: String = text.chars().take(QUOTED).collect();
    format!("{text:?}")
}

/// Opens connections that break when `cut` is cancelled.
#[derive(Clone)]
struct Dial {
    cut: CancellationToken,
}

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Line>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let cut = self.cut.clone();
        Box::pin(async move {
            let own_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let stream = tokio::select! {
                stream = TcpStream::connect((host, uri.port_u16().unwrap_or(own_port))) => stream?,
                () = cut.cancelled() => return Err(hung_up()),
            };
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Line { stream, cut: Box::pin(cut.cancelled_owned()), read: 0 }))
        })
    }
}

/// A connection for one command.
struct Line {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    read: u64,
}

fn hung_up() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "nobody waits for it any more")
}

impl Line {
    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() { Err(hung_up()) } else { Ok(()) }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read += (buf.filled().len() - before) as u64;
        if self.read > ANSWER_MAX {
            return Poll::Ready(Err(io::Error::other(format!("its answer is over {ANSWER_MAX} bytes"))));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
