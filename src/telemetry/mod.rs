//! What the daemon tells about itself while it works: metrics, logs and traces.
//!
//! Others record and open spans here; nothing here waits, and nothing is decided from what it holds.
//! The libraries that carry it, `metrics` and `opentelemetry`, appear in no other room.

mod log;
mod metrics;
mod minute;
mod origin;
mod otlp;
mod process;
mod table;
#[cfg(test)]
mod tests;

pub use log::{Format, Log, LogError, LogOrder};
pub use metrics::{Metrics, Sample};
pub use minute::LastMinute;
pub use origin::{Origin, TRACES, Trace};
pub use table::{Kind, METRICS, Metric};
