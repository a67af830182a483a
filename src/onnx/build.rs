//! Short words for hand-built graphs, for the tests of every room that reads models.

use bytes::Bytes;
use prost::Message;

use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto, attribute, element,
};

#[allow(clippy::unnecessary_wraps, reason = "a dimension may also be none of both")]
pub(crate) fn size(size: i64) -> Option<DimensionValue> {
    Some(DimensionValue::Size(size))
}

#[allow(clippy::unnecessary_wraps, reason = "as for `size`")]
pub(crate) fn symbol(name: &str) -> Option<DimensionValue> {
    Some(DimensionValue::Symbol(name.to_owned()))
}

pub(crate) fn port(name: &str, elem_type: i32, dims: &[Option<DimensionValue>]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|value| DimensionProto { value: value.clone(), ..DimensionProto::default() })
        .collect();
    typed(name, TypeValue::Tensor(TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) }))
}

pub(crate) fn typed(name: &str, value: TypeValue) -> ValueInfoProto {
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(value), ..TypeProto::default() }),
    }
}

pub(crate) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: op_type.to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

pub(crate) fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

pub(crate) fn number(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i, r#type: attribute::INT, ..AttributeProto::default() }
}

pub(crate) fn numbers(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ints: ints.to_vec(),
        r#type: attribute::INTS,
        ..AttributeProto::default()
    }
}

pub(crate) fn branch(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        g: Some(graph),
        r#type: attribute::GRAPH,
        ..AttributeProto::default()
    }
}

pub(crate) fn constant(output: &str, tensor: TensorProto) -> NodeProto {
    let value = AttributeProto {
        name: "value".to_owned(),
        t: Some(tensor),
        r#type: attribute::TENSOR,
        ..AttributeProto::default()
    };
    with(node("Constant", &[], &[output]), value)
}

pub(crate) fn integers(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: element::INT64,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub(crate) fn weights(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: name.to_owned(), dims: dims.to_vec(), data_type, ..TensorProto::default() }
}

pub(crate) fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 8,
        producer_name: "test".to_owned(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

pub(crate) fn bytes(model: &ModelProto) -> Bytes {
    model.encode_to_vec().into()
}
