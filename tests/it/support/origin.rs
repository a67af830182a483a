//! A web server that says what a test wants it to, byte by byte, and remembers what it was asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The byte that its range begins with.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is sent in answer, and how it ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    bytes: Vec<u8>,
    reset: bool,
}

impl Said {
    /// A head of these lines, and a body as it is.
    pub(crate) fn raw(head: &str, body: &[u8]) -> Self {
        let mut bytes =
            format!("HTTP/1.1 {}\r\nConnection: close\r\n\r\n", head.replace('\n', "\r\n")).into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes, reset: false }
    }

    pub(crate) fn status(line: &str) -> Self {
        Self::raw(&format!("{line}\nContent-Length: 0"), b"")
    }

    pub(crate) fn file(body: &[u8], etag: Option<&str>) -> Self {
        let etag = etag.map(|etag| format!("\nETag: {etag}")).unwrap_or_default();
        Self::raw(&format!("200 OK\nContent-Length: {}{etag}", body.len()), body)
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::file(value.to_string().as_bytes(), None)
    }

    pub(crate) fn leads(to: &str) -> Self {
        Self::status(&format!("302 Found\nLocation: {to}"))
    }

    pub(crate) fn rest(body: &[u8], from: usize, etag: &str) -> Self {
        let (last, all) = (body.len() - 1, body.len());
        let head = format!(
            "206 Partial Content\nContent-Length: {}\nContent-Range: bytes {from}-{last}/{all}\nETag: {etag}",
            all - from
        );
        Self::raw(&head, &body[from..])
    }

    /// Without its last bytes.
    pub(crate) fn short(mut self, by: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - by);
        self
    }

    /// Ends in a reset instead of a close.
    pub(crate) fn reset(self) -> Self {
        Self { reset: true, ..self }
    }

    /// What a good server answers for a file of this version.
    pub(crate) fn good(heard: &Heard, body: &[u8], etag: &str) -> Self {
        match heard.from().filter(|_| heard.header("if-range").is_none_or(|known| known == etag)) {
            Some(from) => Self::rest(body, from, etag),
            None => Self::file(body, Some(etag)),
        }
    }
}

type Answer = Arc<dyn Fn(&Heard, usize) -> Said + Send + Sync>;

pub(crate) struct Origin {
    pub(crate) url: String,
    /// Of who speaks TLS.
    pub(crate) certificate: Option<String>,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    /// `answer` is told how often the path was asked for before.
    pub(crate) async fn start(answer: impl Fn(&Heard, usize) -> Said + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answer)).await
    }

    pub(crate) async fn start_tls(answer: impl Fn(&Heard, usize) -> Said + Send + Sync + 'static) -> Self {
        Self::listen(Some(()), Arc::new(answer)).await
    }

    async fn listen(tls: Option<()>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let (acceptor, certificate) = tls.map(|()| acceptor()).unzip();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let memory = heard.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (acceptor, memory, answer) = (acceptor.clone(), memory.clone(), answer.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => drop(serve(stream, &memory, &answer).await.map(close)),
                        Some(acceptor) => {
                            let acceptor: TlsAcceptor = acceptor;
                            if let Ok(stream) = acceptor.accept(stream).await {
                                drop(serve(stream, &memory, &answer).await);
                            }
                        }
                    }
                });
            }
        });
        let scheme = if certificate.is_some() { "https" } else { "http" };
        Self { url: format!("{scheme}://{address}"), certificate, heard, task }
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no panic").clone()
    }

    /// How often it was asked.
    pub(crate) fn count(&self) -> usize {
        self.heard().len()
    }
}

fn acceptor() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// Answers one request; gives the connection and whether to reset it.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    memory: &Mutex<Vec<Heard>>,
    answer: &Answer,
) -> Option<(S, bool)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a request line").to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let heard = Heard { path, headers };
    let said = {
        let mut memory = memory.lock().expect("no panic");
        let before = memory.iter().filter(|earlier| earlier.path == heard.path).count();
        memory.push(heard.clone());
        answer(&heard, before)
    };
    stream.write_all(&said.bytes).await.ok()?;
    if !said.reset {
        stream.shutdown().await.ok()?;
    }
    Some((stream, said.reset))
}

fn close((stream, reset): (TcpStream, bool)) {
    if reset {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option of sockets");
    }
}
