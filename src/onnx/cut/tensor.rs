//! Splits products of matrices, so that several lanes can do one layer's work at once.
//!
//! Where a product is followed by elementwise work and another product, the first one's columns and the second one's rows
//! are dealt out: each way computes its share of the values between them, and what the ways give is added up. Only the order
//! of that sum is another than in the whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use prost::Message;

use super::{
    CutError, Whole,
    links::{Links, Origin, ValueId},
};
use crate::{
    domain::{Chain, Digest, Share, Unit},
    onnx::{
        check::{byte_size, standard},
        external::is_external,
        precision::names::Names,
        proto::{GraphProto, NodeProto, TensorProto, element},
        read::decode,
        shapes::Sizes,
    },
};

/// What stands before the number of its way in a node's name.
const WAY: &str = "/way";

impl Whole {
    /// Reads the model that has this digest as [`Whole::read`] does, with every pair of products split so many ways that can
    /// be. Its chain says which units are a way's, and which add ways up.
    pub fn read_split(file: &Bytes, digest: Digest, sizes: &Sizes, ways: usize) -> Result<Self, CutError> {
        let mut whole = Self::read(&split(file, ways)?, digest, sizes)?;
        tell_shares(&mut whole.chain);
        whole.ways = Some(ways);
        Ok(whole)
    }
}

/// Says of every unit what it is of a split product: a way by its name, a sum by what it reads.
fn tell_shares(chain: &mut Chain) {
    for unit in &mut chain.units {
        let way = unit.name.rsplit_once(WAY).and_then(|(_, number)| number.parse().ok());
        unit.share = way.map(Share::Way);
    }
    let is_way = |unit: &Unit| matches!(unit.share, Some(Share::Way(_)));
    let of_ways: Vec<_> = chain.units.iter().map(is_way).collect();
    for value in chain.values.iter().filter(|value| value.from.is_some_and(|from| of_ways[from as usize])) {
        for reader in &value.to {
            chain.units[*reader as usize].share.get_or_insert(Share::Sum);
        }
    }
}

/// The same model with every pair of products split so many ways that can be; others stay. Nodes are named after their way.
pub(super) fn split(file: &Bytes, ways: usize) -> Result<Bytes, CutError> {
    let (mut model, mut graph) = decode(file)?;
    crate::onnx::check(file, &|_| crate::onnx::Outside::Bytes(u64::MAX))?;
    let found = pairs(&graph, ways);
    if found.is_empty() || ways < 2 {
        return Err(CutError::Ways { ways });
    }
    let mut split = Splitter { ways, names: Names::of(&graph), slices: BTreeMap::new() };
    let mut nodes = Vec::with_capacity(graph.node.len());
    let gone: HashSet<usize> = found.values().flat_map(|pair| &pair.inner).copied().collect();
    for (at, node) in graph.node.iter().enumerate() {
        match found.get(&at) {
            Some(pair) => nodes.extend(split.nodes(&graph, at, pair)),
            None if gone.contains(&at) => {}
            None => nodes.push(node.clone()),
        }
    }
    graph.node = nodes;
    let slices = split.slices;
    let tensors: Vec<_> = slices.iter().flat_map(|(key, names)| sliced(&graph, key, names)).collect();
    graph.initializer.extend(tensors);
    drop_unread(&mut graph);
    model.graph = Some(graph);
    Ok(model.encode_to_vec().into())
}

/// Two products and what lies between them; by the place of the second.
#[derive(Default)]
struct Pair {
    /// All nodes before the second product, ascending.
    inner: BTreeSet<usize>,
    /// The weights that are cut, and how.
    cuts: HashMap<String, Cut>,
    /// What the second product adds, once to the sum of all ways.
    bias: Option<String>,
}

/// A product with a weight that can be cut.
struct Product<'g> {
    value: &'g str,
    weight: &'g str,
    rows: usize,
    columns: usize,
    /// Whether the weight's own rows are the columns.
    turned: bool,
    bias: Option<&'g str>,
}

impl Product<'_> {
    /// How its weight is cut for a share of what it reads, or of what it makes.
    fn cut(&self, cut: Cut) -> Cut {
        match (cut, self.turned) {
            (Cut::Rows, false) | (Cut::Columns, true) => Cut::Rows,
            (Cut::Columns, false) | (Cut::Rows, true) => Cut::Columns,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Rows,
    Columns,
}

fn pairs(graph: &GraphProto, ways: usize) -> BTreeMap<usize, Pair> {
    let links = Links::new(graph);
    let tensors = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let search = Search { graph, links: &links, tensors, ways };
    let mut pairs: BTreeMap<usize, Pair> = BTreeMap::new();
    for at in 0..graph.node.len() {
        // What is within one pair is in no other.
        let found = search.pair(at).filter(|pair| {
            pairs.iter().all(|(end, other)| !pair.inner.contains(end) && pair.inner.is_disjoint(&other.inner))
        });
        pairs.extend(found.map(|pair| (at, pair)));
    }
    pairs
}

struct Search<'g> {
    graph: &'g GraphProto,
    links: &'g Links<'g>,
    tensors: HashMap<&'g str, &'g TensorProto>,
    ways: usize,
}

impl Search<'_> {
    /// What would be split with the product of that place.
    fn pair(&self, at: usize) -> Option<Pair> {
        let last = self.product(at)?;
        let width = Some(last.rows).filter(|rows| rows % self.ways == 0 && *rows > 0)?;
        let mut pair = Pair { bias: last.bias.map(ToOwned::to_owned), ..Pair::default() };
        pair.cuts.insert(last.weight.to_owned(), last.cut(Cut::Rows));
        let (mut open, mut entries) = (vec![self.links.number(last.value)?], 0);
        while let Some(value) = open.pop() {
            let node = self.links.maker(value).filter(|node| !self.links.steady[*node])?;
            if !pair.inner.insert(node) {
                continue;
            }
            if let Some(first) = self.product(node) {
                let cut = first.cut(Cut::Columns);
                let free = pair.cuts.get(first.weight).is_none_or(|other| *other == cut);
                (free && first.columns == width).then(|| pair.cuts.insert(first.weight.to_owned(), cut))?;
                first.bias.is_none_or(|bias| self.follows(bias, width, &mut pair)).then_some(())?;
                entries += 1;
            } else {
                self.elementwise(node, width, &mut pair, &mut open)?;
            }
        }
        (entries > 0 && self.is_closed(&pair, at)).then_some(pair)
    }

    fn product(&self, at: usize) -> Option<Product<'_>> {
        let node = &self.graph.node[at];
        let (value, weight, bias, turned) = match node.input.as_slice() {
            [value, weight] if is_standard(node, "MatMul") => (value, weight, None, false),
            [value, weight, bias @ ..] if is_standard(node, "Gemm") => {
                let is = |name: &str, default: i64| node.attribute(name).map_or(default, |value| value.i);
                let whole = node.attribute("beta").is_none_or(|beta| (beta.f - 1.0).abs() < f32::EPSILON)
                    && is("transA", 0) == 0;
                let bias = bias.first().filter(|bias| !bias.is_empty());
                let known = bias.is_none_or(|bias| self.tensors.contains_key(bias.as_str()));
                (whole && known).then(|| (value, weight, bias.map(String::as_str), is("transB", 0) != 0))?
            }
            _ => return None,
        };
        let tensor = self.tensors.get(weight.as_str())?;
        let floats = matches!(tensor.data_type, element::FLOAT | element::FLOAT16 | element::DOUBLE);
        let [rows, columns]: [i64; 2] = tensor.dims.as_slice().try_into().ok()?;
        let (rows, columns) = if turned { (columns, rows) } else { (rows, columns) };
        let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
        let product = Product { value, weight, rows, columns, turned, bias };
        (floats && can_be_cut(tensor)).then_some(product)
    }

    /// Whether a weight goes with values of this width: it is one number, or has one for each, of which a way gets its own.
    fn follows(&self, name: &str, width: usize, pair: &mut Pair) -> bool {
        let Some(weight) = self.tensors.get(name) else { return false };
        if elements(weight) == 1 {
            return true;
        }
        let last = weight.dims.last().and_then(|size| usize::try_from(*size).ok());
        let fits = elements(weight) == width && last == Some(width) && can_be_cut(weight);
        if fits {
            pair.cuts.insert(name.to_owned(), Cut::Columns);
        }
        fits
    }

    /// Adds what a node reads that is elementwise over values of this width.
    fn elementwise(&self, at: usize, width: usize, pair: &mut Pair, open: &mut Vec<ValueId>) -> Option<()> {
        let node = &self.graph.node[at];
        let known = standard(&node.domain).is_empty() && ELEMENTWISE.contains(&node.op_type.as_str());
        for value in known.then(|| &self.links.reads[at])? {
            let name = self.links.names[*value];
            match (self.links.origins[*value], self.tensors.get(name)) {
                (Origin::Weight, Some(_)) => self.follows(name, width, pair).then_some(())?,
                (Origin::Node(maker), _) if self.links.steady[maker] => self.is_single(maker).then_some(())?,
                (Origin::Node(_), _) => open.push(*value),
                _ => return None,
            }
        }
        Some(())
    }

    /// Whether a node holds one number.
    fn is_single(&self, at: usize) -> bool {
        let node = &self.graph.node[at];
        let tensor = node.attribute("value").and_then(|value| value.t.as_ref());
        is_standard(node, "Constant")
            && tensor.is_none_or(|tensor| elements(tensor) == 1)
            && node.attribute.iter().all(|value| value.ints.is_empty() && value.floats.is_empty())
    }

    /// Whether nothing outside reads what is made within.
    fn is_closed(&self, pair: &Pair, end: usize) -> bool {
        pair.inner.iter().flat_map(|node| &self.links.makes[*node]).all(|value| {
            let within = |reader: &usize| *reader == end || pair.inner.contains(reader);
            !self.links.outputs.contains(value) && self.links.readers[*value].iter().all(within)
        })
    }
}

/// Operators that make each element of the elements at its place.
const ELEMENTWISE: [&str; 22] = [
    "Abs",
    "Add",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Mish",
    "Mul",
    "Neg",
    "Pow",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Tanh",
];

struct Splitter {
    ways: usize,
    names: Names,
    /// The names of a weight's parts.
    slices: BTreeMap<(String, Cut), Vec<String>>,
}

impl Splitter {
    /// Every way's nodes, and the sum of what they give.
    fn nodes(&mut self, graph: &GraphProto, end: usize, pair: &Pair) -> Vec<NodeProto> {
        let mut nodes = Vec::new();
        let mut shares = Vec::new();
        for way in 0..self.ways {
            let mut renamed: HashMap<&str, String> = HashMap::new();
            for at in pair.inner.iter().chain([&end]) {
                let node = &graph.node[*at];
                let mut copy = node.clone();
                for input in &mut copy.input {
                    if let Some(cut) = pair.cuts.get(input.as_str()) {
                        *input = self.slice(input, *cut, way);
                    } else if let Some(name) = renamed.get(input.as_str()) {
                        input.clone_from(name);
                    }
                }
                for (output, new) in
                    node.output.iter().zip(&mut copy.output).filter(|(name, _)| !name.is_empty())
                {
                    *new = self.names.fresh(&format!("{output}{WAY}{way}"));
                    renamed.insert(output, new.clone());
                }
                let named = if node.name.is_empty() { &node.output[0] } else { &node.name };
                copy.name = format!("{named}{WAY}{way}");
                if *at == end {
                    copy.input.truncate(2);
                    shares.extend(copy.output.first().cloned());
                }
                nodes.push(copy);
            }
        }
        nodes.push(NodeProto {
            name: self.names.fresh(&format!("{}/sum", graph.node[end].output[0])),
            op_type: "Sum".to_owned(),
            input: shares.into_iter().chain(pair.bias.clone()).collect(),
            output: graph.node[end].output.clone(),
            ..NodeProto::default()
        });
        nodes
    }

    fn slice(&mut self, weight: &str, cut: Cut, way: usize) -> String {
        let (names, ways) = (&mut self.names, self.ways);
        let word = if cut == Cut::Rows { "rows" } else { "columns" };
        let make = || (0..ways).map(|way| names.fresh(&format!("{weight}/{word}{way}"))).collect();
        self.slices.entry((weight.to_owned(), cut)).or_insert_with(make)[way].clone()
    }
}

/// A weight in as many parts as there are names. Rows share the whole's memory.
fn sliced(graph: &GraphProto, (weight, cut): &(String, Cut), names: &[String]) -> Vec<TensorProto> {
    let Some(tensor) = graph.initializer.iter().find(|tensor| tensor.name == *weight) else {
        return Vec::new();
    };
    let parts = names.len();
    let axis = if *cut == Cut::Rows { 0 } else { tensor.dims.len() - 1 };
    let part = |(at, name): (usize, &String)| {
        let raw = &tensor.raw_data;
        let raw_data = match cut {
            Cut::Rows => raw.slice(raw.len() / parts * at..raw.len() / parts * (at + 1)),
            Cut::Columns => {
                let rows = elements(tensor) / tensor.dims[axis].unsigned_abs() as usize;
                let row = raw.len() / rows.max(1);
                let share = row / parts;
                raw.chunks(row.max(1)).flat_map(|row| &row[share * at..share * (at + 1)]).copied().collect()
            }
        };
        let mut dims = tensor.dims.clone();
        dims[axis] /= (parts as u64).cast_signed();
        TensorProto {
            name: name.clone(),
            dims,
            data_type: tensor.data_type,
            raw_data,
            ..TensorProto::default()
        }
    };
    names.iter().enumerate().map(part).collect()
}

/// Weights whose parts are all that is read.
fn drop_unread(graph: &mut GraphProto) {
    let links = Links::new(graph);
    let read = |name: &str| {
        links
            .number(name)
            .is_some_and(|value| !links.readers[value].is_empty() || links.outputs.contains(&value))
    };
    let unread: HashSet<String> =
        graph.initializer.iter().map(|tensor| &tensor.name).filter(|name| !read(name)).cloned().collect();
    graph.initializer.retain(|tensor| !unread.contains(&tensor.name));
    graph.input.retain(|port| !unread.contains(&port.name));
}

fn is_standard(node: &NodeProto, operator: &str) -> bool {
    standard(&node.domain).is_empty() && node.op_type == operator
}

fn elements(tensor: &TensorProto) -> usize {
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size).unwrap_or(0));
    sizes.fold(1, usize::saturating_mul)
}

/// Whether its bytes are here, one element behind the other.
fn can_be_cut(tensor: &TensorProto) -> bool {
    let whole = byte_size(tensor.data_type, elements(tensor) as u64);
    let bytes = whole.filter(|bytes| bytes % (elements(tensor).max(1) as u64) == 0 && *bytes > 0);
    !is_external(tensor) && bytes == Some(tensor.raw_data.len() as u64)
}
