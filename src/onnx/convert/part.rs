//! One graph of a converted model, and how it becomes a file: weight by weight, so that never two are in memory.

use std::{collections::BTreeSet, io::Write};

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use super::{
    ConvertError,
    checkpoint::Checkpoint,
    graph::{Graph, Weight},
};
use crate::{
    domain::ModelKind,
    onnx::{
        CONVERTER, external,
        proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto},
    },
};

/// `LayerNormalization` came with 17; every engine that is used here has all of it.
const OPSET: i64 = 17;

/// The version of the format that came with opset 17.
const IR_VERSION: i64 = 8;

/// `ModelProto::graph`, `GraphProto::initializer` and `TensorProto::raw_data`.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW: u32 = 9;

/// Smaller weights stay in the graph's file: shapes and axes must be read to check a graph, and a page each is waste.
const EXTERNAL_BYTES_MIN: u64 = 1024;

/// What the format recommends, so that a file can be mapped into memory.
const ALIGNMENT: u64 = 4096;

/// One ONNX graph of a model.
pub struct Part<'c> {
    /// `model`, or what the part does: `text`, `vision`, `encoder`, `decoder`.
    pub name: &'static str,
    pub kind: ModelKind,
    /// The `model_type` of the configuration.
    pub architecture: &'static str,
    pub(super) checkpoint: &'c dyn Checkpoint,
    pub(super) graph: Graph,
}

impl Part<'_> {
    /// How long the file is that `write` makes.
    pub fn file_bytes(&self) -> u64 {
        let head = self.head().len() as u64;
        let graph = self.graph_bytes();
        head + prefixed(GRAPH, graph)
    }

    fn graph_bytes(&self) -> u64 {
        let weights = self.graph.weights.iter().map(|weight| {
            let tensor = header(weight).len() as u64;
            prefixed(INITIALIZER, tensor.saturating_add(prefixed(RAW, weight.byte_count())))
        });
        weights.fold(self.graph.proto.encoded_len() as u64, u64::saturating_add)
    }

    /// Writes the part as one file.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), ConvertError> {
        let bytes = self.file_bytes();
        if bytes > crate::onnx::FILE_BYTES_MAX {
            return Err(ConvertError::TooLarge { part: self.name, bytes });
        }
        put(out, &self.head())?;
        put(out, &prefix(GRAPH, self.graph_bytes()))?;
        put(out, &self.graph.proto.encode_to_vec())?;
        for weight in &self.graph.weights {
            let tensor = header(weight);
            let bytes = weight.byte_count();
            put(out, &prefix(INITIALIZER, tensor.len() as u64 + prefixed(RAW, bytes)))?;
            put(out, &tensor)?;
            put(out, &prefix(RAW, bytes))?;
            weight.write(self.checkpoint, out)?;
        }
        Ok(())
    }

    /// Writes the graph, and its weights to another file that the graph calls `location`.
    pub fn write_external(
        &self,
        graph: &mut dyn Write,
        weights: &mut dyn Write,
        location: &str,
    ) -> Result<(), ConvertError> {
        let mut model = self.model();
        let mut proto = self.graph.proto.clone();
        let mut offset = 0u64;
        for weight in &self.graph.weights {
            let bytes = weight.byte_count();
            let mut tensor = tensor(weight);
            if bytes < EXTERNAL_BYTES_MIN {
                let mut raw = Vec::new();
                weight.write(self.checkpoint, &mut raw)?;
                tensor.raw_data = raw.into();
            } else {
                let from = offset.next_multiple_of(ALIGNMENT);
                put(weights, &vec![0; (from - offset) as usize])?;
                weight.write(self.checkpoint, weights)?;
                offset = from + bytes;
                external::place(&mut tensor, location, from, bytes);
            }
            proto.initializer.push(tensor);
        }
        model.graph = Some(proto);
        put(graph, &model.encode_to_vec())
    }

    /// Everything of the file but the graph.
    fn head(&self) -> Vec<u8> {
        self.model().encode_to_vec()
    }

    fn model(&self) -> ModelProto {
        let tensors = self.checkpoint.tensors();
        let used = self.graph.tensors();
        let elements: BTreeSet<_> =
            used.iter().filter_map(|name| tensors.get(*name)).map(|stored| stored.element.as_str()).collect();
        let elements: Vec<_> = elements.into_iter().collect();
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "weft".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: vec![
                StringStringEntryProto::new("architecture", self.architecture),
                StringStringEntryProto::new("part", self.name),
                StringStringEntryProto::new("converter", CONVERTER),
                StringStringEntryProto::new("source_dtype", elements.join(",")),
            ],
            ..ModelProto::default()
        }
    }
}

fn tensor(weight: &Weight) -> TensorProto {
    TensorProto {
        name: weight.name().to_owned(),
        dims: weight.dims().iter().map(|size| i64::try_from(*size).expect("sizes are bounded")).collect(),
        data_type: weight.data_type(),
        ..TensorProto::default()
    }
}

/// A weight's message up to its bytes.
fn header(weight: &Weight) -> Vec<u8> {
    tensor(weight).encode_to_vec()
}

/// How many bytes a field of so many has, with its key and length.
fn prefixed(field: u32, bytes: u64) -> u64 {
    (key_len(field) as u64 + encoded_len_varint(bytes) as u64).saturating_add(bytes)
}

fn prefix(field: u32, bytes: u64) -> Vec<u8> {
    let mut prefix = Vec::new();
    encode_key(field, WireType::LengthDelimited, &mut prefix);
    encode_varint(bytes, &mut prefix);
    prefix
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<(), ConvertError> {
    out.write_all(bytes).map_err(|source| ConvertError::Write { source })
}
