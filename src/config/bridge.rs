//! Where browsers find the harness: on loopback, through a proxy, or over TLS from other hosts.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Certificate, ConfigError, Door, Origin, Outside, RawBridge, listen_address};

impl RawBridge {
    /// By default any port on the address of the daemon's own listener, when that is on loopback.
    pub(super) fn resolve(self, beside: SocketAddr) -> Result<Door, ConfigError> {
        let invalid = |message: String| ConfigError::Invalid(message);
        let near = if beside.ip().is_loopback() { beside.ip() } else { Ipv4Addr::LOCALHOST.into() };
        let any = SocketAddr::new(near, 0);
        let public = self.public.as_deref().map(Origin::parse).transpose();
        let public = public.map_err(|wrong| invalid(format!("bridge.public is {wrong}")))?;
        let certificate = match (self.certificate, self.key) {
            (Some(chain), Some(key)) => Some(Certificate { chain, key }),
            (None, None) => None,
            _ => return Err(invalid("bridge.certificate and bridge.key are wanted together".to_owned())),
        };
        let beyond = self.listen.as_deref().and_then(|listen| listen.parse::<SocketAddr>().ok());
        let Some(listen) = beyond.filter(|listen| !listen.ip().is_loopback()) else {
            if certificate.is_some() {
                return Err(invalid(
                    "bridge.certificate: only a listener beyond loopback uses one".to_owned(),
                ));
            }
            let local = self.listen.as_deref().map_or(Ok(any), listen_address)?;
            return Ok(Door { local, outside: None, public });
        };
        match &public {
            None if listen.ip().is_unspecified() => {
                return Err(invalid(format!(
                    "bridge.public is wanted as https://HOST:PORT, since {listen} tells no browser where to go"
                )));
            }
            Some(public) if !public.is_tls() => {
                return Err(invalid(format!("bridge.public must be https://, since {listen} speaks TLS")));
            }
            _ => {}
        }
        let outside = Some(Outside { listen, certificate, made: None });
        Ok(Door { local: any, outside, public })
    }
}
