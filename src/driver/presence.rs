//! Whether a recipe's browser is here at all, found out without starting anything.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::tungstenite::http::Uri;

use super::{
    DriverError,
    recipe::{Places, Recipe, Source},
};

/// A connection on this machine takes microseconds, and one to another continent less than this.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    Here,
    NotInstalled {
        hint: String,
    },
    /// Nobody listens at the recipe's endpoint.
    NotRunning {
        hint: String,
    },
    /// This platform cannot hold the product.
    Unproven {
        hint: String,
    },
}

impl Recipe {
    pub async fn presence(&self, places: &Places) -> Presence {
        match &self.source {
            Source::Endpoint(endpoint) if self.exists_here() => self.listens(endpoint).await,
            _ => match self.locate(places) {
                Ok(_) => Presence::Here,
                Err(DriverError::NotInstalled { hint, .. }) if self.exists_here() => {
                    Presence::NotInstalled { hint }
                }
                Err(DriverError::NotInstalled { hint, .. }) => Presence::Unproven { hint },
                Err(error) => Presence::NotInstalled { hint: error.to_string() },
            },
        }
    }

    async fn listens(&self, endpoint: &str) -> Presence {
        let why = match timeout(CONNECT_LIMIT, connect(endpoint)).await {
            Ok(Ok(())) => return Presence::Here,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {} s", CONNECT_LIMIT.as_secs()),
        };
        Presence::NotRunning { hint: format!("{endpoint}: {why}; {}", self.install) }
    }
}

async fn connect(endpoint: &str) -> std::io::Result<()> {
    let address: Uri = endpoint.parse().map_err(std::io::Error::other)?;
    let host = address.host().ok_or_else(|| std::io::Error::other("it names no host"))?;
    let secure = matches!(address.scheme_str(), Some("https" | "wss"));
    let port = address.port_u16().unwrap_or(if secure { 443 } else { 80 });
    TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    Ok(())
}
