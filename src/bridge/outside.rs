//! The listener for browsers on other hosts: TLS, because a page gets a GPU and shared memory in a secure context
//! alone, and beyond loopback only TLS makes one.
//!
//! TLS ends here: the bytes within pass on to a plain listener on loopback, so that every socket of the bridge is a
//! TCP connection, which is written without copies. That listener answers to the outside name alone.
//! It serves what the bridge's own listener serves and nothing else.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    serve::{Listener, ListenerExt},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::PublicKeyData as _;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{BridgeError, guard::Origin, listener::without_delay};
use crate::tasks::Tasks;

/// Links are upgraded from HTTP/1.1, so nothing newer is offered.
const PROTOCOL: &[u8] = b"http/1.1";

/// Connections at a time, handshakes included: a page has about ten. More wait in the system's queue.
const CONNECTIONS_MAX: usize = 512;

/// The system's queue of connections that nobody has accepted.
const BACKLOG: u32 = 1024;

/// A few round trips and a signature, over any network that tensors should travel.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// A browser opens a connection because it has something to ask; one that keeps silent would keep its place.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// The head of a page's request is below 1 KiB.
const HEAD_MAX: usize = 16 << 10;

/// How much of a connection is passed on at a time, each way: several records of TLS.
const PIECE: usize = 64 << 10;

/// What a socket is given for its last words, and a little for their way.
const STOP_GRACE: Duration = Duration::from_millis(1500);

/// Where browsers on other hosts find the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    pub listen: SocketAddr,
    /// Files in PEM form; without them a certificate is made at each start, which no browser trusts by itself.
    pub certificate: Option<Certificate>,
    pub made: Option<Made>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// A certificate of our own making.
#[derive(Clone, PartialEq, Eq)]
pub struct Made {
    chain: String,
    key: String,
    /// By which a browser can be told to trust this one and no other: its public key's SHA-256, in base64.
    pub pin: String,
}

/// Without the key.
impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Made {
    fn for_host(host: &str) -> Result<Self, BridgeError> {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()])
            .map_err(|error| BridgeError::Certificate { message: error.to_string() })?;
        let pin = STANDARD.encode(Sha256::digest(made.signing_key.subject_public_key_info()));
        Ok(Self { chain: made.cert.pem(), key: made.signing_key.serialize_pem(), pin })
    }
}

/// A listener that has its address and does not serve yet.
pub(super) struct Bound {
    pub(super) origin: Origin,
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Outside {
    /// Makes the certificate that is wanted and named by nobody.
    pub(super) fn prepare(&mut self, public: Option<&Origin>) -> Result<(), BridgeError> {
        if self.certificate.is_none() && self.made.is_none() {
            let ip = self.listen.ip().to_string();
            self.made = Some(Made::for_host(public.map_or(&ip, |public| public.host()))?);
        }
        Ok(())
    }

    pub(super) async fn bind(mut self, public: Option<Origin>) -> Result<Bound, BridgeError> {
        self.prepare(public.as_ref())?;
        let wrong = |source| BridgeError::Bind { address: self.listen, source };
        let listener = listen(self.listen).map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        let origin = match public {
            Some(public) => public,
            None => {
                let text = format!("https://{address}");
                Origin::parse(&text)
                    .map_err(|wrong| BridgeError::Certificate { message: wrong.to_owned() })?
            }
        };
        let tls = tls(self.certificate, self.made).await?;
        Ok(Bound { origin, listener, tls })
    }
}

/// Connections inherit that the system looks for hosts that vanished: else those would keep their places for ever.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What TLS is spoken with by whoever has this certificate.
pub(crate) async fn tls(files: Option<Certificate>, made: Option<Made>) -> Result<TlsAcceptor, BridgeError> {
    let wrong = |message| BridgeError::Certificate { message };
    let settings = match (files, made) {
        (Some(Certificate { chain, key }), _) => {
            let at_fault = |path: &PathBuf, error: io::Error| wrong(format!("{}: {error}", path.display()));
            let chain_pem = tokio::fs::read(&chain).await.map_err(|error| at_fault(&chain, error))?;
            let key_pem = tokio::fs::read(&key).await.map_err(|error| at_fault(&key, error))?;
            settings(&chain_pem, &key_pem)
                .map_err(|error| wrong(format!("{} with {}: {error}", chain.display(), key.display())))?
        }
        (None, Some(Made { chain, key, .. })) => {
            settings(chain.as_bytes(), key.as_bytes()).map_err(|error| wrong(error.to_string()))?
        }
        (None, None) => return Err(wrong("none was made".to_owned())),
    };
    Ok(Arc::new(settings).into())
}

/// The settings of a server with this chain of certificates and this key, in PEM form.
fn settings(chain: &[u8], key: &[u8]) -> Result<ServerConfig, rustls::Error> {
    let unread = |what, error| rustls::Error::General(format!("the {what} cannot be read: {error}"));
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unread("chain", error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unread("key", error))?;
    let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let settings = settings.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut settings = settings.with_single_cert(chain, key)?;
    settings.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(settings)
}

impl Bound {
    pub(super) async fn serve(self, router: Router, tasks: &Tasks) -> Result<(), BridgeError> {
        let Self { origin, listener, tls } = self;
        let refused = |source| BridgeError::Serve { origin: origin.clone(), source };
        let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(refused)?;
        let within = plain.local_addr().map_err(refused)?;
        // Stopping closes the connections that are idle; those that are not end with their relays.
        let served = axum::serve(plain.tap_io(without_delay), router)
            .with_graceful_shutdown(tasks.stopping().cancelled_owned());
        let overdue = overdue(tasks);
        tasks.spawn("bridge listener behind TLS", async move {
            tokio::select! {
                result = served => tracing::debug!(?result, "the bridge's listener behind TLS ended"),
                () = overdue => {}
            }
        });
        let (stopping, relays) = (tasks.stopping(), tasks.clone());
        tasks.spawn("bridge listener for other hosts", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = accept(listener, tls, within, &relays) => {}
            }
        });
        Ok(())
    }
}

/// Resolves when a stopping daemon waits for nobody's last words any more.
pub(crate) fn overdue(tasks: &Tasks) -> impl Future<Output = ()> + Send + use<> {
    let stopping = tasks.stopping();
    async move {
        stopping.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    }
}

/// Accepts connections as long as there are places, and passes each on to the listener `within`.
async fn accept(mut listener: TcpListener, tls: TlsAcceptor, within: SocketAddr, tasks: &Tasks) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        if places.available_permits() == 0 {
            tracing::warn!(
                "{CONNECTIONS_MAX} connections from other hosts are open; more wait until one closes"
            );
        }
        let Ok(place) = places.clone().acquire_owned().await else { return };
        // Accepting as axum does: a wait instead of an error while there are no descriptors.
        let (outer, from) = Listener::accept(&mut listener).await;
        let (tls, overdue) = (tls.clone(), overdue(tasks));
        tasks.spawn("bridge connection from another host", async move {
            let ended = tokio::select! {
                result = relay(outer, &tls, within) => result,
                () = overdue => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(%from, %error, "a connection from another host broke");
            }
            drop(place);
        });
    }
}

/// Passes bytes on in both directions until both have ended.
pub(crate) async fn relay(mut outer: TcpStream, tls: &TlsAcceptor, within: SocketAddr) -> io::Result<()> {
    without_delay(&mut outer);
    let mut outer = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(outer)).await??;
    let first = tokio::time::timeout(REQUEST_WITHIN, first_request(&mut outer)).await??;
    let mut inner = TcpStream::connect(within).await?;
    without_delay(&mut inner);
    inner.write_all(&first).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut outer, &mut inner, PIECE, PIECE).await?;
    Ok(())
}

/// Reads until the first request's head is whole; what comes after it in the same breath is read too.
async fn first_request(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::with_capacity(HEAD_MAX);
    let mut seen = 0;
    while !head[seen..].windows(END.len()).any(|window| window == END) {
        // The end may have come in pieces.
        seen = head.len().saturating_sub(END.len() - 1);
        if head.len() >= HEAD_MAX {
            return Err(io::Error::other(format!("the head of its first request is over {HEAD_MAX} bytes")));
        }
        if from.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_passed_on_once_its_head_is_whole() {
        let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'y'; HEAD_MAX], b"\r\n\r\n"].concat();
        let cases: [(&str, &[u8], bool); 5] = [
            ("whole", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", true),
            ("with more behind it", b"GET / HTTP/1.1\r\n\r\nmore", true),
            ("cut short", b"GET / HTTP/1.1\r\nhost: a\r\n\r", false),
            ("nothing", b"", false),
            ("too long", &long, false),
        ];
        for (case, bytes, whole) in cases {
            for piece in [1, 3, bytes.len().max(1)] {
                let (mut near, mut far) = tokio::io::duplex(2 * HEAD_MAX);
                let sending = async {
                    for piece in bytes.chunks(piece) {
                        far.write_all(piece).await.expect("room in the pipe");
                        tokio::task::yield_now().await;
                    }
                    drop(far);
                };
                let (read, ()) = tokio::join!(first_request(&mut near), sending);
                assert_eq!(read.is_ok(), whole, "{case} in pieces of {piece}");
                let read = read.unwrap_or_default();
                assert!(bytes.starts_with(&read), "{case} in pieces of {piece}");
            }
        }
    }
}
