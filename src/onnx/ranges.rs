//! Which values a graph implies for its inputs, so that a model can be tried without anyone's data.
//!
//! Values are followed through operators that keep them, until one says what they mean:
//! an index into a table, a comparison with constants, a mask.

use std::collections::{HashMap, HashSet};

use super::{
    proto::{GraphProto, NodeProto, TensorProto, element},
    read::{visit_graphs, visit_nodes},
};
use crate::domain::{Datatype, Port};

/// The values that one input may take.
#[derive(Clone, Debug, PartialEq)]
pub struct InputRange {
    pub name: String,
    pub values: Values,
}

/// All bounds are inclusive.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Integers {
        low: i64,
        high: i64,
    },
    /// The graph compares the input with these and nothing else.
    OneOf(Vec<i64>),
    Reals {
        low: f64,
        high: f64,
    },
    Text,
}

/// Constants longer than this are weights; no comparison or depth is that long.
const CONSTANT_ELEMENTS_MAX: usize = 1 << 16;

pub(super) fn imply(graph: &GraphProto, inputs: &[Port]) -> Vec<InputRange> {
    let index = Index::new(graph);
    inputs
        .iter()
        .map(|port| {
            let values = index.implied(&port.name).unwrap_or_else(|| assumed(port.datatype));
            InputRange { name: port.name.clone(), values: fit(values, port.datatype) }
        })
        .collect()
}

/// What to try where the graph says nothing.
fn assumed(datatype: Datatype) -> Values {
    match datatype {
        // Pixels and quantised values use their whole type; wider integers may be indices of tables that we do not see.
        Datatype::Uint8 => Values::Integers { low: 0, high: 255 },
        Datatype::Int8 => Values::Integers { low: -128, high: 127 },
        Datatype::Bytes => Values::Text,
        // Normalised images, audio samples and states are of this size.
        datatype if datatype.is_float() => Values::Reals { low: -1.0, high: 1.0 },
        _ => Values::Integers { low: 0, high: 1 },
    }
}

/// Narrows what the graph accepts to what the input's type can hold.
fn fit(values: Values, datatype: Datatype) -> Values {
    let (low, high) = match datatype {
        Datatype::Bool => return Values::Integers { low: 0, high: 1 },
        Datatype::Bytes => return Values::Text,
        Datatype::Uint8 => (0, 255),
        Datatype::Uint16 => (0, i64::from(u16::MAX)),
        Datatype::Uint32 | Datatype::Uint64 => (0, i64::from(u32::MAX)),
        Datatype::Int8 => (-128, 127),
        Datatype::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        _ => return values,
    };
    match values {
        Values::Integers { low: a, high: b } => {
            Values::Integers { low: a.clamp(low, high), high: b.clamp(low, high) }
        }
        Values::OneOf(values) => {
            Values::OneOf(values.into_iter().map(|value| value.clamp(low, high)).collect())
        }
        other => other,
    }
}

/// What one use of a value says about it; the first kind present decides.
#[derive(Default)]
struct Seen {
    /// Rows of the smallest table that the value indexes.
    rows: Option<i64>,
    compared: Vec<i64>,
    mask: bool,
}

struct Index<'g> {
    /// Per value name, the nodes that read it and as which argument.
    uses: HashMap<&'g str, Vec<(&'g NodeProto, usize)>>,
    constants: HashMap<&'g str, &'g TensorProto>,
}

impl<'g> Index<'g> {
    fn new(graph: &'g GraphProto) -> Self {
        let mut index = Self { uses: HashMap::new(), constants: HashMap::new() };
        visit_graphs(graph, &mut |graph| {
            index.constants.extend(graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)));
        });
        visit_nodes(graph, &mut |node| {
            for (at, name) in node.input.iter().enumerate() {
                index.uses.entry(name).or_default().push((node, at));
            }
            if let ("Constant", [output], Some(tensor)) = (
                node.op_type.as_str(),
                node.output.as_slice(),
                node.attribute("value").and_then(|value| value.t.as_ref()),
            ) {
                index.constants.insert(output, tensor);
            }
        });
        index
    }

    fn implied(&self, input: &str) -> Option<Values> {
        let mut seen = Seen::default();
        let mut reached = HashSet::from([input]);
        let mut waiting = vec![input];
        while let Some(value) = waiting.pop() {
            for (node, at) in self.uses.get(value).into_iter().flatten() {
                self.look(node, *at, &mut seen);
                if keeps_values(node, *at) {
                    waiting.extend(
                        node.output.iter().map(String::as_str).filter(|output| reached.insert(output)),
                    );
                }
            }
        }
        seen.values()
    }

    fn look(&self, node: &NodeProto, at: usize, seen: &mut Seen) {
        let rows = |table: usize, axis: i64| {
            let dims = &self.constants.get(node.input.get(table)?.as_str())?.dims;
            let axis = if axis < 0 { axis + i64::try_from(dims.len()).ok()? } else { axis };
            dims.get(usize::try_from(axis).ok()?).copied()
        };
        let axis = || node.attribute("axis").map_or(0, |axis| axis.i);
        match (node.op_type.as_str(), at) {
            ("Gather" | "GatherElements", 1) => seen.index(rows(0, axis())),
            ("GatherND", 1) => {
                let table = self.constants.get(node.input[0].as_str());
                seen.index(table.and_then(|table| table.dims.iter().copied().min()));
            }
            ("EmbedLayerNormalization", 0) => seen.index(rows(2, 0)),
            ("EmbedLayerNormalization", 1) => seen.index(rows(4, 0)),
            ("OneHot", 0) => seen.index(self.integers(node, 1).and_then(|depth| depth.first().copied())),
            ("Equal", at) => seen.compared.extend(self.integers(node, 1 - at.min(1)).unwrap_or_default()),
            ("EmbedLayerNormalization", 7) => seen.mask = true,
            ("Sub", 1) => seen.mask |= self.integers(node, 0).is_some_and(|one| one == [1]),
            ("Cast", 0) => {
                seen.mask |= node.attribute("to").is_some_and(|to| to.i == i64::from(element::BOOL));
            }
            _ => {}
        }
    }

    /// The whole numbers of a constant argument.
    fn integers(&self, node: &NodeProto, at: usize) -> Option<Vec<i64>> {
        let tensor = self.constants.get(node.input.get(at)?.as_str())?;
        tensor
            .dims
            .iter()
            .try_fold(1usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?))
            .filter(|n| *n <= CONSTANT_ELEMENTS_MAX)?;
        integers(tensor)
    }
}

impl Seen {
    fn index(&mut self, rows: Option<i64>) {
        let rows = rows.filter(|rows| *rows > 0);
        self.rows = match (self.rows, rows) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn values(mut self) -> Option<Values> {
        if let Some(rows) = self.rows {
            return Some(Values::Integers { low: 0, high: rows - 1 });
        }
        self.compared.sort_unstable();
        self.compared.dedup();
        match self.compared.as_slice() {
            // A mask or a flag, tested for one of its two values.
            [0 | 1] => Some(Values::Integers { low: 0, high: 1 }),
            [] if self.mask => Some(Values::Integers { low: 0, high: 1 }),
            [] => None,
            // Sorted and without repeats: as many values as that are all of the values between.
            [low, .., high] if high.checked_sub(*low) == i64::try_from(self.compared.len() - 1).ok() => {
                Some(Values::Integers { low: *low, high: *high })
            }
            _ => Some(Values::OneOf(self.compared)),
        }
    }
}

/// Whether the node's outputs hold the argument's values unchanged.
fn keeps_values(node: &NodeProto, at: usize) -> bool {
    match node.op_type.as_str() {
        "Concat" => true,
        "Where" => at > 0,
        "Cast" | "Unsqueeze" | "Squeeze" | "Reshape" | "Identity" | "Expand" | "Tile" | "Flatten"
        | "Transpose" | "Slice" | "Split" | "Gather" => at == 0,
        _ => false,
    }
}

/// A constant's elements if all of them are whole numbers.
pub(super) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    let raw = &tensor.raw_data;
    match tensor.data_type {
        element::FLOAT => {
            let raw = raw.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk));
            tensor.float_data.iter().copied().chain(raw).map(|value| whole(value.into())).collect()
        }
        element::FLOAT16 => {
            let raw = raw.as_chunks::<2>().0.iter().map(|chunk| half::f16::from_le_bytes(*chunk).to_f64());
            let listed = tensor.int32_data.iter().map(|bits| half::f16::from_bits(*bits as u16).to_f64());
            listed.chain(raw).map(whole).collect()
        }
        element::INT32 => {
            let raw = raw.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk));
            Some(tensor.int32_data.iter().copied().chain(raw).map(i64::from).collect())
        }
        element::INT64 => {
            let raw = raw.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk));
            Some(tensor.int64_data.iter().copied().chain(raw).collect())
        }
        element::UINT8 | element::BOOL => Some(
            tensor
                .int32_data
                .iter()
                .copied()
                .map(i64::from)
                .chain(raw.iter().copied().map(i64::from))
                .collect(),
        ),
        _ => None,
    }
}

fn whole(value: f64) -> Option<i64> {
    // 2^53: larger whole numbers are not exact.
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
}
