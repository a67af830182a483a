//! What each value is, as far as whoever carries it from one shard to another must know.

use std::collections::HashMap;

use super::{
    error::Uncarried,
    links::{Links, Origin},
};
use crate::{
    domain::Datatype,
    onnx::{
        analyse::datatype,
        check::byte_size,
        proto::{
            DimensionProto, DimensionValue, GraphProto, TensorShapeProto, TensorTypeProto, TypeProto,
            TypeValue, ValueInfoProto,
        },
        shapes::{Expr, Shapes, Size, Sizes, Value, declared},
    },
};

/// Characters of an expression that names a dimension; what is longer stays without a name.
const DIMENSION_NAME_MAX: usize = 64;

/// Bytes of a text's length, the only part of it that is known ahead.
const TEXT_LENGTH: u64 = 4;

/// Elements of what graphs compute shapes with.
const FEW: i64 = 64;

/// By the numbers of the values.
pub(super) struct Kinds<'g> {
    kinds: Vec<Kind<'g>>,
}

#[derive(Clone, Default)]
struct Kind<'g> {
    inferred: Value,
    declared: Option<&'g ValueInfoProto>,
}

impl<'g> Kinds<'g> {
    pub(super) fn new(graph: &'g GraphProto, shapes: &Shapes, links: &Links<'g>) -> Self {
        let mut kinds = vec![Kind::default(); links.names.len()];
        let ports = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
        for port in ports {
            if let Some(value) = links.number(&port.name) {
                kinds[value].declared = Some(port);
            }
        }
        for port in &graph.input {
            let value = links.number(&port.name).filter(|value| links.origins[*value] == Origin::Caller);
            if let Some(value) = value {
                kinds[value].inferred = declared(port);
            }
        }
        let made: HashMap<&str, &Value> = graph
            .node
            .iter()
            .zip(&shapes.nodes)
            .flat_map(|(node, shapes)| node.output.iter().map(String::as_str).zip(&shapes.outputs))
            .collect();
        for (value, name) in links.names.iter().enumerate() {
            if let (Origin::Node(_), Some(inferred)) = (links.origins[value], made.get(name)) {
                kinds[value].inferred = (*inferred).clone();
            }
        }
        Self { kinds }
    }

    /// Whether a value can pass from one shard to another, at these sizes.
    pub(super) fn carried(&self, value: usize, sizes: &Sizes) -> Result<(), Uncarried> {
        let kind = &self.kinds[value];
        if let Some(kind) = kind.no_tensor() {
            return Err(Uncarried::Kind { kind });
        }
        let code = kind.element().ok_or(Uncarried::Type)?;
        let datatype = datatype(code).ok_or(Uncarried::Element { code })?;
        if datatype == Datatype::Bytes {
            return Err(Uncarried::Text);
        }
        kind.dims().ok_or(Uncarried::Rank)?;
        kind.elements(sizes).and_then(|elements| byte_size(code, elements)).map(drop).ok_or(Uncarried::Size)
    }

    /// Bytes at these sizes. Of a dimension that is not known one is counted, of a text its length alone.
    pub(super) fn bytes(&self, value: usize, sizes: &Sizes) -> u64 {
        let kind = &self.kinds[value];
        let dims = kind.dims().unwrap_or_default().into_iter().enumerate();
        let dims =
            dims.map(|(axis, dim)| at(&dim, sizes).or_else(|| kind.declared_size(axis, sizes)).unwrap_or(1));
        let elements = dims.fold(1, u64::saturating_mul);
        let code = kind.element().unwrap_or_default();
        byte_size(code, elements).unwrap_or_else(|| elements.saturating_mul(TEXT_LENGTH))
    }

    /// Whether it is a handful of whole numbers or flags.
    pub(super) fn is_small(&self, value: usize) -> bool {
        let kind = &self.kinds[value];
        let whole = matches!(
            kind.element().and_then(datatype),
            Some(Datatype::Bool | Datatype::Int32 | Datatype::Int64)
        );
        let elements = || kind.inferred.elements()?.as_constant();
        whole && elements().is_some_and(|elements| elements <= FEW)
    }

    /// How a shard declares it as an input or output, where the whole does not.
    pub(super) fn declaration(&self, value: usize, name: &str) -> ValueInfoProto {
        let kind = &self.kinds[value];
        let dim = kind.dims().map(|dims| dims.into_iter().map(dimension).collect());
        let tensor = TensorTypeProto {
            elem_type: kind.element().unwrap_or_default(),
            shape: dim.map(|dim| TensorShapeProto { dim }),
        };
        let r#type = TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: name.to_owned(), r#type: Some(r#type) }
    }
}

impl Kind<'_> {
    fn declared(&self) -> Option<&TypeValue> {
        self.declared?.r#type.as_ref()?.value.as_ref()
    }

    fn no_tensor(&self) -> Option<&'static str> {
        match self.declared()? {
            TypeValue::Tensor(_) => None,
            TypeValue::Sequence(_) => Some("sequence"),
            TypeValue::Map(_) => Some("map"),
            TypeValue::SparseTensor(_) => Some("sparse tensor"),
            TypeValue::Optional(_) => Some("optional value"),
        }
    }

    fn declared_tensor(&self) -> Option<&TensorTypeProto> {
        match self.declared()? {
            TypeValue::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    fn element(&self) -> Option<i32> {
        let declared = || self.declared_tensor().map(|tensor| tensor.elem_type).filter(|code| *code != 0);
        self.inferred.element.or_else(declared)
    }

    /// As inferred. Names that others gave to dimensions are not taken over: an exporter may use one for two sizes.
    fn dims(&self) -> Option<Vec<Size>> {
        let declared = || Some(vec![None; self.declared_tensor()?.shape.as_ref()?.dim.len()]);
        self.inferred.dims.clone().or_else(declared)
    }

    /// What the model says itself, which is good enough to count bytes by.
    fn declared_size(&self, axis: usize, sizes: &Sizes) -> Option<u64> {
        match self.declared_tensor()?.shape.as_ref()?.dim.get(axis)?.value.as_ref()? {
            DimensionValue::Size(size) => u64::try_from(*size).ok(),
            DimensionValue::Symbol(name) => sizes.get(name).copied(),
        }
    }

    fn elements(&self, sizes: &Sizes) -> Option<u64> {
        let dims = self.dims()?.into_iter().enumerate();
        let sizes: Option<Vec<u64>> =
            dims.map(|(axis, dim)| at(&dim, sizes).or_else(|| self.declared_size(axis, sizes))).collect();
        sizes?.into_iter().try_fold(1, u64::checked_mul)
    }
}

fn at(size: &Size, sizes: &Sizes) -> Option<u64> {
    size.as_ref()?.at(sizes)
}

/// The same size has the same name wherever it stands, so that whoever runs the shard can compare.
fn dimension(size: Size) -> DimensionProto {
    let value = size.and_then(|size| match size.as_constant() {
        Some(size) => Some(DimensionValue::Size(size)).filter(|_| size >= 0),
        None => named(&size),
    });
    DimensionProto { value, ..DimensionProto::default() }
}

fn named(size: &Expr) -> Option<DimensionValue> {
    let name = size.to_string();
    (name.len() <= DIMENSION_NAME_MAX).then_some(DimensionValue::Symbol(name))
}
