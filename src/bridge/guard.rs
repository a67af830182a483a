//! Who may talk to a listener: requests that name it as their host, from pages that it served itself.
//!
//! A foreign web page can make a browser send requests to loopback, by address or by a name that resolves to it.
//! The first carries a foreign `Origin`, the second a foreign `Host`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use axum::http::{HeaderMap, HeaderName, Uri, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Host,
    Origin,
}

impl Refused {
    pub fn message(self) -> &'static str {
        match self {
            Self::Host => "the Host header names another server",
            Self::Origin => "requests from pages of another origin are refused",
        }
    }
}

/// A scheme, a host and a port as browsers write them: in lower case, and without the scheme's own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Reads an origin whose pages are in a secure context; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let origin = Self::read(text)?;
        if !origin.is_tls() && !origin.is_loopback() {
            return Err(
                "plain HTTP beyond loopback, where pages get no GPU and no shared memory: say https://",
            );
        }
        Ok(origin)
    }

    /// Reads any origin of a server.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "no address of a server: say https://HOST:PORT")?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("no address of a server: say https://HOST:PORT");
        };
        if uri.path() != "/" || uri.query().is_some() || text.ends_with('/') {
            return Err("more than a server: a path has no place in it");
        }
        let (host, port) = (authority.host(), authority.port_u16());
        let written = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if host.is_empty() || authority.as_str() != written || port == Some(0) {
            return Err("no address of a server: say https://HOST:PORT");
        }
        let own_port = if scheme == "http" { 80 } else { 443 };
        let shown = if port == Some(own_port) { host } else { written.as_str() };
        Ok(Self(format!("{scheme}://{shown}").to_lowercase()))
    }

    /// The names of a plain listener.
    pub fn plain(address: SocketAddr) -> Vec<Self> {
        let local = address.ip().is_loopback().then(|| format!("http://localhost:{}", address.port()));
        std::iter::once(format!("http://{address}")).chain(local).map(Self).collect()
    }

    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// Whether nobody else can mean this host by it.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The name or address alone, as certificates have it.
    pub(super) fn host(&self) -> &str {
        let place = self.place();
        match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => place.split(':').next().unwrap_or_default(),
        }
    }

    /// Host and port.
    fn place(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, place)| place)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `headers` came for a listener of these names, from a page of one of them or from no page at all.
pub fn check_named(headers: &HeaderMap, names: &[Origin]) -> Result<(), Refused> {
    let host = text(headers, &header::HOST).ok_or(Refused::Host)?;
    if !names.iter().any(|name| name.place().eq_ignore_ascii_case(host)) {
        return Err(Refused::Host);
    }
    match headers.get(header::ORIGIN) {
        None => Ok(()),
        Some(_) => check_origin(headers, names),
    }
}

/// Whether `headers` carry one of these origins.
pub(super) fn check_origin(headers: &HeaderMap, names: &[Origin]) -> Result<(), Refused> {
    let origin = text(headers, &header::ORIGIN).ok_or(Refused::Origin)?;
    if names.iter().any(|name| name.0.eq_ignore_ascii_case(origin)) { Ok(()) } else { Err(Refused::Origin) }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
