//! Reads ONNX files and says what is in them: signature, opset, operators, weights, and the values that inputs take.
//!
//! It never runs a graph, and never fetches a file.

mod analyse;
#[cfg(test)]
pub(crate) mod build;
mod check;
pub mod convert;
mod cost;
pub mod cut;
mod external;
mod notes;
mod parts;
pub mod precision;
pub(crate) mod proto;
mod ranges;
mod read;
mod shapes;

pub(crate) use analyse::datatype;
pub use analyse::{Analysis, analyse};
pub use check::{CheckError, Outside};
pub use cost::{Costs, NodeCost, Total, costs};
pub use external::{TakeError, lean, rename_files};
pub(crate) use external::{lean_from, range};
pub use notes::{CONVERTER, annotate, metadata};
pub use ranges::{InputRange, Values};
pub use read::{FILE_BYTES_MAX, check, external_files, open, open_whole};
pub use shapes::{Expr, Size, Sizes, told_at};

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("{} is a directory, not an ONNX file", path.display())]
    Directory { path: PathBuf },
    #[error("could not read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} has {bytes} bytes, more than the {FILE_BYTES_MAX} that a protobuf file can have", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("the file is empty")]
    Empty,
    #[error("not an ONNX file: {source}")]
    NotProtobuf { source: prost::DecodeError },
    #[error("the file has more than {most} nodes, weights, names and other parts")]
    Parts { most: usize },
    #[error("the file has graphs or types within each other, deeper than {most} messages")]
    Nested { most: usize },
    #[error("not an ONNX file: it names no IR version")]
    NoIrVersion,
    #[error("the model has no graph")]
    NoGraph,
    #[error("the model imports no version of the standard operators")]
    NoOpset,
    #[error("the model imports version {version} of the standard operators, which does not exist")]
    Opset { version: i64 },
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error("weight {tensor:?} is in an external file that it does not name")]
    ExternalUnnamed { tensor: String },
    #[error("the graph has no outputs")]
    NoOutputs,
    #[error("the graph has an unnamed {role}")]
    Unnamed { role: &'static str },
    #[error("the name {name:?} is given to more than one {role}")]
    Duplicate { role: &'static str, name: String },
    #[error("{role} {name:?} is a {kind}; only tensors are supported")]
    NotTensor { role: &'static str, name: String, kind: &'static str },
    #[error("{role} {name:?} has element type {code}, which the Open Inference Protocol cannot carry")]
    ElementType { role: &'static str, name: String, code: i32 },
    #[error("input {name:?} has no declared rank")]
    NoRank { name: String },
}

#[cfg(test)]
mod tests;
