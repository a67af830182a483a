//! Benchmark suites: what is measured, what came out, and whether two results differ. Pure; the command line measures.

mod compare;
mod document;
mod environment;
mod report;
mod results;
pub mod statistics;
mod suite;
#[cfg(test)]
mod tests;

pub use compare::{Comparison, Judged, Verdict, compare};
pub use document::{DocumentError, VERSION};
pub use environment::{Environment, Place, differences};
pub use report::Report;
pub use results::{Cell, Figures, Outcome, Results, State};
pub use suite::{Limits, Scenario, Subject, Suite, SuiteError, Wanted};
