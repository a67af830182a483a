//! Faults: real processes, really killed.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stderr, reason = "a skip is said")]

mod cell;
mod cells;
mod chaos;
mod driver;
mod engines;
#[path = "../it/support/graphs.rs"]
mod graphs;
mod hog;
mod load;
mod orphans;
mod plans;
mod processes;
#[path = "../support/proof.rs"]
mod proof;
mod proxy;
mod scenarios;
#[path = "../support/serve.rs"]
mod serve;
mod sightings;
mod stage;
mod standing;
mod store;
#[path = "../support/table.rs"]
mod table;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
