//! Who is let in, by what name and over what: `[access]`, `[tls]`, `public` and the limits on connections.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{Certificate, ConfigError, LISTEN, Origin, RawLimits, positive};
use crate::{
    access::{Allowance, Rules, Settings, TokenSettings},
    http::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS, ConnectionLimits},
};

/// A working day: whoever begins one logs in.
const SESSION: Duration = Duration::from_secs(12 * 3600);

/// A session outlives no week without its key.
const SESSION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAccess {
    pub required: Option<bool>,
    #[serde(with = "humantime_serde")]
    pub session: Option<Duration>,
    pub tokens: Option<RawTokens>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTokens {
    pub keys: PathBuf,
    pub audience: Option<String>,
    pub issuer: Option<String>,
    pub weight: Option<u32>,
    pub rate_per_second: Option<NonZeroU32>,
    pub quota_per_day: Option<NonZeroU32>,
    pub in_flight: Option<NonZeroU32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How clients reach the daemon.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) listen: SocketAddr,
    /// What clients call the daemon when that is not where it listens.
    pub(super) public: Option<Origin>,
    pub(super) certificate: Option<Certificate>,
    pub(super) connections: ConnectionLimits,
    pub(super) access: Settings,
}

/// Resolves what of the file concerns clients.
pub(super) fn resolve(
    listen: Option<String>,
    public: Option<String>,
    access: RawAccess,
    tls: Option<RawTls>,
    limits: &RawLimits,
) -> Result<Entry, ConfigError> {
    let invalid = |message: String| ConfigError::Invalid(message);
    let listen = listen.unwrap_or_else(|| LISTEN.to_owned());
    let listen: SocketAddr = listen
        .parse()
        .map_err(|_| invalid(format!("{listen:?} is no address to listen on: say IP:PORT, as {LISTEN}")))?;
    let public = public.map(|text| Origin::read(&text)).transpose();
    let public = public.map_err(|wrong| invalid(format!("public is {wrong}")))?;
    let near = listen.ip().is_loopback();
    let required = access.required.unwrap_or(false);
    if !required && (!near || public.as_ref().is_some_and(|public| !public.is_loopback())) {
        let which = if near { "public" } else { "listen" };
        return Err(invalid(format!(
            "{which} lets others than this host in, and without authentication weft serves nobody else: \
             say `required = true` in [access] of weft.toml, and make a key with `weft keys add NAME`"
        )));
    }
    if public.is_none() && listen.ip().is_unspecified() {
        return Err(invalid(format!(
            "public is wanted, as https://HOST:PORT, since {listen} tells nobody what to call the daemon"
        )));
    }
    let certificate = tls.map(|tls| Certificate { chain: tls.certificate, key: tls.key });
    if certificate.is_some() && public.as_ref().is_some_and(|public| !public.is_tls()) {
        return Err(invalid("public must be https://, since [tls] is there".to_owned()));
    }
    let session = access.session.unwrap_or(SESSION);
    if session.is_zero() || session > SESSION_MAX {
        return Err(invalid("access.session lies between 1 s and 7 days".to_owned()));
    }
    let tokens = access.tokens.map(|tokens| TokenSettings {
        keys: tokens.keys,
        rules: Rules { audience: tokens.audience, issuer: tokens.issuer },
        allowance: Allowance {
            weight: tokens.weight.unwrap_or(1).max(1),
            rate_per_second: tokens.rate_per_second,
            quota_per_day: tokens.quota_per_day,
            in_flight: tokens.in_flight,
        },
    });
    let most = positive(limits.connections, CONNECTIONS_MAX, "limits.connections")?;
    let per_address = positive(
        limits.connections_per_address,
        if near { most } else { CONNECTIONS_PER_ADDRESS },
        "limits.connections_per_address",
    )?;
    let connections = ConnectionLimits::new(most, (per_address < most).then_some(per_address));
    let access = Settings { required, session, tokens };
    Ok(Entry { listen, public, certificate, connections, access })
}
