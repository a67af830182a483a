//! Benchmark suites: what is measured, what came out, and whether two results differ. Pure; the command line measures.

mod compare;
mod environment;
mod results;
pub mod statistics;
mod suite;
#[cfg(test)]
mod tests;

pub use compare::{Comparison, Judged, Verdict, compare};
pub use environment::{Environment, Place, differences};
pub use results::{Cell, Figures, Outcome, Results, State};
pub use suite::{Limits, Scenario, Subject, Suite, SuiteError, Wanted};
