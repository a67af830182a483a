//! Our own kernels, and what runs them over a graph: an ONNX graph at certain sizes becomes a routine of calls, and a
//! routine becomes a program that a GPU or a WebAssembly module follows without knowing what a model is.
//!
//! It owns the kernels' sources and what is computed with them.
//! It never touches a device, a file or a clock: hosts do, natively in `backend/wgpu` and in the page.

mod fuse;
pub mod gpu;
pub mod host;
pub mod ir;
pub mod lower;
pub mod reference;
pub mod wasm;

pub use fuse::fuse;
