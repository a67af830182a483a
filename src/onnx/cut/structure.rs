//! From sets of nodes to a chain: their order, what each costs and is, and what passes between them.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{
    blocks::{self, Row},
    class::class,
    kinds::Kinds,
    links::{Links, Origin, ValueId},
    order::{Ties, order},
    parts::{Parts, Place},
    towers,
    weights::Weights,
};
use crate::{
    domain::{Chain, OperatorClass, Part, Passing, Unit},
    onnx::{
        cost::{NodeCost, of_graph},
        proto::GraphProto,
        shapes::{Expr, Shapes, Sizes},
    },
};

pub(super) struct Structure<'g> {
    pub(super) graph: &'g GraphProto,
    pub(super) shapes: &'g Shapes,
    pub(super) links: &'g Links<'g>,
    pub(super) kinds: &'g Kinds<'g>,
    pub(super) sizes: &'g Sizes,
}

impl Structure<'_> {
    /// The chain, and the nodes of its units.
    pub(super) fn chain(&self, sets: &[Vec<usize>], weights: &Weights) -> (Chain, Vec<Vec<usize>>) {
        let bytes: Vec<u64> =
            (0..self.links.names.len()).map(|value| self.kinds.bytes(value, self.sizes)).collect();
        let found = self.ties(sets);
        let ordered = order(&found, &self.makers(sets), &bytes);
        let sets: Vec<Vec<usize>> = ordered.iter().map(|unit| sets[*unit].clone()).collect();
        let ties: Vec<Ties> = ordered.iter().map(|unit| found[*unit].clone()).collect();
        let makers = self.makers(&sets);
        let values = self.passing(&ties, &makers, &bytes);
        let mut units = self.units(&sets, weights);
        self.tell_structure(&mut units, &sets, &ties, &makers, &width(&values, sets.len()));
        (Chain { units, weights: weights.bytes.clone(), values }, sets)
    }

    /// What each set reads from outside itself, and what it makes.
    fn ties(&self, sets: &[Vec<usize>]) -> Vec<Ties> {
        let makers = self.makers(sets);
        let tie = |(unit, set): (usize, &Vec<usize>)| {
            let with_steady = self.links.with_steady(set);
            let read = with_steady.iter().flat_map(|node| &self.links.reads[*node]).copied();
            let outside = |value: &ValueId| match self.links.origins[*value] {
                Origin::Caller => true,
                Origin::Weight => false,
                Origin::Node(node) => makers[*value] != Some(unit) && !self.links.steady[node],
            };
            let mut reads: Vec<_> = read.filter(outside).collect();
            reads.sort_unstable();
            reads.dedup();
            let makes = set.iter().flat_map(|node| &self.links.makes[*node]).copied().collect();
            Ties { reads, makes }
        };
        sets.iter().enumerate().map(tie).collect()
    }

    /// The set that makes each value.
    fn makers(&self, sets: &[Vec<usize>]) -> Vec<Option<usize>> {
        let mut makers = vec![None; self.links.names.len()];
        for (unit, set) in sets.iter().enumerate() {
            for value in set.iter().flat_map(|node| &self.links.makes[*node]) {
                makers[*value] = Some(unit);
            }
        }
        makers
    }

    fn passing(&self, ties: &[Ties], makers: &[Option<usize>], bytes: &[u64]) -> Vec<Passing> {
        let mut readers = vec![Vec::new(); makers.len()];
        for (unit, ties) in ties.iter().enumerate() {
            ties.reads.iter().for_each(|value| readers[*value].push(unit as u32));
        }
        let mut values = Vec::new();
        for (value, mut to) in readers.into_iter().enumerate() {
            let output = self.links.outputs.contains(&value);
            let mut from = makers[value].map(|unit| unit as u32);
            if output && from.is_none() {
                // What is no node's comes out of the first unit.
                match self.links.origins[value] {
                    Origin::Caller if to.first() != Some(&0) => to.insert(0, 0),
                    Origin::Caller => {}
                    Origin::Weight | Origin::Node(_) => from = Some(0),
                }
            }
            if output || !to.is_empty() {
                let name = self.links.names[value].to_owned();
                values.push(Passing { name, from, to, output, bytes: bytes[value] as f64 });
            }
        }
        values
    }

    fn units(&self, sets: &[Vec<usize>], weights: &Weights) -> Vec<Unit> {
        let costs = of_graph(self.graph, self.shapes, self.shapes.version);
        let unit = |set: &Vec<usize>| {
            let first = &self.graph.node[set[0]];
            let name = if first.name.is_empty() { &first.op_type } else { &first.name };
            let flops = |node: &usize| self.at(costs[*node].flops.as_ref());
            let dearest = set.iter().copied().max_by(|a, b| flops(a).total_cmp(&flops(b)).then(b.cmp(a)));
            let used = weights.of(&self.links.with_steady(set), self.links);
            Unit {
                name: name.clone(),
                class: dearest.map_or(OperatorClass::Other, |node| class(&self.graph.node[node])),
                part: Part::Other,
                block: None,
                tower: None,
                share: None,
                flops: set.iter().map(flops).sum(),
                moved: set.iter().map(|node| self.moved(*node, &costs[*node])).sum(),
                weights: used,
            }
        };
        sets.iter().map(unit).collect()
    }

    fn moved(&self, node: usize, cost: &NodeCost) -> f64 {
        // Of a table only the rows that are asked for are read.
        let whole = !matches!(self.graph.node[node].op_type.as_str(), "Gather" | "GatherND");
        let weights = cost.weight_bytes.as_ref().filter(|_| whole);
        self.at(cost.activation_bytes.as_ref()) + self.at(weights)
    }

    /// What is not known counts as nothing.
    fn at(&self, expr: Option<&Expr>) -> f64 {
        expr.and_then(|expr| expr.at(self.sizes)).unwrap_or(0) as f64
    }

    fn tell_structure(
        &self,
        units: &mut [Unit],
        sets: &[Vec<usize>],
        ties: &[Ties],
        makers: &[Option<usize>],
        width: &[u64],
    ) {
        let parts = Parts::new(self.graph, self.links, self.kinds);
        let kinds: Vec<u64> = sets.iter().map(|set| self.kind(set)).collect();
        let heavy: Vec<bool> =
            sets.iter().map(|set| set.iter().any(|node| parts.is_weighted(*node))).collect();
        let blocks = blocks::blocks(&Row { kinds: &kinds, heavy: &heavy, width });
        let work: Vec<f64> = units.iter().map(|unit| unit.flops).collect();
        let towers = towers::towers(ties, &work, makers, &|value| self.kinds.is_small(value));
        for ((unit, block), tower) in units.iter_mut().zip(&blocks).zip(&towers) {
            (unit.block, unit.tower) = (*block, *tower);
        }
        let places = sets.iter().zip(&blocks).zip(&towers);
        let places: Vec<_> =
            places.map(|((nodes, block), tower)| Place { nodes, block: *block, tower: *tower }).collect();
        for (unit, part) in units.iter_mut().zip(parts.of(&places)) {
            unit.part = part;
        }
    }

    /// The same for nodes of the same operators with weights of the same shapes.
    fn kind(&self, set: &[usize]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for node in set {
            let found = &self.graph.node[*node];
            (&found.op_type, &found.domain, found.input.len(), found.output.len()).hash(&mut hasher);
            let shapes = &self.shapes.nodes[*node];
            let weights = shapes.inputs.iter().zip(&shapes.constant).filter(|(_, constant)| **constant);
            weights.for_each(|(value, _)| value.dims.hash(&mut hasher));
        }
        hasher.finish()
    }
}

/// Bytes under way before each unit, what the caller gives left out.
fn width(values: &[Passing], units: usize) -> Vec<u64> {
    let mut change = vec![0f64; units + 1];
    for value in values {
        if let (Some(from), Some(last)) = (value.from, value.to.last()) {
            change[from as usize + 1] += value.bytes;
            change[*last as usize + 1] -= value.bytes;
        }
    }
    let mut under_way = 0f64;
    let widths = change.into_iter().take(units).map(|change| {
        under_way += change;
        under_way.max(0.0) as u64
    });
    widths.collect()
}
