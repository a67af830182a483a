//! Faults: real processes, really killed.

mod driver;
mod store;
