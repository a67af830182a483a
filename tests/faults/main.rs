//! Faults: real processes, really killed.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stderr, reason = "a skip is said")]

mod driver;
mod orphans;
mod store;
#[path = "../support/table.rs"]
mod table;
