//! Real browsers, one at a time.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::print_stderr, reason = "a skip is said")]

mod attach;
mod benching;
mod ceiling;
#[path = "../support/checkpoints.rs"]
mod checkpoints;
#[path = "../support/conversion.rs"]
mod conversion;
mod converted;
mod daemon;
mod dashboard;
mod decoding;
#[path = "../support/decoding.rs"]
mod decoding_support;
mod doctor;
mod driver;
#[path = "../it/support/graphs.rs"]
mod graphs;
#[path = "../support/harness.rs"]
mod harness;
mod lanes;
mod large;
mod matrix;
mod ours;
mod plans;
mod planted;
mod precision;
#[path = "../support/proof.rs"]
mod proof;
mod remote;
mod repeated;
mod report;
#[path = "../support/serve.rs"]
mod serve;
mod sharding;
mod shares;
mod splits;
mod stage;
mod surroundings;
#[path = "../support/table.rs"]
mod table;
mod webkit;
mod weights;

use std::path::Path;

use weft::modality::{file_type as magika, speech as silero};

/// A missing browser is a skip by name; in CI, which installs them all, it is a failure.
fn skip(browser: &str, program: &Path) {
    let message = format!("skipped: {browser} is not at {}; `make setup` brings it", program.display());
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
}
