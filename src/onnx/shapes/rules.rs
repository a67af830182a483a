//! What each operator makes of what it takes: the elementwise ones here, the others in `layout` and `linear`.

use super::{Size, Value, folding, layout, linear, node::Site};
use crate::onnx::proto::element;

/// What a node gives. An operator that is not known gives nothing that is.
pub(super) fn outputs(site: &Site<'_>) -> Vec<Value> {
    let mut outputs = match site.operator() {
        ("", operator) => standard(operator, site),
        ("com.microsoft", operator) => microsoft(operator, site),
        _ => Vec::new(),
    };
    if let (Some(first), Some(known)) = (outputs.first_mut(), folding::fold(site)) {
        *first = std::mem::take(first).knowing(known);
    }
    outputs
}

fn standard(operator: &str, site: &Site<'_>) -> Vec<Value> {
    if unary(operator) {
        return vec![site.like(0)];
    }
    let one = |value| vec![value];
    match operator {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Sum" | "Mean" | "Max" | "Min" | "BitShift"
        | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => one(joined(site, site.input(0).element)),
        "And" | "Or" | "Xor" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => {
            one(joined(site, Some(element::BOOL)))
        }
        "Not" | "IsNaN" | "IsInf" => one(Value { element: Some(element::BOOL), ..site.like(0) }),
        "Where" => one(joined(site, site.input(1).element)),
        "Cast" => one(Value { element: i32::try_from(site.number("to", 0)).ok(), ..site.like(0) }),
        "CastLike" | "DequantizeLinear" => one(Value { element: site.input(1).element, ..site.like(0) }),
        "QuantizeLinear" => {
            let element = if site.has(2) { site.input(2).element } else { Some(element::UINT8) };
            let element = element.filter(|_| site.number("output_dtype", 0) == 0);
            one(Value { element, ..site.like(0) })
        }
        "DynamicQuantizeLinear" => {
            let scalar = |element| Value::new(Some(element), Some(Vec::new()));
            let y = Value { element: Some(element::UINT8), ..site.like(0) };
            vec![y, scalar(element::FLOAT), scalar(element::UINT8)]
        }
        "Dropout" => {
            let element = if site.version >= 12 { Some(element::BOOL) } else { site.input(0).element };
            vec![site.like(0), Value { element, ..site.like(0) }]
        }
        "BatchNormalization" => {
            let channels = Value::new(site.input(0).element, site.input(1).dims.clone());
            [vec![site.like(0)], vec![channels; 4]].concat()
        }
        "Shape" | "Size" | "Constant" | "ConstantOfShape" | "EyeLike" => one(folding::made(operator, site)),
        _ => linear::outputs(operator, site).or_else(|| layout::outputs(operator, site)).unwrap_or_default(),
    }
}

/// One tensor in, one like it out.
pub(in crate::onnx) fn unary(operator: &str) -> bool {
    matches!(
        operator,
        "Abs"
            | "Acos"
            | "Acosh"
            | "Asin"
            | "Asinh"
            | "Atan"
            | "Atanh"
            | "BitwiseNot"
            | "Ceil"
            | "Celu"
            | "Clip"
            | "Cos"
            | "Cosh"
            | "CumSum"
            | "Elu"
            | "Erf"
            | "Exp"
            | "Floor"
            | "Gelu"
            | "GroupNormalization"
            | "HardSigmoid"
            | "HardSwish"
            | "Hardmax"
            | "Identity"
            | "InstanceNormalization"
            | "LRN"
            | "LayerNormalization"
            | "LeakyRelu"
            | "Log"
            | "LogSoftmax"
            | "LpNormalization"
            | "MeanVarianceNormalization"
            | "Mish"
            | "Neg"
            | "PRelu"
            | "RMSNormalization"
            | "Reciprocal"
            | "Relu"
            | "RotaryEmbedding"
            | "Round"
            | "ScatterElements"
            | "ScatterND"
            | "Selu"
            | "Shrink"
            | "Sigmoid"
            | "Sign"
            | "Sin"
            | "Sinh"
            | "Softmax"
            | "Softplus"
            | "Softsign"
            | "Sqrt"
            | "Swish"
            | "Tan"
            | "Tanh"
            | "ThresholdedRelu"
            | "Trilu"
    )
}

/// Operators of ONNX Runtime's own that exporters and its optimiser write.
fn microsoft(operator: &str, site: &Site<'_>) -> Vec<Value> {
    match operator {
        "BiasGelu" | "FastGelu" | "Gelu" | "QuickGelu" | "SimplifiedLayerNormalization" => vec![site.like(0)],
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => {
            // Mean and deviation, which nothing reads, then the sum.
            vec![site.like(0), Value::default(), Value::default(), site.like(0)]
        }
        "FusedMatMul" => vec![linear::fused_matmul(site)],
        "MatMulNBits" => {
            let mut value = site.like(0);
            if let Some(last) = value.dims.as_mut().and_then(|dims| dims.last_mut()) {
                *last = super::node::fixed(site.number("N", 0));
            }
            vec![value]
        }
        _ => Vec::new(),
    }
}

/// All inputs broadcast against each other.
fn joined(site: &Site<'_>, element: Option<i32>) -> Value {
    let all: Option<Vec<_>> = site.inputs().iter().map(|value| value.dims.as_deref()).collect();
    Value::new(element, all.and_then(|all| broadcast(&all)))
}

/// Sizes of tensors that are broadcast against each other, aligned at their last axes.
pub(super) fn broadcast(shapes: &[&[Size]]) -> Option<Vec<Size>> {
    let rank = shapes.iter().map(|dims| dims.len()).max()?;
    let axis = |back: usize| {
        let sizes = shapes.iter().filter(|dims| dims.len() >= back).map(|dims| &dims[dims.len() - back]);
        let mut joined = super::node::fixed(1);
        for size in sizes {
            joined = meet(&joined, size);
        }
        joined
    };
    Some((1..=rank).rev().map(axis).collect())
}

/// One axis of two tensors. A model that runs has either the same sizes there, or one of them is 1.
fn meet(a: &Size, b: &Size) -> Size {
    let is = |size: &Size, wanted: fn(i64) -> bool| {
        size.as_ref().and_then(super::Expr::as_constant).is_some_and(wanted)
    };
    match (a, b) {
        _ if is(a, |size| size == 1) => b.clone(),
        _ if is(b, |size| size == 1) || a == b => a.clone(),
        _ if is(a, |size| size != 1) => a.clone(),
        _ if is(b, |size| size != 1) => b.clone(),
        // As long as its bound, or 1: what is cut off a table at a length that the table may not have.
        (Some(bound), Some(other)) if bound.bounds(other) => a.clone(),
        (Some(other), Some(bound)) if bound.bounds(other) => b.clone(),
        _ => None,
    }
}
