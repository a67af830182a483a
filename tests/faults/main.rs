//! Faults: real processes, really killed.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stderr, reason = "a skip is said")]

mod cells;
mod driver;
mod engines;
mod hog;
mod load;
mod processes;
mod proxy;
mod scenarios;
#[path = "../support/serve.rs"]
mod serve;
mod sightings;
mod stage;
mod store;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
