//! Products with constant weights, rewritten for weights of few bits. All else stays.
//!
//! Products are looked for in the graphs within a graph too; a weight is replaced where it lies, so that whoever reads
//! it in several places still shares it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Changed, MICROSOFT, Precision, PrecisionError, Recipe, Report,
    blocks::{self, COLUMN_ZERO, Matrix, Quantised},
    constant, import_microsoft, is_standard, left,
    names::{self, Names},
    standard_opset,
    weights::{self, floats, tensor},
};
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute, element,
};

/// Since this opset there is `DynamicQuantizeLinear`.
const OPSET_DYNAMIC: i64 = 11;

/// Since this opset `Add` fits a bias to a product by itself.
const OPSET_BLOCKS: i64 = 7;

pub(super) fn rewrite(
    model: &mut ModelProto,
    graph: &mut GraphProto,
    recipe: &Recipe,
) -> Result<Report, PrecisionError> {
    let mut pass = Pass {
        recipe,
        opset: standard_opset(model),
        names: Names::of(graph),
        scopes: Vec::new(),
        changed: Vec::new(),
        reasons: BTreeMap::new(),
        made: BTreeSet::new(),
        replaced: BTreeSet::new(),
    };
    let readers = names::readers(graph);
    pass.graph(graph)?;
    names::prune(graph, &pass.replaced);
    if pass.changed.iter().any(|changed| matches!(changed.precision, Precision::Blocks { .. })) {
        import_microsoft(model);
    }
    let left = left(graph, &pass.made, &pass.reasons, &readers);
    Ok(Report { changed: pass.changed, left, ..Report::default() })
}

/// A weight that was made, and how the product that reads it is written.
#[derive(Clone)]
struct Made {
    names: Vec<String>,
    inputs: i64,
    outputs: i64,
}

/// What one graph adds to its own constants.
#[derive(Default)]
struct Scope {
    constants: HashMap<String, TensorProto>,
    added: Vec<TensorProto>,
    made: HashMap<(String, Form), Made>,
    /// Activations that were quantised: numbers, scale and zero point.
    activations: HashMap<String, [String; 3]>,
}

/// One weight may be read as it is and transposed, by products of different precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    precision: Precision,
    transposed: bool,
    /// The bits of the factor that the product is multiplied with.
    factor: u32,
}

struct Pass<'r> {
    recipe: &'r Recipe,
    opset: i64,
    names: Names,
    scopes: Vec<Scope>,
    changed: Vec<Changed>,
    /// Why a weight that a product reads stays.
    reasons: BTreeMap<String, String>,
    made: BTreeSet<String>,
    replaced: BTreeSet<String>,
}

/// A product of something with a constant.
struct Product<'n> {
    node: &'n NodeProto,
    activation: &'n str,
    weight: &'n str,
    bias: Option<&'n str>,
    form: Form,
}

impl Pass<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), PrecisionError> {
        let own = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor));
        let own = own.chain(graph.node.iter().filter_map(constant));
        let constants = own.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        self.scopes.push(Scope { constants, ..Scope::default() });
        let mut nodes = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            for attribute in &mut node.attribute {
                for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    self.graph(inner)?;
                }
            }
            match self.product(&node) {
                Some(product) => match self.quantise(&product)? {
                    Some(made) => nodes.extend(self.written(&product, &made)),
                    None => nodes.push(node),
                },
                None => nodes.push(node),
            }
        }
        graph.node = nodes;
        graph.initializer.extend(self.scopes.pop().expect("pushed above").added);
        Ok(())
    }

    /// Where the weight lies, from the innermost graph outwards.
    fn scope(&self, name: &str) -> Option<usize> {
        self.scopes.iter().rposition(|scope| scope.constants.contains_key(name))
    }

    fn leave(&mut self, weight: &str, reason: &str) {
        self.reasons.insert(weight.to_owned(), reason.to_owned());
    }

    /// What the node multiplies, where the recipe has a precision for it.
    fn product<'n>(&mut self, node: &'n NodeProto) -> Option<Product<'n>> {
        let is_product = is_standard(&node.domain) && matches!(node.op_type.as_str(), "MatMul" | "Gemm");
        let [activation, weight, bias @ ..] = node.input.as_slice() else { return None };
        if !is_product {
            return None;
        }
        if self.scope(weight).is_none() {
            if self.scope(activation).is_some() {
                self.leave(activation, "is multiplied from the left");
            }
            return None;
        }
        let precision = self.recipe.of(&node.name, weight);
        if precision == Precision::Fp32 {
            self.leave(weight, "is left by the recipe");
            return None;
        }
        let number = |name: &str| node.attribute(name);
        let bias = bias.first().map(String::as_str).filter(|bias| !bias.is_empty());
        let whole = |name| number(name).map_or(0, |attribute| attribute.i);
        let factor = |name| number(name).map_or(1.0, |attribute| attribute.f);
        if whole("transA") != 0 {
            self.leave(weight, "is multiplied with something transposed");
            return None;
        }
        if bias.is_some() && factor("beta").to_bits() != 1f32.to_bits() {
            self.leave(weight, "is in a Gemm that multiplies its bias");
            return None;
        }
        let form = Form { precision, transposed: whole("transB") != 0, factor: factor("alpha").to_bits() };
        Some(Product { node, activation, weight, bias, form })
    }

    /// The weight in the product's precision, made once.
    fn quantise(&mut self, product: &Product<'_>) -> Result<Option<Made>, PrecisionError> {
        let Product { weight, form, .. } = product;
        let at = self.scope(weight).expect("looked up when the product was found");
        let key = ((*weight).to_owned(), *form);
        if let Some(made) = self.scopes[at].made.get(&key) {
            return Ok(Some(made.clone()));
        }
        let needed = if form.precision == Precision::Int8Dynamic { OPSET_DYNAMIC } else { OPSET_BLOCKS };
        if self.opset < needed {
            let precision = form.precision.to_string();
            return Err(PrecisionError::Opset { opset: self.opset, precision, needed });
        }
        let tensor = &self.scopes[at].constants[*weight];
        let matrix = match matrix(tensor, *form) {
            Ok(matrix) => matrix,
            Err(reason) => {
                self.leave(weight, reason);
                return Ok(None);
            }
        };
        if bytes(&matrix, form.precision) >= matrix.values.len() * 4 {
            self.leave(weight, "would be no smaller");
            return Ok(None);
        }
        let name = self.names.fresh(&format!("{weight}/{}", label(form.precision)));
        let Quantised { tensors, error } = match form.precision {
            Precision::Blocks { bits, block, symmetric } => {
                blocks::blocks(&matrix, &name, bits, block as usize, symmetric)
            }
            _ => blocks::columns(&matrix, &name),
        };
        let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
        let size = |size: usize| i64::try_from(size).expect("it was one");
        let made = Made { names, inputs: size(matrix.inputs), outputs: size(matrix.outputs) };
        self.changed.push(Changed {
            name: (*weight).to_owned(),
            precision: form.precision,
            elements: matrix.values.len() as u64,
            bytes: tensors.iter().map(weights::bytes).sum(),
            error,
            clamped: 0,
            vanished: 0,
        });
        self.replaced.insert((*weight).to_owned());
        self.made.extend(made.names.iter().cloned());
        self.scopes[at].added.extend(tensors);
        self.scopes[at].made.insert(key, made.clone());
        Ok(Some(made))
    }

    /// The nodes that take the product's place; the last has its output.
    fn written(&mut self, product: &Product<'_>, made: &Made) -> Vec<NodeProto> {
        let output = product.node.output.first().cloned().unwrap_or_default();
        let target = match product.bias {
            Some(_) => self.names.fresh(&format!("{output}/product")),
            None => output.clone(),
        };
        let mut nodes = match product.form.precision {
            Precision::Blocks { bits, block, .. } => {
                let numbers = [
                    ("K", made.inputs),
                    ("N", made.outputs),
                    ("bits", bits.count().into()),
                    ("block_size", block.into()),
                ];
                let inputs = [product.activation].into_iter().chain(made.names.iter().map(String::as_str));
                let mut node = node("MatMulNBits", inputs, [&target]);
                MICROSOFT.clone_into(&mut node.domain);
                node.attribute = numbers.map(|(name, i)| whole(name, i)).to_vec();
                vec![node]
            }
            _ => self.dynamic(product.activation, made, &target),
        };
        // Where somebody looks for the layer, it is.
        if let Some(main) = nodes.iter_mut().find(|node| node.op_type.starts_with("MatMul")) {
            main.name.clone_from(&product.node.name);
        }
        if let Some(bias) = product.bias {
            nodes.push(node("Add", [target.as_str(), bias], [&output]));
        }
        // Values often have the name of the node that makes them, and no two nodes may have the same.
        for node in nodes.iter_mut().filter(|node| node.name.is_empty()) {
            node.name = self.names.fresh(&format!("{}/{}", node.output[0], node.op_type));
        }
        nodes
    }

    fn dynamic(&mut self, activation: &str, made: &Made, target: &str) -> Vec<NodeProto> {
        let [weight, scales] = made.names.as_slice() else { unreachable!("numbers and their scales") };
        let mut nodes = Vec::new();
        let scope = self.scopes.last().expect("within a graph");
        let quantised = scope.activations.get(activation).cloned().unwrap_or_else(|| {
            let names = ["numbers", "scale", "zero"];
            let names = names.map(|part| self.names.fresh(&format!("{activation}/{part}")));
            nodes.push(node("DynamicQuantizeLinear", [activation], [&names[0], &names[1], &names[2]]));
            names
        });
        let zero = self.column_zero();
        let mut fresh = |part: &str| self.names.fresh(&format!("{target}/{part}"));
        let (sums, floats, scale) = (fresh("sums"), fresh("floats"), fresh("scale"));
        let [numbers, one_scale, one_zero] = &quantised;
        let inputs = [numbers.as_str(), weight, one_zero, &zero];
        nodes.push(node("MatMulInteger", inputs, [&sums]));
        let mut cast = node("Cast", [sums.as_str()], [&floats]);
        cast.attribute.push(whole("to", element::FLOAT.into()));
        nodes.push(cast);
        nodes.push(node("Mul", [one_scale.as_str(), scales], [&scale]));
        nodes.push(node("Mul", [floats.as_str(), &scale], [target]));
        let scope = self.scopes.last_mut().expect("within a graph");
        scope.activations.insert(activation.to_owned(), quantised);
        nodes
    }

    /// The one number that is zero in every column, kept in the outermost graph.
    fn column_zero(&mut self) -> String {
        let key = (String::new(), Form { precision: Precision::Int8Dynamic, transposed: false, factor: 0 });
        if let Some(made) = self.scopes[0].made.get(&key) {
            return made.names[0].clone();
        }
        let name = self.names.fresh("int8-dynamic/zero");
        self.scopes[0].added.push(tensor(&name, element::UINT8, &[], vec![COLUMN_ZERO]));
        self.scopes[0].made.insert(key, Made { names: vec![name.clone()], inputs: 0, outputs: 0 });
        name
    }
}

/// The weight as `[inputs, outputs]`, or why it cannot be.
fn matrix(tensor: &TensorProto, form: Form) -> Result<Matrix, &'static str> {
    let values = floats(tensor).ok_or("is not of fp32, or has not as many elements as its shape says")?;
    let [rows, columns] = tensor.dims.as_slice() else { return Err("is not of two dimensions") };
    if values.is_empty() {
        return Err("has no elements");
    }
    let factor = f32::from_bits(form.factor);
    let (rows, columns) = (*rows as usize, *columns as usize);
    let (inputs, outputs) = if form.transposed { (columns, rows) } else { (rows, columns) };
    let mut matrix = Matrix { inputs, outputs, values };
    if form.transposed {
        let (from, inputs) = (&matrix.values, 0..inputs);
        matrix.values =
            inputs.flat_map(|input| (0..rows).map(move |row| from[row * columns + input])).collect();
    }
    if factor.to_bits() != 1f32.to_bits() {
        matrix.values.iter_mut().for_each(|value| *value *= factor);
    }
    if matrix.values.iter().any(|value| !value.is_finite()) {
        return Err("has values that are not finite");
    }
    Ok(matrix)
}

/// What the matrix takes in that precision, with its scales. A column shorter than a block is filled up to one.
fn bytes(matrix: &Matrix, precision: Precision) -> usize {
    let column = match precision {
        Precision::Blocks { bits, block, symmetric } => {
            let (bits, block) = (bits.count() as usize, block as usize);
            let count = matrix.inputs.div_ceil(block);
            let zeros = if symmetric { 0 } else { (count * bits).div_ceil(8) };
            count * (block * bits / 8 + 4) + zeros
        }
        _ => matrix.inputs + 4,
    };
    matrix.outputs * column
}

fn label(precision: Precision) -> String {
    let text = precision.to_string();
    text.split(',').next().unwrap_or_default().to_owned()
}

fn node<'n, const OUTPUTS: usize>(
    operator: &str,
    inputs: impl IntoIterator<Item = &'n str>,
    outputs: [&str; OUTPUTS],
) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.into_iter().map(str::to_owned).collect(),
        output: outputs.map(str::to_owned).to_vec(),
        ..NodeProto::default()
    }
}

fn whole(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i, r#type: attribute::INT, ..AttributeProto::default() }
}
