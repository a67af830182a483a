//! weft turns real web browsers into one inference engine.
//!
//! The rooms, in reading order. Imports point upwards only; `tests/it/tidy.rs` checks it.

pub mod access;
pub mod backend;
pub mod bench;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod content;
pub mod daemon;
pub mod domain;
pub mod driver;
pub mod events;
pub mod http;
pub mod kernels;
pub mod modality;
pub mod models;
pub mod onnx;
pub mod planner;
pub mod pool;
pub mod predict;
pub mod protocol;
pub mod scheduler;
pub mod socket;
pub mod store;
pub mod tasks;
pub mod telemetry;
