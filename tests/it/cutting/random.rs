//! Graphs drawn at random: skipped connections, shared weights, several outputs, shapes computed in the graph, branches and
//! loops that take values from around them, sequences.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};
use weft::domain::Datatype;

use super::*;
use crate::support::graphs::{self, FLOAT, INT64, field, node, number, text};

/// Columns of every value.
const WIDTH: u64 = 4;

/// Graphs of one run of the test; each is cut several times.
const GRAPHS: u64 = 300;

struct Draw {
    random: Xoshiro256PlusPlus,
    nodes: Vec<Vec<u8>>,
    /// Of `f32[n, 4]`, those that are read rarely first.
    values: Vec<String>,
    /// Of `f32[4, 4]`.
    weights: Vec<String>,
    count: usize,
}

impl Draw {
    fn name(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    /// Some value, more often a late one.
    fn value(&mut self) -> String {
        let late = self.values.len().saturating_sub(3);
        let from = if self.random.random_ratio(1, 3) { 0 } else { late };
        self.values[self.random.random_range(from..self.values.len())].clone()
    }

    fn weight(&mut self) -> String {
        self.weights.choose(&mut self.random).expect("there are some").clone()
    }

    fn add(&mut self, operator: &str, inputs: &[&str]) -> String {
        let output = self.name();
        self.nodes.push(node(operator, inputs, &[&output]));
        output
    }

    fn with(&mut self, operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) {
        let attributes = attributes.iter().flat_map(|attribute| field(5, attribute)).collect::<Vec<_>>();
        self.nodes.push([node(operator, inputs, outputs), attributes].concat());
    }

    fn step(&mut self) {
        let (a, b, weight) = (self.value(), self.value(), self.weight());
        let made = match self.random.random_range(0..14) {
            0 | 1 => self.add("MatMul", &[&a, &weight]),
            2 => self.add("Relu", &[&a]),
            3 => self.add("Tanh", &[&a]),
            4 | 5 => self.add("Add", &[&a, &b]),
            6 => self.add("Mul", &[&a, &b]),
            7 => {
                // Made of a weight alone, and so wherever it is needed.
                let turned = self.add("Transpose", &[&weight]);
                self.weights.push(turned.clone());
                self.add("MatMul", &[&a, &turned])
            }
            8 => {
                let constant = self.constant();
                self.add("Add", &[&a, &constant])
            }
            9 => {
                let (left, right) = (self.name(), self.name());
                self.with("Split", &[&a], &[&left, &right], &[whole("axis", 1)]);
                let joined = self.name();
                self.with("Concat", &[&right, &left], &[&joined], &[whole("axis", 1)]);
                joined
            }
            10 => {
                let shape = self.add("Shape", &[&b]);
                self.add("Reshape", &[&a, &shape])
            }
            11 => self.branch(&a, &b, &weight),
            12 => self.turns(&a, &b),
            _ => {
                let sequence = self.add("SequenceConstruct", &[&a, &b]);
                self.add("SequenceAt", &[&sequence, "one"])
            }
        };
        self.values.push(made);
    }

    /// A node that holds four numbers.
    fn constant(&mut self) -> String {
        let values: Vec<u8> = (0..WIDTH).flat_map(|_| self.random.random::<f32>().to_le_bytes()).collect();
        let tensor = [number(1, WIDTH), number(2, FLOAT), field(9, &values)].concat();
        let output = self.name();
        let attribute = [text(1, "value"), field(5, &tensor), number(20, 4)].concat();
        self.with("Constant", &[], &[&output], &[attribute]);
        output
    }

    /// One of two graphs that both read what is around them.
    fn branch(&mut self, a: &str, b: &str, weight: &str) -> String {
        let sum = self.name();
        self.with("ReduceSum", &[b], &[&sum], &[whole("keepdims", 0)]);
        let above = self.add("Greater", &[&sum, "zero"]);
        let [then, other, output] = [self.name(), self.name(), self.name()];
        let taken = graphs::graph(&[node("MatMul", &[a, weight], &[&then])], &[], &[free(&then)], &[]);
        let left = graphs::graph(&[node("Sub", &[a, b], &[&other])], &[], &[free(&other)], &[]);
        let branches = [within("then_branch", &taken), within("else_branch", &left)];
        self.with("If", &[&above], &[&output], &branches);
        output
    }

    /// Two turns of a loop that adds what is around it.
    fn turns(&mut self, a: &str, b: &str) -> String {
        let [turn, on, carried, still, sum, output] = std::array::from_fn(|_| self.name());
        let nodes = [node("Identity", &[&on], &[&still]), node("Add", &[&carried, b], &[&sum])];
        let inputs = [graphs::port(&turn, INT64, &[]), graphs::port(&on, BOOL, &[]), free(&carried)];
        let body = graphs::graph(&nodes, &inputs, &[graphs::port(&still, BOOL, &[]), free(&sum)], &[]);
        self.with("Loop", &["two", "", a], &[&output], &[within("body", &body)]);
        output
    }
}

const BOOL: u64 = 9;

fn free(name: &str) -> Vec<u8> {
    graphs::port(name, FLOAT, &[graphs::Dim::Symbol("n"), graphs::Dim::Size(WIDTH)])
}

fn whole(name: &str, value: u64) -> Vec<u8> {
    [text(1, name), number(3, value), number(20, 2)].concat()
}

fn within(name: &str, graph: &[u8]) -> Vec<u8> {
    [text(1, name), field(6, graph), number(20, 5)].concat()
}

fn scalar(name: &str, element: u64, bytes: &[u8]) -> Vec<u8> {
    [number(2, element), text(8, name), field(9, bytes)].concat()
}

/// A model that the engine takes, and inputs of it.
fn draw(seed: u64) -> (Bytes, Vec<Tensor>) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut floats = |count: u64| -> Vec<u8> {
        (0..count).flat_map(|_| random.random_range(-0.5..0.5f32).to_le_bytes()).collect()
    };
    let weight = |name: &str, values: Vec<u8>| {
        [number(1, WIDTH), number(1, WIDTH), number(2, FLOAT), text(8, name), field(9, &values)].concat()
    };
    let mut weights: Vec<_> =
        ["w0", "w1", "w2"].map(|name| weight(name, floats(WIDTH * WIDTH))).into_iter().collect();
    weights.push(scalar("zero", FLOAT, &0f32.to_le_bytes()));
    weights.push(scalar("one", INT64, &1i64.to_le_bytes()));
    weights.push(scalar("two", INT64, &2i64.to_le_bytes()));
    let inputs: Vec<_> = ["x", "y"]
        .map(|name| Tensor {
            name: name.to_owned(),
            datatype: Datatype::Fp32,
            shape: vec![3, WIDTH],
            body: floats(3 * WIDTH).into(),
        })
        .into_iter()
        .collect();
    let mut draw = Draw {
        random,
        nodes: Vec::new(),
        values: vec!["x".to_owned(), "y".to_owned()],
        weights: ["w0", "w1", "w2"].map(str::to_owned).to_vec(),
        count: 0,
    };
    for _ in 0..draw.random.random_range(4..24) {
        draw.step();
    }
    let mut outputs = vec![draw.values.last().expect("a value").clone()];
    for _ in 0..draw.random.random_range(0..3) {
        outputs.push(draw.value());
    }
    outputs.sort();
    outputs.dedup();
    let ports: Vec<_> = outputs.iter().map(|name| free(name)).collect();
    let graph = graphs::graph(&draw.nodes, &[free("x"), free("y")], &ports, &weights);
    (graphs::enclosed(&graph).into(), inputs)
}

/// A grouping of units that do not need each other in a circle: each goes to the group of what it needs last, or a later
/// one.
fn grouping(whole: &Whole, random: &mut Xoshiro256PlusPlus) -> Vec<Vec<u32>> {
    let units = whole.chain().units.len();
    let mut groups = vec![Vec::new(); 4];
    let mut of = vec![0; units];
    for unit in 0..units as u32 {
        let read = whole.chain().values.iter().filter(|value| value.to.contains(&unit));
        let least = read.filter_map(|value| value.from).map(|from| of[from as usize]).max().unwrap_or(0);
        of[unit as usize] = random.random_range(least..groups.len());
        groups[of[unit as usize]].push(unit);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

#[tokio::test]
async fn random_graphs_in_any_parts() {
    let engine = Engine::new();
    let (mut cuts, mut bonds) = (0, 0);
    for seed in 0..GRAPHS {
        let (file, inputs) = draw(seed);
        let wanted =
            engine.run(&file, inputs.clone()).await.unwrap_or_else(|error| panic!("{seed}: {error}"));
        let Ok(whole) = Whole::read(&file, digest(), &sizes(&file, &inputs)) else {
            // Its outputs are its inputs.
            continue;
        };
        whole.chain().check().expect("a good chain");
        bonds += whole.bonds().len();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let units = whole.chain().units.len();
        let single: Vec<usize> = if seed % 2 == 0 { (1..units).collect() } else { vec![] };
        for cut in [vec![], vec![random.random_range(0..units)], single] {
            let cut: Vec<usize> = cut.into_iter().filter(|at| *at > 0).collect();
            let shards = whole.at(&cut).expect("frontiers");
            same(&wanted, &engine.chained(&shards, &inputs).await, &format!("{seed} at {cut:?}"));
            cuts += cut.len();
        }
        let groups = grouping(&whole, &mut random);
        let shards = whole.groups(&groups).unwrap_or_else(|error| panic!("{seed}, {groups:?}: {error}"));
        same(&wanted, &engine.chained(&shards, &inputs).await, &format!("{seed} in {groups:?}"));
    }
    assert!(cuts > 1000, "{cuts} cuts");
    assert!(bonds > 20, "{bonds} values that cannot be carried");
}
