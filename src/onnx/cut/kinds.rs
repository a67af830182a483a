//! What each value is, as far as whoever carries it from one shard to another must know.

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
        shapes::{Shapes, Size, Sizes, Value, declared},
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
    /// At any sizes.
    inferred: Value,
    /// Its dimensions at the sizes that are asked for.
    exact: Option<Vec<Option<u64>>>,
    declared: Option<&'g ValueInfoProto>,
}

impl<'g> Kinds<'g> {
    /// `exact` is what is known at the sizes that are asked for, which `sizes` are.
    pub(super) fn new(
        graph: &'g GraphProto,
        [shapes, exact]: [&Shapes; 2],
        links: &Links<'g>,
        sizes: &Sizes,
    ) -> Self {
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
                kinds[value].exact = numbers(&kinds[value].inferred, sizes);
            }
        }
        for (at, node) in graph.node.iter().enumerate() {
            let told = shapes.nodes[at].outputs.iter().zip(&exact.nodes[at].outputs);
            for (name, (inferred, exact)) in node.output.iter().zip(told) {
                if let Some(value) = links.number(name).filter(|_| !name.is_empty()) {
                    kinds[value].inferred = inferred.clone();
                    kinds[value].exact = numbers(exact, sizes);
                }
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
        let dims = kind.sizes(sizes).unwrap_or_default().into_iter();
        let elements = dims.map(|size| size.unwrap_or(1)).fold(1, u64::saturating_mul);
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
        let dim = kind.dims().map(|dims| {
            let dims = dims.into_iter().enumerate();
            dims.map(|(axis, dim)| dimension(&dim, format!("{name}[{axis}]"))).collect()
        });
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

    fn sizes(&self, sizes: &Sizes) -> Option<Vec<Option<u64>>> {
        let rank = self.dims()?.len();
        let exact = |axis: usize| self.exact.as_ref().and_then(|exact| exact.get(axis).copied().flatten());
        Some((0..rank).map(|axis| exact(axis).or_else(|| self.declared_size(axis, sizes))).collect())
    }

    fn elements(&self, sizes: &Sizes) -> Option<u64> {
        self.sizes(sizes)?.into_iter().try_fold(1u64, |product, size| product.checked_mul(size?))
    }
}

fn numbers(value: &Value, sizes: &Sizes) -> Option<Vec<Option<u64>>> {
    let number = |size: &Size| size.as_ref()?.at(sizes);
    value.dims.as_ref().map(|dims| dims.iter().map(number).collect())
}

/// The same size has the same name wherever it stands, so that whoever runs the shard can compare; one that is not known
/// is called by its place.
fn dimension(size: &Size, place: String) -> DimensionProto {
    let value = match size.as_ref().map(|size| (size.as_constant(), size.to_string())) {
        Some((Some(size), _)) => Some(DimensionValue::Size(size)).filter(|_| size >= 0),
        Some((None, name)) => Some(DimensionValue::Symbol(name)),
        None => Some(DimensionValue::Symbol(place)),
    };
    let short = |value: &DimensionValue| match value {
        DimensionValue::Size(_) => true,
        DimensionValue::Symbol(name) => name.len() <= DIMENSION_NAME_MAX,
    };
    DimensionProto { value: value.filter(short), ..DimensionProto::default() }
}
