//! Benchmark suites: what is measured, what came out, and whether two results differ. Pure; the command line measures.

mod arrivals;
mod compare;
mod document;
mod environment;
mod report;
mod results;
mod scenario;
pub mod statistics;
mod suite;
#[cfg(test)]
mod tests;

pub use arrivals::Arrivals;
pub use compare::{Comparison, Judged, Verdict, compare};
pub use document::{DocumentError, VERSION};
pub use environment::{Environment, Place, differences};
pub use report::Report;
pub use results::{Cell, Cold, Figures, Growth, Key, Memory, Outcome, Results, Served, State};
pub use scenario::{Scenario, Scenarios, Start, Varied};
pub use suite::{Limits, Planned, Precision, Subject, Suite, SuiteError, Wanted};
