//! What of the daemon's work is told to whom.

use serde::Deserialize;

use super::ConfigError;
use crate::telemetry::{Format, Log};

/// The CDP library tells of every message that it does not know, of which browsers send many.
pub const FILTER: &str = "warn,weft=info,chromiumoxide::handler=off";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTelemetry {
    pub otlp: Option<String>,
    pub log: Option<Format>,
    pub filter: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// A collector that takes OTLP over HTTP.
    pub otlp: Option<String>,
    pub log: Format,
    /// Which lines are logged.
    pub filter: String,
}

impl RawTelemetry {
    pub(super) fn resolve(self) -> Result<Telemetry, ConfigError> {
        let invalid = |message: String| Err(ConfigError::Invalid(message));
        if let Some(otlp) = &self.otlp {
            match url::Url::parse(otlp) {
                Ok(url) if url.scheme() == "http" && url.has_host() => {}
                _ => {
                    return invalid(format!(
                        "telemetry.otlp: {otlp:?} is no address of a collector: say http://HOST:4318; for one that \
                         speaks TLS, run a collector beside weft"
                    ));
                }
            }
        }
        if let Some(filter) = &self.filter
            && let Err(error) = Log::check(filter)
        {
            return invalid(format!("telemetry.filter: {error}"));
        }
        let filter = self.filter.unwrap_or_else(|| FILTER.to_owned());
        Ok(Telemetry { otlp: self.otlp, log: self.log.unwrap_or_default(), filter })
    }
}
