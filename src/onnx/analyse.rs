//! What a model's file says about it.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::{
    OnnxError,
    check::byte_size,
    external,
    proto::{DimensionValue, GraphProto, ModelProto, TensorProto, TypeValue, ValueInfoProto, element},
    ranges::{self, InputRange},
    read::{decode, visit_nodes, visit_tensors},
};
use crate::domain::{Conversion, Datatype, Dim, Port, Signature, Tolerance};

#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// An output without a declared rank has an empty shape here.
    pub signature: Signature,
    /// Version of the standard operators.
    pub opset: u64,
    pub producer: String,
    /// Nodes per operator, as `Conv` or `com.microsoft.MatMulNBits`, those within subgraphs and functions included.
    pub operators: BTreeMap<String, u64>,
    /// The files beside the model's own that weights lie in.
    pub external: Vec<String>,
    /// How weft made the file, when it says so.
    pub conversion: Option<Conversion>,
    /// Elements of all weights, wherever in the graph they are.
    pub parameters: u64,
    pub parameter_bytes: u64,
    /// How far another backend's outputs may be off, unless the model's owner says otherwise.
    pub tolerance: Tolerance,
    /// In the signature's order.
    pub ranges: Vec<InputRange>,
}

pub fn analyse(bytes: &Bytes) -> Result<Analysis, OnnxError> {
    let (model, graph) = decode(bytes)?;
    of(model, &graph)
}

/// The same of a model that has been read; the graph is that model's.
pub(super) fn of(model: ModelProto, graph: &GraphProto) -> Result<Analysis, OnnxError> {
    let opset = opset(&model)?;
    check_names(graph)?;
    let signature = signature(graph)?;
    let ranges = ranges::imply(graph, &signature.inputs);
    let (mut parameters, mut parameter_bytes) = (0u64, 0u64);
    let mut half = signature.inputs.iter().chain(&signature.outputs).any(|port| is_half(port.datatype));
    visit_tensors(graph, &mut |tensor| {
        let elements = elements(tensor);
        parameters = parameters.saturating_add(elements);
        // Text has no fixed size.
        parameter_bytes = parameter_bytes.saturating_add(byte_size(tensor.data_type, elements).unwrap_or(0));
        half |= matches!(tensor.data_type, element::FLOAT16 | element::BFLOAT16);
    });
    Ok(Analysis {
        opset,
        operators: operators(&model, graph),
        external: external::files(graph)?,
        conversion: conversion(&model),
        producer: model.producer_name,
        parameters,
        parameter_bytes,
        // Once a value has been rounded to half precision, nothing downstream can be more exact.
        tolerance: if half { Tolerance::FP16 } else { Tolerance::FP32 },
        signature,
        ranges,
    })
}

/// Other tools have keys of their own there, so that the program's name is asked for first.
fn conversion(model: &ModelProto) -> Option<Conversion> {
    let said = |key: &str| {
        let entry = model.metadata_props.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.chars().take(METADATA_MAX).collect::<String>())
    };
    let converter = said("converter").filter(|converter| converter.starts_with("weft "));
    converter.as_ref()?;
    Some(Conversion {
        architecture: said("architecture"),
        part: said("part"),
        converter,
        exporter: said("exporter"),
        source_dtype: said("source_dtype"),
        precision: said("precision"),
        shard_of: said("shard_of"),
        shard_units: said("shard_units"),
        shard_ways: said("shard_ways"),
        shard_activations: said("shard_activations"),
    })
}

/// Characters of one of a file's remarks: what is shown with every answer is short.
const METADATA_MAX: usize = 200;

fn is_half(datatype: Datatype) -> bool {
    matches!(datatype, Datatype::Fp16 | Datatype::Bf16)
}

fn opset(model: &ModelProto) -> Result<u64, OnnxError> {
    let standard = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let version = standard.ok_or(OnnxError::NoOpset)?.version;
    u64::try_from(version).ok().filter(|version| *version > 0).ok_or(OnnxError::Opset { version })
}

fn operators(model: &ModelProto, graph: &GraphProto) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut count = |node: &super::proto::NodeProto| {
        let name = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        };
        *counts.entry(name).or_insert(0) += 1;
    };
    visit_nodes(graph, &mut count);
    model.functions.iter().flat_map(|function| &function.node).for_each(count);
    counts
}

/// Every value of the main graph has one origin.
fn check_names(graph: &GraphProto) -> Result<(), OnnxError> {
    unique("input", graph.input.iter().map(|port| port.name.as_str()))?;
    unique("output", graph.output.iter().map(|port| port.name.as_str()))?;
    unique("initialiser", graph.initializer.iter().map(|tensor| tensor.name.as_str()))?;
    // A node leaves out an optional output by naming it "".
    let made = || {
        graph.node.iter().flat_map(|node| &node.output).map(String::as_str).filter(|name| !name.is_empty())
    };
    unique("node output", made())?;
    let given: HashSet<_> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().map(|port| port.name.as_str()).filter(|name| !given.contains(name));
    unique("value", made().chain(inputs).chain(graph.initializer.iter().map(|tensor| tensor.name.as_str())))
}

fn unique<'n>(role: &'static str, names: impl Iterator<Item = &'n str>) -> Result<(), OnnxError> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(OnnxError::Unnamed { role });
        }
        if !seen.insert(name) {
            return Err(OnnxError::Duplicate { role, name: name.to_owned() });
        }
    }
    Ok(())
}

fn signature(graph: &GraphProto) -> Result<Signature, OnnxError> {
    // Before IR version 4 every initialiser was listed as an input too.
    let given: HashSet<_> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let wanted = graph.input.iter().filter(|port| !given.contains(port.name.as_str()));
    let inputs = wanted.map(|input| port("input", input)).collect::<Result<_, _>>()?;
    let outputs = graph.output.iter().map(|output| port("output", output)).collect::<Result<Vec<_>, _>>()?;
    if outputs.is_empty() {
        return Err(OnnxError::NoOutputs);
    }
    Ok(Signature { inputs, outputs })
}

fn port(role: &'static str, port: &ValueInfoProto) -> Result<Port, OnnxError> {
    let name = port.name.clone();
    let kind = match port.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => {
            let datatype = datatype(tensor.elem_type);
            let datatype = datatype.ok_or(OnnxError::ElementType {
                role,
                name: name.clone(),
                code: tensor.elem_type,
            })?;
            let shape = match &tensor.shape {
                Some(shape) => shape.dim.iter().map(|dim| dimension(dim.value.as_ref())).collect(),
                None if role == "input" => return Err(OnnxError::NoRank { name }),
                None => Vec::new(),
            };
            return Ok(Port { name, datatype, shape });
        }
        Some(TypeValue::Sequence(_)) => "sequence",
        Some(TypeValue::Map(_)) => "map",
        Some(TypeValue::SparseTensor(_)) => "sparse tensor",
        Some(TypeValue::Optional(_)) => "optional value",
        None => "value without a type",
    };
    Err(OnnxError::NotTensor { role, name, kind })
}

fn dimension(value: Option<&DimensionValue>) -> Dim {
    match value {
        Some(DimensionValue::Size(size)) => u64::try_from(*size).map_or(Dim::Free(None), Dim::Fixed),
        // Some converters write a question mark for every size that they do not know.
        Some(DimensionValue::Symbol(symbol)) if !matches!(symbol.as_str(), "" | "?") => {
            Dim::Symbol(symbol.clone())
        }
        _ => Dim::Free(None),
    }
}

pub(crate) fn datatype(code: i32) -> Option<Datatype> {
    Some(match code {
        element::FLOAT => Datatype::Fp32,
        element::UINT8 => Datatype::Uint8,
        element::INT8 => Datatype::Int8,
        element::UINT16 => Datatype::Uint16,
        element::INT16 => Datatype::Int16,
        element::INT32 => Datatype::Int32,
        element::INT64 => Datatype::Int64,
        element::STRING => Datatype::Bytes,
        element::BOOL => Datatype::Bool,
        element::FLOAT16 => Datatype::Fp16,
        element::DOUBLE => Datatype::Fp64,
        element::UINT32 => Datatype::Uint32,
        element::UINT64 => Datatype::Uint64,
        element::BFLOAT16 => Datatype::Bf16,
        _ => return None,
    })
}

fn elements(tensor: &TensorProto) -> u64 {
    let sizes = tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(0));
    sizes.fold(1, u64::saturating_mul)
}
