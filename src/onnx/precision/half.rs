//! A whole model in half precision, but for what would be wrong in it.
//!
//! A value of floats has up to two forms: its own name stands for fp32 as before, another for half precision. Each
//! node reads and makes the form that suits it, and a `Cast` behind it makes the other; casts that nobody reads go.
//! Graphs within a graph take and give half precision; the model's own inputs and outputs stay fp32.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Changed, MICROSOFT, Precision, PrecisionError, Report, constant, is_standard, left,
    names::{self, Names},
    standard_opset,
    types::{MICROSOFT_FLOATS, Types},
    weights::{self, Halved, floats, halve},
};
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeValue, ValueInfoProto, attribute,
    element,
};

/// What sums, squares or exponentiates beyond 65504, the largest number of half precision, for values that models
/// really have; and what divides by such a sum. They compute in fp32, as mixed-precision training has them.
const WIDE: [&str; 25] = [
    "CumSum",
    "Exp",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LogSoftmax",
    "LpNormalization",
    "LpPool",
    "MeanVarianceNormalization",
    "Pow",
    "RMSNormalization",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Softmax",
];

/// What the standard defines for fp32 alone, and what makes floats of something else.
const FP32_ONLY: [&str; 24] = [
    "Bernoulli",
    "BlackmanWindow",
    "Cast",
    "ConstantOfShape",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "EmbedLayerNormalization",
    "EyeLike",
    "HammingWindow",
    "HannWindow",
    "MelWeightMatrix",
    "Multinomial",
    "NonMaxSuppression",
    "OneHot",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Range",
    "TfIdfVectorizer",
    "Upsample",
];

/// What goes on in fp32 when all it reads comes from the above: a variance on its way to being a divisor.
const CHAINED: [&str; 7] = ["Add", "Div", "Mul", "Neg", "Reciprocal", "Sqrt", "Sub"];

/// Since this opset `Resize` has its scales as third input, always in fp32.
const OPSET_RESIZE: i64 = 11;

pub(super) fn rewrite(model: &ModelProto, graph: &mut GraphProto) -> Result<Report, PrecisionError> {
    if !model.functions.is_empty() {
        return Err(PrecisionError::Functions);
    }
    let mut pass = Pass {
        opset: standard_opset(model),
        names: Names::of(graph),
        halves: HashMap::new(),
        made: Vec::new(),
        constants: HashSet::new(),
        removable: BTreeSet::new(),
        kept: Vec::new(),
    };
    pass.graph(graph, None)?;
    names::prune(graph, &pass.removable);
    let mut present = HashSet::new();
    crate::onnx::read::visit_graphs(graph, &mut |graph| {
        present.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
        present.extend(graph.node.iter().filter_map(constant).map(|(name, _)| name.to_owned()));
    });
    let changed =
        pass.made.into_iter().filter(|(half, _)| present.contains(half)).map(|(_, changed)| changed);
    let halves = pass.halves.values().cloned().collect();
    let readers = names::readers(graph);
    Ok(Report {
        changed: changed.collect(),
        left: left(graph, &halves, &BTreeMap::new(), &readers),
        kept_operators: names::count(pass.kept.iter().map(String::as_str)),
        ..Report::default()
    })
}

struct Pass {
    opset: i64,
    names: Names,
    /// The name of each value's half form.
    halves: HashMap<String, String>,
    /// Each constant's half form, and what is to be told of it.
    made: Vec<(String, Changed)>,
    constants: HashSet<String>,
    /// Casts and constants that were added, or were there and may not be needed any more.
    removable: BTreeSet<String>,
    kept: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Fp32,
    Half,
    /// Runs graphs within, which take and give half precision.
    Nested,
}

impl Pass {
    fn half(&mut self, name: &str) -> String {
        if let Some(half) = self.halves.get(name) {
            return half.clone();
        }
        let half = self.names.fresh(&format!("{name}/fp16"));
        self.halves.insert(name.to_owned(), half.clone());
        half
    }

    /// A graph within another is given the node that runs it, and the types of the values around.
    fn graph(
        &mut self,
        graph: &mut GraphProto,
        outer: Option<(&NodeProto, &Types<'_>)>,
    ) -> Result<(), PrecisionError> {
        let types =
            outer.map_or_else(|| Types::new(graph), |(node, outer)| Types::of_body(graph, node, outer));
        let mut nodes = Vec::with_capacity(graph.node.len() * 2);
        let float_inputs = graph.input.iter_mut().filter(|input| types.is_float(&input.name));
        for input in float_inputs {
            match outer {
                None => nodes.push(self.cast_to_half(&input.name)),
                Some(_) => {
                    nodes.push(self.cast_to_fp32(&input.name));
                    self.declare_half(input);
                }
            }
        }
        let floats = graph.initializer.iter().filter(|tensor| tensor.data_type == element::FLOAT);
        let halved: Result<Vec<_>, _> = floats.map(|tensor| self.constant(&tensor.name, tensor)).collect();
        graph.initializer.extend(halved?);
        let mut wide = HashSet::new();
        for node in std::mem::take(&mut graph.node) {
            self.node(node, &types, &mut wide, &mut nodes)?;
        }
        graph.node = nodes;
        if outer.is_some() {
            let float_outputs = graph.output.iter_mut().filter(|output| types.is_float(&output.name));
            float_outputs.for_each(|output| self.declare_half(output));
        }
        Ok(())
    }

    fn declare_half(&mut self, value: &mut ValueInfoProto) {
        value.name = self.half(&value.name);
        if let Some(TypeValue::Tensor(tensor)) =
            value.r#type.as_mut().and_then(|r#type| r#type.value.as_mut())
        {
            tensor.elem_type = element::FLOAT16;
        }
    }

    fn cast_to_half(&mut self, name: &str) -> NodeProto {
        let half = self.half(name);
        self.removable.insert(half.clone());
        self.cast(name, &half, element::FLOAT16)
    }

    fn cast_to_fp32(&mut self, name: &str) -> NodeProto {
        let half = self.half(name);
        self.removable.insert(name.to_owned());
        self.cast(&half, name, element::FLOAT)
    }

    /// Values often have the name of the node that makes them, and no two nodes may have the same.
    fn cast(&mut self, from: &str, to: &str, code: i32) -> NodeProto {
        NodeProto { name: self.names.fresh(&format!("{to}/cast")), ..NodeProto::cast(from, to, code) }
    }

    /// The half form of a constant of floats. The constant itself stays for whoever computes in fp32.
    fn constant(&mut self, name: &str, tensor: &TensorProto) -> Result<TensorProto, PrecisionError> {
        let floats = floats(tensor).ok_or_else(|| PrecisionError::Weight { name: name.to_owned() })?;
        let half = self.half(name);
        let Halved { tensor, clamped, vanished, error } = halve(tensor, &floats, &half);
        self.removable.extend([name.to_owned(), half.clone()]);
        let changed = Changed {
            name: name.to_owned(),
            precision: Precision::Fp16,
            elements: floats.len() as u64,
            bytes: weights::bytes(&tensor),
            error,
            clamped,
            vanished,
        };
        self.made.push((half, changed));
        self.constants.insert(name.to_owned());
        Ok(tensor)
    }

    fn node(
        &mut self,
        mut node: NodeProto,
        types: &Types<'_>,
        wide: &mut HashSet<String>,
        nodes: &mut Vec<NodeProto>,
    ) -> Result<(), PrecisionError> {
        if node.op_type == "Constant" && is_standard(&node.domain) {
            return self.constant_node(node, types, nodes);
        }
        let form = self.form(&node, types, wide);
        let floats: Vec<bool> = node.output.iter().map(|output| types.is_float(output)).collect();
        let unknown = node.output.iter().find(|output| !output.is_empty() && types.get(output).is_none());
        if let Some(value) = unknown {
            return Err(PrecisionError::UnknownType { value: value.clone(), operator: node.op_type });
        }
        if form == Form::Nested {
            let mut attributes = std::mem::take(&mut node.attribute);
            for attribute in &mut attributes {
                for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    self.graph(inner, Some((&node, types)))?;
                }
            }
            node.attribute = attributes;
        }
        if form == Form::Fp32 {
            let touches = floats.contains(&true) || node.input.iter().any(|input| types.is_float(input));
            if touches && !is_conversion(&node) {
                self.kept.push(node.op_type.clone());
            }
            let made: Vec<_> = node
                .output
                .iter()
                .zip(&floats)
                .filter(|(_, float)| **float)
                .map(|(name, _)| name.clone())
                .collect();
            let operator = node.op_type.as_str();
            if WIDE.contains(&operator) || CHAINED.contains(&operator) {
                wide.extend(made.iter().cloned());
            }
            nodes.push(node);
            nodes.extend(made.iter().map(|name| self.cast_to_half(name)));
            return Ok(());
        }
        let scales = (node.op_type == "Resize").then_some(2);
        for (at, input) in node.input.iter_mut().enumerate() {
            if types.is_float(input) && Some(at) != scales {
                *input = self.half(input);
            }
        }
        let mut casts = Vec::new();
        for (output, _) in node.output.iter_mut().zip(&floats).filter(|(_, float)| **float) {
            casts.push(self.cast_to_fp32(output));
            *output = self.half(output);
        }
        nodes.push(node);
        nodes.extend(casts);
        Ok(())
    }

    fn form(&self, node: &NodeProto, types: &Types<'_>, wide: &HashSet<String>) -> Form {
        let operator = node.op_type.as_str();
        if WIDE.contains(&operator) || FP32_ONLY.contains(&operator) {
            return Form::Fp32;
        }
        if !is_standard(&node.domain) {
            let known = node.domain == MICROSOFT && MICROSOFT_FLOATS.contains(&operator);
            return if known { Form::Half } else { Form::Fp32 };
        }
        if matches!(operator, "If" | "Loop" | "Scan") {
            return Form::Nested;
        }
        if operator == "Resize" && self.opset < OPSET_RESIZE {
            return Form::Fp32;
        }
        // A square, written as a product.
        let square = operator == "Mul" && node.input.first() == node.input.get(1);
        let floats = || node.input.iter().filter(|input| types.is_float(input));
        let chained = CHAINED.contains(&operator)
            && floats().any(|input| wide.contains(input))
            && floats().all(|input| wide.contains(input) || self.constants.contains(input));
        if square && floats().next().is_some() || chained { Form::Fp32 } else { Form::Half }
    }

    fn constant_node(
        &mut self,
        node: NodeProto,
        types: &Types<'_>,
        nodes: &mut Vec<NodeProto>,
    ) -> Result<(), PrecisionError> {
        let Some(name) = node.output.first().filter(|name| types.is_float(name)).cloned() else {
            nodes.push(node);
            return Ok(());
        };
        let plain = |name: &str| node.attribute(name);
        let written = match (constant(&node), plain("value_float"), plain("value_floats")) {
            (Some((_, tensor)), ..) => Some(tensor.clone()),
            (_, Some(one), _) => Some(weights::float_tensor("", &[], &[one.f])),
            (.., Some(many)) => Some(weights::float_tensor("", &[many.floats.len()], &many.floats)),
            _ => None,
        };
        let written = written.ok_or_else(|| PrecisionError::Weight { name: name.clone() })?;
        let halved = self.constant(&name, &written)?;
        let value = AttributeProto {
            name: "value".to_owned(),
            r#type: attribute::TENSOR,
            t: Some(halved),
            ..AttributeProto::default()
        };
        let half = self.half(&name);
        nodes.push(NodeProto {
            attribute: vec![value],
            name: half.clone(),
            output: vec![half],
            ..node.clone()
        });
        nodes.push(node);
        Ok(())
    }
}

/// What makes floats of other values, and computes with none.
fn is_conversion(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Cast" | "ConstantOfShape" | "EyeLike" | "OneHot")
}
