//! From weights and a `config.json` to ONNX graphs.
//!
//! It is given bytes and gives bytes: it opens no file, and runs no graph.

pub mod checkpoint;

#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("the weights have no tensor {name:?}")]
    NoTensor { name: String },
}
