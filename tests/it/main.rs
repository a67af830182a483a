//! Fast tests of the rooms together; no browser is started here.

mod absent;
mod access;
mod attach;
mod bad_input;
mod cli;
mod gate;
mod hostile;
mod keys;
mod links;
mod memory;
mod native;
mod outside;
mod pool;
#[path = "../fuzz/src/properties.rs"]
mod properties;
mod records;
mod replay;
mod scheduling;
mod stopping;
mod storm;
mod support;
mod tidy;
mod tls;
mod tokens;
mod unread;
mod webdriver;
#[path = "../../src/socket/frame.rs"]
mod websocket;

// Where `properties` looks for the rooms, here and in the fuzzer's crate.
use weft::{access::token, domain, driver::wire::message, onnx, protocol};
