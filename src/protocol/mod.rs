//! What daemon, harness and clients say to each other: frames and messages. No IO.

pub mod client;
pub mod frame;
pub mod link;

#[cfg(test)]
mod tests;
