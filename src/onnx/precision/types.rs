//! Of what type the values of a graph are, as far as half precision must know it.

use std::collections::HashMap;

use super::{MICROSOFT, constant, is_standard};
use crate::onnx::proto::{GraphProto, NodeProto, TypeValue, ValueInfoProto, element};

/// The element types of one graph's values, and of those around it.
pub(super) struct Types<'o> {
    own: HashMap<String, i32>,
    outer: Option<&'o Types<'o>>,
}

impl<'o> Types<'o> {
    pub(super) fn new(graph: &GraphProto) -> Self {
        Self::within(graph, &[], None)
    }

    /// Of a graph that `node`, in the graph of `outer`, runs.
    pub(super) fn of_body(graph: &GraphProto, node: &NodeProto, outer: &'o Types<'o>) -> Self {
        let given = |from: usize| node.input[from.min(node.input.len())..].iter().map(|name| outer.get(name));
        let given: Vec<_> = match node.op_type.as_str() {
            // How often it went round, whether it goes on, and what it carries.
            "Loop" => [Some(element::INT64), Some(element::BOOL)].into_iter().chain(given(2)).collect(),
            "Scan" => given(0).collect(),
            _ => Vec::new(),
        };
        Self::within(graph, &given, Some(outer))
    }

    fn within(graph: &GraphProto, given: &[Option<i32>], outer: Option<&'o Types<'o>>) -> Self {
        let mut types = Self { own: HashMap::new(), outer };
        for (input, code) in graph.input.iter().zip(given) {
            types.own.extend(code.map(|code| (input.name.clone(), code)));
        }
        for value in graph.input.iter().chain(&graph.value_info).chain(&graph.output) {
            if let Some(code) = declared(value) {
                types.own.insert(value.name.clone(), code);
            }
        }
        for tensor in &graph.initializer {
            types.own.insert(tensor.name.clone(), tensor.data_type);
        }
        for node in &graph.node {
            types.add(node);
        }
        types
    }

    /// `None` where the graph does not say.
    pub(super) fn get(&self, name: &str) -> Option<i32> {
        self.own.get(name).copied().or_else(|| self.outer?.get(name))
    }

    pub(super) fn is_float(&self, name: &str) -> bool {
        self.get(name) == Some(element::FLOAT)
    }

    fn add(&mut self, node: &NodeProto) {
        let of_body = self.given_by_body(node);
        for (at, output) in node.output.iter().enumerate() {
            if output.is_empty() || self.own.contains_key(output) {
                continue;
            }
            let code = match &of_body {
                Some(codes) => codes.get(at).copied().flatten(),
                None => self.made(node, at),
            };
            self.own.extend(code.map(|code| (output.clone(), code)));
        }
    }

    /// The types of what a graph within gives: a loop's graph gives first whether it goes on.
    fn given_by_body(&self, node: &NodeProto) -> Option<Vec<Option<i32>>> {
        let from = match node.op_type.as_str() {
            "If" | "Scan" => 0,
            "Loop" => 1,
            _ => return None,
        };
        let body = node.attribute.iter().find_map(|attribute| attribute.g.as_ref())?;
        let types = Types::of_body(body, node, self);
        Some(body.output.iter().skip(from).map(|output| types.get(&output.name)).collect())
    }

    fn made(&self, node: &NodeProto, at: usize) -> Option<i32> {
        let input = |at: usize| node.input.get(at).and_then(|name| self.get(name));
        if !is_standard(&node.domain) {
            // Those of ONNX Runtime's own operators that are made from standard ones give what they take.
            let known = node.domain == MICROSOFT && MICROSOFT_FLOATS.contains(&node.op_type.as_str());
            return if known { input(0) } else { None };
        }
        let number = |name: &str, absent: i32| {
            let found = node.attribute(name);
            found.map_or(absent, |attribute| attribute.i as i32)
        };
        match node.op_type.as_str() {
            "Cast" => Some(number("to", element::FLOAT)),
            "Constant" => constant(node).map(|(_, tensor)| tensor.data_type).or_else(|| plain_constant(node)),
            "ConstantOfShape" => {
                let value = node.attribute("value");
                Some(
                    value
                        .and_then(|value| value.t.as_ref())
                        .map_or(element::FLOAT, |tensor| tensor.data_type),
                )
            }
            "RandomNormal" | "RandomUniform" | "HannWindow" | "HammingWindow" | "BlackmanWindow"
            | "MelWeightMatrix" => {
                let name = if node.op_type.starts_with("Random") { "dtype" } else { "output_datatype" };
                Some(number(name, element::FLOAT))
            }
            "Multinomial" => Some(number("dtype", element::INT32)),
            "EyeLike" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => match number("dtype", 0) {
                0 => input(0),
                code => Some(code),
            },
            "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" | "NonMaxSuppression" => Some(element::INT64),
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Not"
            | "Xor" | "IsNaN" | "IsInf" => Some(element::BOOL),
            "TopK" | "MaxPool" | "Unique" if at > 0 => Some(element::INT64),
            "Dropout" if at > 0 => Some(element::BOOL),
            "Where" | "CastLike" | "DequantizeLinear" => input(1),
            "OneHot" => input(2),
            "QuantizeLinear" => input(2).or(Some(element::UINT8)),
            "TfIdfVectorizer" => Some(element::FLOAT),
            "DynamicQuantizeLinear" if at == 1 => Some(element::FLOAT),
            "DynamicQuantizeLinear" => Some(element::UINT8),
            "MatMulInteger" | "ConvInteger" => Some(element::INT32),
            "QLinearMatMul" | "QLinearConv" => input(7),
            operator if operator.contains("Sequence") || operator.starts_with("Optional") => None,
            _ => input(0),
        }
    }
}

fn plain_constant(node: &NodeProto) -> Option<i32> {
    let named = |attribute: &super::super::proto::AttributeProto| match attribute.name.as_str() {
        "value_float" | "value_floats" => Some(element::FLOAT),
        "value_int" | "value_ints" => Some(element::INT64),
        "value_string" | "value_strings" => Some(element::STRING),
        _ => None,
    };
    node.attribute.iter().find_map(named)
}

fn declared(value: &ValueInfoProto) -> Option<i32> {
    match value.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) if tensor.elem_type != 0 => Some(tensor.elem_type),
        _ => None,
    }
}

/// Operators of ONNX Runtime's own whose outputs have the type of their first input.
pub(super) const MICROSOFT_FLOATS: [&str; 15] = [
    "Attention",
    "BiasGelu",
    "FastGelu",
    "FusedMatMul",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "BiasSoftmax",
    "EmbedLayerNormalization",
];
