//! weft turns real web browsers into one inference engine.
//!
//! The rooms, in reading order. Imports point upwards only; `tests/it/tidy.rs` checks it.

pub mod domain;
pub mod protocol;
pub mod onnx;
pub mod tasks;
pub mod events;
pub mod store;
pub mod driver;
pub mod bridge;
pub mod backend;
pub mod models;
pub mod pool;
pub mod scheduler;
pub mod http;
pub mod config;
pub mod daemon;
pub mod cli;
