//! Of the sources, what reads bytes and nothing else.

#[path = "../../../src/models/source/archive.rs"]
pub mod archive;
