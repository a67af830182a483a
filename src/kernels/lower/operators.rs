//! Which operator is lowered by what. Each answers the node's outputs in their order.

use super::{
    LowerError, activations, attention, builder::Builder, conv, elementwise, gather, layout, norm, pad,
    products, quantise, recurrent, reduce, resize, site::Site, source, value::Value,
};
use crate::onnx::proto::NodeProto;

pub(super) type Lower = fn(&mut Builder, &Site<'_>) -> Result<Vec<Value>, LowerError>;

/// By domain, empty for ONNX's own, and operator.
type Kind = fn((&str, &str)) -> Option<Lower>;

/// Files by kind answer for their own operators, so that each list stands beside its code.
const KINDS: [Kind; 14] = [
    activations::of,
    elementwise::of,
    layout::of,
    source::of,
    pad::of,
    resize::of,
    reduce::of,
    gather::of,
    quantise::of,
    products::of,
    norm::of,
    attention::of,
    conv::of,
    recurrent::of,
];

/// What is said of all others.
pub(super) const UNCOVERED: &str = "is not among those that our kernels cover";

pub(super) fn covers(node: &NodeProto) -> bool {
    node.op_type == "If" || of(node).is_some()
}

pub(super) fn lower(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let lower = of(site.node).ok_or_else(|| site.refuse(UNCOVERED))?;
    lower(builder, site)
}

fn of(node: &NodeProto) -> Option<Lower> {
    let domain = match node.domain.as_str() {
        "" | "ai.onnx" => "",
        domain => domain,
    };
    KINDS.iter().find_map(|kind| kind((domain, node.op_type.as_str())))
}
