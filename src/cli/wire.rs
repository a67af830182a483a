//! How a call reaches its daemon: plain, or over TLS, with the system's certificate authorities or the one of `--ca`.
//!
//! One connector for requests and for the WebSocket. `reqwest` would bring a second cryptography for TLS, so it only
//! writes requests here and reads answers.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use reqwest::{Body, Method, Request, Response};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};
use tower_service::Service as _;

/// Plain or encrypted.
type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// A WebSocket to a daemon.
pub(super) type Socket = WebSocketStream<Stream>;

pub(super) struct Wire {
    connector: HttpsConnector<HttpConnector>,
    http: Client<HttpsConnector<HttpConnector>, Body>,
}

impl Wire {
    /// For a daemon at `url`, whose certificate is signed by one of the authorities in `ca`, where that is given.
    pub(super) fn new(url: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let tls = if url.starts_with("https:") { trusting(ca)? } else { plain() };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = connector.enable_http1().build();
        let http = Client::builder(TokioExecutor::new()).build(connector.clone());
        Ok(Self { connector, http })
    }

    pub(super) async fn send(&self, request: Request) -> anyhow::Result<Response> {
        let request = http::Request::<Body>::try_from(request).context("the request")?;
        Ok(self.http.request(request).await?.map(Body::wrap).into())
    }

    pub(super) async fn get(&self, url: &str) -> anyhow::Result<Response> {
        self.send(Request::new(Method::GET, url.parse().context("the address")?)).await
    }

    /// A WebSocket to the daemon at `url`.
    pub(super) async fn socket(
        &self,
        url: &str,
        opening: tungstenite::http::Request<()>,
    ) -> anyhow::Result<Socket> {
        let place = url.parse().context("the address")?;
        let stream = self.connector.clone().call(place).await.map_err(|error| anyhow!(error))?;
        let (socket, _) = client_async(opening, TokioIo::new(stream)).await?;
        Ok(socket)
    }
}

/// Nothing is encrypted, so nobody need be trusted.
fn plain() -> ClientConfig {
    ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn trusting(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let Some(file) = ca else {
        let system = ClientConfig::builder().with_native_roots().context("this system's certificates")?;
        return Ok(system.with_no_client_auth());
    };
    let named = || file.display().to_string();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(named)? {
        roots.add(certificate.with_context(named)?).with_context(named)?;
    }
    if roots.is_empty() {
        bail!("{} has no certificate in PEM form", file.display());
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// The innermost reason that a daemon could not be reached for: the outer ones say only that.
pub(super) fn reason(error: &anyhow::Error) -> anyhow::Error {
    anyhow!("{}", error.root_cause())
}
