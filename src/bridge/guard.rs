//! Who may talk to a listener: requests that name it as their host, from pages that it served itself.
//!
//! A foreign web page can make a browser send requests to loopback, by address or by a name that resolves to it.
//! The first carries a foreign `Origin`, the second a foreign `Host`.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, header};

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

/// Whether `headers` came for the listener at `address`, from nowhere else than itself or no page at all.
pub fn check(headers: &HeaderMap, address: SocketAddr) -> Result<(), Refused> {
    let host = text(headers, &header::HOST).ok_or(Refused::Host)?;
    if !names_of(address).any(|name| name.eq_ignore_ascii_case(host)) {
        return Err(Refused::Host);
    }
    match headers.get(header::ORIGIN) {
        None => Ok(()),
        Some(_) => check_origin(headers, address),
    }
}

/// Whether `headers` carry the `Origin` of the listener at `address`.
pub fn check_origin(headers: &HeaderMap, address: SocketAddr) -> Result<(), Refused> {
    let origin = text(headers, &header::ORIGIN).ok_or(Refused::Origin)?;
    let host = origin.strip_prefix("http://").ok_or(Refused::Origin)?;
    if names_of(address).any(|name| name.eq_ignore_ascii_case(host)) { Ok(()) } else { Err(Refused::Origin) }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn names_of(address: SocketAddr) -> impl Iterator<Item = String> {
    let local = address.ip().is_loopback().then(|| format!("localhost:{}", address.port()));
    std::iter::once(address.to_string()).chain(local)
}
