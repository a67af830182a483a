//! How a call reaches its daemon: plain, or over TLS, with the system's certificate authorities or the one of `--ca`.
//!
//! `reqwest` would bring a second cryptography for TLS, so it only writes requests here and reads answers.

use std::{path::Path, sync::Arc};

use anyhow::{Context, anyhow, bail};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use reqwest::{Body, Method, Request, Response};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config, tungstenite,
};

pub(super) struct Wire {
    tls: Arc<ClientConfig>,
    http: Client<HttpsConnector<HttpConnector>, Body>,
}

impl Wire {
    /// For a daemon at `url`, whose certificate is signed by one of the authorities in `ca`, where that is given.
    pub(super) fn new(url: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let tls = if url.starts_with("https:") { trusting(ca)? } else { plain() };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let http = Client::builder(TokioExecutor::new()).build(connector.enable_http1().build());
        Ok(Self { tls: Arc::new(tls), http })
    }

    pub(super) async fn send(&self, request: Request) -> anyhow::Result<Response> {
        let request = http::Request::<Body>::try_from(request).context("the request")?;
        Ok(self.http.request(request).await?.map(Body::wrap).into())
    }

    pub(super) async fn get(&self, url: &str) -> anyhow::Result<Response> {
        self.send(Request::new(Method::GET, url.parse().context("the address")?)).await
    }

    pub(super) async fn socket(
        &self,
        opening: tungstenite::http::Request<()>,
    ) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, tungstenite::Error> {
        let tls = Connector::Rustls(self.tls.clone());
        let (socket, _) = connect_async_tls_with_config(opening, None, false, Some(tls)).await?;
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
