//! What each unit is in the structure of a model: embedding, attention, feed-forward, head.

use std::collections::HashSet;

use super::{class::class, kinds::Kinds, links::Links};
use crate::{
    domain::{OperatorClass, Part},
    onnx::proto::GraphProto,
};

/// Nodes between a product and what belongs to it: scales, masks, rotations, transpositions, a bias.
const NEAR: usize = 24;

/// One unit of the order.
pub(super) struct Place<'u> {
    pub(super) nodes: &'u [usize],
    pub(super) block: Option<u32>,
    pub(super) tower: Option<u32>,
}

/// What decides of the units around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Attention,
    Weighted,
}

pub(super) struct Parts<'g> {
    graph: &'g GraphProto,
    links: &'g Links<'g>,
    kinds: &'g Kinds<'g>,
}

impl<'g> Parts<'g> {
    pub(super) fn new(graph: &'g GraphProto, links: &'g Links<'g>, kinds: &'g Kinds<'g>) -> Self {
        Self { graph, links, kinds }
    }

    /// Whether a node multiplies by weights.
    pub(super) fn is_weighted(&self, node: usize) -> bool {
        self.is_product(node)
            && self.links.reads[node].iter().take(2).any(|value| self.links.is_steady(*value))
    }

    /// In the order of the places.
    pub(super) fn of(&self, places: &[Place<'_>]) -> Vec<Part> {
        let attention = self.attention();
        let anchors: Vec<_> = places.iter().map(|place| self.anchor(place, &attention)).collect();
        let mut parts = vec![Part::Other; places.len()];
        for run in runs(places) {
            if run.clone().any(|at| anchors[at] == Some(Anchor::Attention)) {
                self.segment(places, &anchors, run, &mut parts);
            } else {
                parts[run].fill(Part::Block);
            }
        }
        for (at, anchor) in anchors.iter().enumerate() {
            if places[at].block.is_none() && *anchor == Some(Anchor::Attention) {
                parts[at] = Part::Attention;
            }
        }
        self.ends(places, &anchors, &mut parts);
        parts
    }

    fn is_product(&self, node: usize) -> bool {
        let node = &self.graph.node[node];
        class(node) == OperatorClass::MatMul || node.op_type == "Conv"
    }

    /// Whether a node multiplies two values.
    fn is_mixing(&self, node: usize) -> bool {
        self.is_product(node) && !self.is_weighted(node)
    }

    fn anchor(&self, place: &Place<'_>, attention: &HashSet<usize>) -> Option<Anchor> {
        if place.nodes.iter().any(|node| attention.contains(node)) {
            return Some(Anchor::Attention);
        }
        place.nodes.iter().any(|node| self.is_weighted(*node)).then_some(Anchor::Weighted)
    }

    /// The nodes of every attention, from what projects into it to what projects out of it.
    fn attention(&self) -> HashSet<usize> {
        let mut all = HashSet::new();
        for (at, node) in self.graph.node.iter().enumerate() {
            if class(node) == OperatorClass::Attention {
                all.extend(self.around(&[at], &[at]));
            } else if node.op_type == "Softmax" {
                let mixing =
                    |near: Near| near.ends.into_iter().filter(|end| self.is_mixing(*end)).collect::<Vec<_>>();
                let (scores, sums) = (mixing(self.near(&[at], false)), mixing(self.near(&[at], true)));
                if !scores.is_empty() && !sums.is_empty() {
                    all.insert(at);
                    all.extend(self.near(&[at], false).between);
                    all.extend(self.around(&[scores.clone(), sums.clone()].concat(), &sums));
                }
            }
        }
        all
    }

    /// These nodes, and those up to the products with weights before all and after the last of them.
    fn around(&self, core: &[usize], last: &[usize]) -> HashSet<usize> {
        let (before, after) = (self.near(core, false), self.near(last, true));
        let weighted = |ends: Vec<usize>| ends.into_iter().filter(|end| self.is_weighted(*end));
        core.iter()
            .copied()
            .chain(before.between)
            .chain(weighted(before.ends))
            .chain(after.between)
            .chain(weighted(after.ends))
            .collect()
    }

    /// Goes from nodes to those before or after them, up to the next products.
    fn near(&self, from: &[usize], after: bool) -> Near {
        let mut near = Near::default();
        let mut met: HashSet<usize> = from.iter().copied().collect();
        let mut open = from.to_vec();
        while let Some(node) = open.pop().filter(|_| near.between.len() < NEAR) {
            for next in self.neighbours(node, after) {
                if self.links.steady[next] || !met.insert(next) {
                    continue;
                }
                if self.is_product(next) {
                    near.ends.push(next);
                } else if !self.is_sum(next) {
                    near.between.push(next);
                    open.push(next);
                }
            }
        }
        near
    }

    /// The nodes right after or before one; what computes shapes is none of them.
    fn neighbours(&self, node: usize, after: bool) -> Vec<usize> {
        let values = if after { &self.links.makes[node] } else { &self.links.reads[node] };
        let values = values.iter().filter(|value| !self.kinds.is_small(**value));
        if after {
            values.flat_map(|value| &self.links.readers[*value]).copied().collect()
        } else {
            values.filter_map(|value| self.links.maker(*value)).collect()
        }
    }

    /// Whether a product is added to what was kept beside it, as at the end of what a layer adds to its input.
    fn is_sum(&self, node: usize) -> bool {
        let reads = &self.links.reads[node];
        let product = |value: &usize| {
            let mut maker = self.links.maker(*value);
            // Straight back from the value, through what changes it alone.
            for _ in 0..NEAR {
                let Some(at) = maker else { break };
                if self.is_product(at) {
                    return self.is_weighted(at);
                }
                let mut dynamic = self.links.reads[at].iter().filter(|value| !self.links.is_steady(**value));
                let (Some(only), None) = (dynamic.next(), dynamic.next()) else { break };
                maker = self.links.maker(*only);
            }
            false
        };
        let kept = |value: &usize| self.links.readers[*value].len() > 1;
        match reads.as_slice() {
            [a, b] if self.graph.node[node].op_type == "Add" => {
                let dynamic = !self.links.is_steady(*a) && !self.links.is_steady(*b);
                dynamic && (product(a) && kept(b) || product(b) && kept(a))
            }
            _ => false,
        }
    }

    /// Within a block: everything up to an anchor belongs to it, and what follows up to where its result is added.
    fn segment(
        &self,
        places: &[Place<'_>],
        anchors: &[Option<Anchor>],
        run: std::ops::Range<usize>,
        parts: &mut [Part],
    ) {
        let part = |anchor: Anchor| match anchor {
            Anchor::Attention => Part::Attention,
            Anchor::Weighted => Part::FeedForward,
        };
        let mut last: Option<Part> = None;
        let mut added = true;
        for at in run.clone() {
            if let Some(anchor) = anchors[at] {
                (last, added) = (Some(part(anchor)), false);
            }
            let next = anchors[at..run.end].iter().flatten().next().copied().map(part);
            parts[at] = if added { next.or(last) } else { last }.unwrap_or(Part::Block);
            added |= places[at].nodes.iter().any(|node| self.is_sum(*node));
        }
    }

    /// What lies before the first and behind the last block of each tower.
    fn ends(&self, places: &[Place<'_>], anchors: &[Option<Anchor>], parts: &mut [Part]) {
        let towers: HashSet<_> = places.iter().map(|place| place.tower).collect();
        for tower in towers {
            let own = || (0..places.len()).filter(|at| places[*at].tower == tower);
            let inner = |at: &usize| matches!(parts[*at], Part::Attention | Part::FeedForward | Part::Block);
            let (first, last) = (own().find(inner), own().rfind(inner));
            let transformer = own().any(|at| parts[at] == Part::Attention);
            let looks_up = |at: usize| places[at].nodes.iter().any(|node| self.looks_up(*node));
            let mut embedding = false;
            for at in own().filter(|at| first.is_none_or(|first| *at < first)) {
                embedding |= transformer && anchors[at].is_some();
                embedding |= looks_up(at);
                if embedding && (transformer || looks_up(at)) {
                    parts[at] = Part::Embedding;
                }
            }
            let product = |at: &usize| {
                places[*at].nodes.iter().any(|node| {
                    class(&self.graph.node[*node]) == OperatorClass::MatMul && self.is_weighted(*node)
                })
            };
            let behind = own().filter(|at| last.is_none_or(|last| *at > last));
            // The last products of a graph of convolutions are its head.
            let head = if transformer { last.map(|last| last + 1) } else { behind.clone().rfind(product) };
            for at in behind.filter(|at| head.is_some_and(|head| *at >= head)) {
                parts[at] = Part::Head;
            }
        }
    }

    /// Whether a node takes rows out of a table of weights.
    fn looks_up(&self, node: usize) -> bool {
        let found = &self.graph.node[node];
        let table = found.input.first().and_then(|name| self.links.number(name));
        let rows = found.input.get(1).and_then(|name| self.links.number(name));
        found.op_type == "Gather"
            && table.is_some_and(|value| self.links.is_steady(value))
            && rows.is_some_and(|value| !self.links.is_steady(value))
    }
}

/// What lies before or behind a node.
#[derive(Default)]
struct Near {
    between: Vec<usize>,
    /// The products that it ends at.
    ends: Vec<usize>,
}

/// The places of each block.
fn runs(places: &[Place<'_>]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, place) in places.iter().enumerate().filter(|(_, place)| place.block.is_some()) {
        match runs.last_mut() {
            Some(run) if run.end == at && places[run.start].block == place.block => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}
