//! Fast tests of the rooms together; no browser is started here.

mod absent;
mod attach;
mod bad_input;
mod cli;
mod encoding;
mod gate;
mod idempotency;
mod links;
mod loading;
mod memory;
mod native;
mod oip;
mod outside;
mod pool;
#[path = "../fuzz/src/properties.rs"]
mod properties;
mod records;
mod replay;
mod resources;
mod scheduling;
mod stopping;
mod storm;
mod support;
mod tidy;
mod unread;
mod webdriver;
#[path = "../../src/socket/frame.rs"]
mod websocket;

// Where `properties` looks for the rooms, here and in the fuzzer's crate.
use weft::{domain, driver::wire::message, onnx, protocol};
