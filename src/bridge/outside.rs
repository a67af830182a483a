//! The listener for browsers on other hosts: TLS, because a page gets a GPU and shared memory in a secure context
//! alone, and beyond loopback only TLS makes one.
//!
//! It serves what the loopback listener serves and nothing else.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use axum::Router;
use axum_server::{accept::NoDelayAcceptor, tls_rustls::RustlsConfig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::PublicKeyData as _;
use sha2::{Digest as _, Sha256};

use super::{BridgeError, guard::Origin};
use crate::tasks::Tasks;

/// Links are upgraded from HTTP/1.1, so nothing newer is offered.
const PROTOCOL: &[u8] = b"http/1.1";

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
    tls: RustlsConfig,
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
        let listener = TcpListener::bind(self.listen).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
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

async fn tls(files: Option<Certificate>, made: Option<Made>) -> Result<RustlsConfig, BridgeError> {
    let wrong = |message| BridgeError::Certificate { message };
    let read = match (files, made) {
        (Some(Certificate { chain, key }), _) => {
            let read = RustlsConfig::from_pem_chain_file(&chain, &key).await;
            read.map_err(|error| wrong(format!("{} with {}: {error}", chain.display(), key.display())))?
        }
        (None, Some(Made { chain, key, .. })) => {
            let read = RustlsConfig::from_pem(chain.into_bytes(), key.into_bytes()).await;
            read.map_err(|error| wrong(error.to_string()))?
        }
        (None, None) => return Err(wrong("none was made".to_owned())),
    };
    let mut settings = (*read.get_inner()).clone();
    settings.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(settings)))
}

impl Bound {
    pub(super) fn serve(self, router: Router, tasks: &Tasks) -> Result<(), BridgeError> {
        let Self { origin, listener, tls } = self;
        let refused = |source| BridgeError::Serve { origin: origin.clone(), source };
        let server = axum_server::from_tcp_rustls(listener, tls).map_err(refused)?;
        let server = server.map(|acceptor| acceptor.acceptor(NoDelayAcceptor::new())).http1_only();
        let stopping = tasks.stopping();
        tasks.spawn("bridge listener for other hosts", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                result = server.serve(router.into_make_service()) => {
                    tracing::error!(?result, "the bridge's listener for other hosts ended");
                }
            }
        });
        Ok(())
    }
}
