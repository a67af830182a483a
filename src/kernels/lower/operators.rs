//! Which operator is lowered by what. Each answers the node's outputs in their order.

use super::{LowerError, builder::Builder, site::Site, value::Value};
use crate::onnx::proto::NodeProto;

type Lower = fn(&mut Builder, &Site<'_>) -> Result<Vec<Value>, LowerError>;

pub(super) fn covers(node: &NodeProto) -> bool {
    node.op_type == "If" || of(node).is_some()
}

pub(super) fn lower(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let lower = of(site.node).ok_or_else(|| site.refuse("is not among those that our kernels cover"))?;
    lower(builder, site)
}

/// Files by kind answer for their own operators, so that each list stands beside its code.
fn of(node: &NodeProto) -> Option<Lower> {
    let domain = match node.domain.as_str() {
        "" | "ai.onnx" => "",
        domain => domain,
    };
    let key = (domain, node.op_type.as_str());
    let kinds: [fn((&str, &str)) -> Option<Lower>; 0] = [];
    kinds.iter().find_map(|kind| kind(key))
}
