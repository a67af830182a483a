//! Fast tests of the rooms together; no browser is started here.

mod absent;
mod access;
mod adding;
#[path = "../fuzz/src/archives.rs"]
mod archives;
mod asking;
#[path = "../../src/socket/assembly.rs"]
#[allow(dead_code, unreachable_pub, reason = "what only the socket itself asks for")]
mod assembly;
mod attach;
mod bad_input;
mod batching;
mod benching;
#[path = "../fuzz/src/blocks.rs"]
mod blocks;
mod caching;
#[path = "../support/checkpoints.rs"]
mod checkpoints;
mod cli;
#[path = "../support/conversion.rs"]
mod conversion;
mod converting;
mod cutting;
mod dashboard;
mod decoding;
#[path = "../support/decoding.rs"]
mod decoding_support;
mod downloads;
mod elsewhere;
mod encoding;
mod endpoints;
mod foreign;
#[path = "../../src/socket/frame.rs"]
mod frame;
mod gate;
mod gateways;
mod hedging;
mod hostile;
mod idempotency;
mod interrupting;
mod ipfs;
mod kernels;
mod keys;
mod links;
mod loading;
#[path = "../support/lowered.rs"]
mod lowered;
mod making;
mod memory;
mod metrics;
mod native;
mod oip;
mod outside;
mod packages;
mod plan_losses;
mod plan_orders;
mod plan_sequences;
mod plans;
mod pool;
mod precision;
mod programs;
#[path = "../support/proof.rs"]
mod proof;
#[path = "../fuzz/src/properties.rs"]
mod properties;
mod quantised;
mod records;
mod reload;
mod replay;
mod resources;
mod results;
mod scheduling;
mod sequences;
mod splitting;
mod standing;
mod stopping;
mod storm;
mod support;
mod telemetry;
mod tidy;
mod tls;
mod tokens;
mod unread;
mod variants;
mod verifying;
mod wasm;
mod webdriver;
mod wgpu;

// Where the properties look for the rooms, here and in the fuzzer's crate.
use weft::{access::token, content, domain, driver::wire::message, models::source, onnx, protocol};
