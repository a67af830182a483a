//! Operations of each operator.

use crate::onnx::shapes::{Expr, Site, Size, Value, letters, unary};

/// Of Softmax and the normalisations, for each element.
const NORMALISED: i64 = 5;

/// Nothing for an operator that is not known, and where a shape is not.
pub(super) fn flops(site: &Site<'_>, outputs: &[Value]) -> Size {
    match site.operator() {
        ("", operator) => standard(operator, site, outputs),
        ("com.microsoft", operator) => microsoft(operator, site, outputs),
        _ => None,
    }
}

fn standard(operator: &str, site: &Site<'_>, outputs: &[Value]) -> Size {
    let given = || outputs.first()?.elements();
    let taken = || site.input(0).elements();
    match operator {
        _ if moves(operator) => Some(Expr::default()),
        "Softmax"
        | "LogSoftmax"
        | "LayerNormalization"
        | "RMSNormalization"
        | "GroupNormalization"
        | "InstanceNormalization"
        | "LpNormalization"
        | "MeanVarianceNormalization" => times(&given()?, NORMALISED),
        // A scale and a shift, the rest of which is made once.
        "BatchNormalization" => times(&given()?, 2),
        "LRN" => times(&given()?, site.number("size", 0).checked_add(3)?),
        "Sum" | "Mean" | "Max" | "Min" => {
            let joined = site.inputs().len().saturating_sub(1);
            times(&given()?, i64::try_from(joined).ok()?)
        }
        _ if unary(operator) || pairwise(operator) => given(),
        _ if operator.starts_with("Reduce") => taken(),
        "ArgMax" | "ArgMin" | "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => taken(),
        "DynamicQuantizeLinear" => times(&taken()?, 2),
        "MaxPool" | "AveragePool" | "LpPool" => {
            let window =
                site.numbers("kernel_shape")?.iter().try_fold(1i64, |all, size| all.checked_mul(*size))?;
            times(&given()?, window)
        }
        "Resize" | "Upsample" if site.text("mode").is_none_or(|mode| mode == "nearest") => {
            Some(Expr::default())
        }
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => product(&given()?, &site.input(0).size(-1)?),
        "Gemm" => {
            let inner = site.input(0).size(i64::from(site.number("transA", 0) == 0))?;
            let added = if site.has(2) { given()? } else { Expr::default() };
            product(&given()?, &inner)?.plus(&added)
        }
        "Einsum" => {
            let (sizes, _) = letters(site)?;
            let all = sizes.into_iter().try_fold(Expr::constant(1), |all, (_, size)| all.times(&size?))?;
            times(&all, i64::try_from(site.inputs().len()).ok()?)
        }
        "Conv" | "ConvInteger" => convolved(&given()?, site.input(1), operator == "Conv" && site.has(2)),
        "QLinearConv" => convolved(&given()?, site.input(3), site.has(8)),
        "ConvTranspose" => {
            let added = if site.has(2) { given()? } else { Expr::default() };
            convolved(&taken()?, site.input(1), false)?.plus(&added)
        }
        "LSTM" => recurrent(site, 4, 9),
        "GRU" => recurrent(site, 3, 8),
        "RNN" => recurrent(site, 1, 1),
        _ => None,
    }
}

fn microsoft(operator: &str, site: &Site<'_>, outputs: &[Value]) -> Size {
    let given = || outputs.first()?.elements();
    match operator {
        "FastGelu" | "Gelu" | "QuickGelu" => given(),
        "BiasGelu" => times(&given()?, 2),
        "SimplifiedLayerNormalization" => times(&given()?, NORMALISED),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => times(&given()?, NORMALISED + 1),
        "FusedMatMul" => {
            product(&given()?, &site.input(0).size(if site.number("transA", 0) == 0 { -1 } else { -2 })?)
        }
        "MatMulNBits" => product(&given()?, &Expr::constant(site.number("K", 0))),
        _ => None,
    }
}

/// Two tensors in, and an operation for each element that comes out.
fn pairwise(operator: &str) -> bool {
    matches!(
        operator,
        "Add"
            | "And"
            | "BitShift"
            | "BitwiseAnd"
            | "BitwiseOr"
            | "BitwiseXor"
            | "DequantizeLinear"
            | "Div"
            | "Equal"
            | "Greater"
            | "GreaterOrEqual"
            | "IsInf"
            | "IsNaN"
            | "Less"
            | "LessOrEqual"
            | "Mod"
            | "Mul"
            | "Not"
            | "Or"
            | "Pow"
            | "QuantizeLinear"
            | "Sub"
            | "Where"
            | "Xor"
    )
}

/// Elements come out as they went in, or as another type of the same value.
fn moves(operator: &str) -> bool {
    matches!(
        operator,
        "Cast"
            | "CastLike"
            | "Concat"
            | "Constant"
            | "ConstantOfShape"
            | "DepthToSpace"
            | "Dropout"
            | "Expand"
            | "EyeLike"
            | "Flatten"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Identity"
            | "NonZero"
            | "OneHot"
            | "Pad"
            | "Range"
            | "Reshape"
            | "ScatterElements"
            | "ScatterND"
            | "Shape"
            | "Size"
            | "Slice"
            | "SpaceToDepth"
            | "Split"
            | "Squeeze"
            | "Tile"
            | "Transpose"
            | "Trilu"
            | "Unsqueeze"
    )
}

fn times(elements: &Expr, count: i64) -> Size {
    elements.times(&Expr::constant(count))
}

/// Each element is a sum of so many products.
fn product(elements: &Expr, inner: &Expr) -> Size {
    times(&elements.times(inner)?, 2)
}

/// Each element meets the weights of one channel.
fn convolved(elements: &Expr, weight: &Value, bias: bool) -> Size {
    let weights = weight.dims.as_ref()?.get(1..)?;
    let inner = weights.iter().try_fold(Expr::constant(1), |all, size| all.times(size.as_ref()?))?;
    let added = if bias { elements.clone() } else { Expr::default() };
    product(elements, &inner)?.plus(&added)
}

/// So many gates, each a product with input and state, and so many operations for each element of the state.
fn recurrent(site: &Site<'_>, gates: i64, each: i64) -> Size {
    let hidden = Expr::constant(Some(site.number("hidden_size", 0)).filter(|hidden| *hidden > 0)?);
    let directions = if site.text("direction") == Some("bidirectional") { 2 } else { 1 };
    let steps = site.input(0).size(0)?.times(&site.input(0).size(1)?)?;
    let inner = site.input(0).size(2)?.plus(&hidden)?;
    let products = product(&times(&hidden, gates)?, &inner)?;
    let step = products.plus(&times(&hidden, each)?)?;
    times(&steps.times(&step)?, directions)
}
