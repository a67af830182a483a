//! Benchmark suites: what is measured, what came out, and whether results differ. The command line measures.
//!
//! All is pure but the archive, which keeps results in the store.

mod archive;
mod arrivals;
mod certificate;
mod choice;
mod compare;
mod document;
mod environment;
mod history;
mod report;
mod results;
mod scenario;
pub mod statistics;
mod suite;
mod suites;
#[cfg(test)]
mod tests;
mod validate;

pub use archive::{Archive, ArchiveError, Keeping, KeptVerdict};
pub use arrivals::Arrivals;
pub use certificate::{CertificateError, Signer, Statement, Trusted, digest as certificate_digest, verify};
pub use choice::{Candidate, Choice, choices};
pub use compare::{Comparison, Judged, Verdict, compare, compare_precisions};
pub use document::{DOCUMENT_MAX, DocumentError, VERSION};
pub use environment::{Difference, Environment, Place, differences};
pub use history::{Change, History, Measured, Series};
pub use report::Report;
pub use results::{Cell, Cold, Figures, Growth, Key, Memory, Outcome, Results, Served, State, Turns, Work};
pub use scenario::{Scenario, Scenarios, Start, Varied};
pub use suite::{Lent, Limits, Planned, Precision, Subject, Suite, SuiteError, Wanted};
pub use suites::{KeptSuite, Machine};
pub use validate::{Check, Level, Part, Quality, Validation, validate};
