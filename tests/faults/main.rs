//! Faults: real processes, really killed.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stderr, reason = "a skip is said")]

mod chaos;
mod driver;
#[path = "../it/support/graphs.rs"]
#[allow(dead_code, reason = "one graph is enough here")]
mod graphs;
mod orphans;
#[path = "../support/serve.rs"]
mod serve;
mod store;
#[path = "../support/table.rs"]
mod table;
