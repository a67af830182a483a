//! A node's attributes: named once, typed, and with a value of that type.

use std::collections::HashSet;

use super::error::{CheckError, Name};
use crate::onnx::proto::{AttributeProto, NodeProto};

/// `AttributeProto::type`, by number.
const TYPES: [&str; 15] = [
    "undefined",
    "float",
    "int",
    "string",
    "tensor",
    "graph",
    "floats",
    "ints",
    "strings",
    "tensors",
    "graphs",
    "sparse tensor",
    "sparse tensors",
    "type",
    "types",
];

/// Of the attributes of a node; `names` are those of the function around it.
pub(super) fn check(
    node: &NodeProto,
    names: Option<&HashSet<&str>>,
    at: &dyn Fn() -> String,
) -> Result<(), CheckError> {
    let mut seen = HashSet::new();
    for attribute in &node.attribute {
        let name = || Name::new(&attribute.name);
        if attribute.name.is_empty() {
            return Err(CheckError::AttributeUnnamed { at: at() });
        }
        if !seen.insert(attribute.name.as_str()) {
            return Err(CheckError::AttributeTwice { at: at(), name: name() });
        }
        let reference = attribute.ref_attr_name.as_str();
        if !reference.is_empty() && !names.is_some_and(|names| names.contains(reference)) {
            let reference = Name::new(reference);
            return Err(CheckError::AttributeReference { at: at(), name: name(), reference });
        }
        value(attribute, at)?;
    }
    Ok(())
}

fn value(attribute: &AttributeProto, at: &dyn Fn() -> String) -> Result<(), CheckError> {
    let name = || Name::new(&attribute.name);
    let code = attribute.r#type;
    let wanted = match usize::try_from(code).ok().filter(|code| *code < TYPES.len()) {
        Some(0) => return Err(CheckError::AttributeUntyped { at: at(), name: name() }),
        Some(code) => TYPES[code],
        None => return Err(CheckError::AttributeType { at: at(), name: name(), code }),
    };
    // By type number; a number's or a text's default is not told from its absence.
    let filled = [
        attribute.f != 0.0,
        attribute.i != 0,
        !attribute.s.is_empty(),
        attribute.t.is_some(),
        attribute.g.is_some(),
        !attribute.floats.is_empty(),
        !attribute.ints.is_empty(),
        !attribute.strings.is_empty(),
        !attribute.tensors.is_empty(),
        !attribute.graphs.is_empty(),
        attribute.sparse_tensor.is_some(),
        !attribute.sparse_tensors.is_empty(),
        attribute.tp.is_some(),
        !attribute.type_protos.is_empty(),
    ];
    let own = code as usize - 1;
    let referring = !attribute.ref_attr_name.is_empty();
    if let Some(other) = (0..filled.len()).find(|other| filled[*other] && (*other != own || referring)) {
        let found = TYPES[other + 1];
        return Err(CheckError::AttributeValue { at: at(), name: name(), wanted, found });
    }
    let message = matches!(wanted, "tensor" | "graph" | "sparse tensor" | "type");
    if message && !filled[own] && !referring {
        return Err(CheckError::AttributeEmpty { at: at(), name: name(), wanted });
    }
    Ok(())
}
