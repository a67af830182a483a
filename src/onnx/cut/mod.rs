//! Cuts a graph into shards: whole models that run by themselves, each with the weights that it reads and no others.
//!
//! A graph becomes a [`Chain`] of units in an order that is good to split, and any range or set of units a shard. Every value
//! that is read on the other side of a cut is an output of one shard and an input of others, however many there are.
//! What is made of weights alone never crosses: each shard that needs it makes it again. No weight is copied before a
//! shard is written.

mod blocks;
mod class;
mod error;
mod glue;
mod groups;
mod half;
mod kinds;
mod links;
mod order;
mod parts;
mod shard;
mod structure;
mod tensor;
mod towers;
mod weights;

use bytes::Bytes;

pub use self::{
    error::{Bond, CutError, Uncarried},
    shard::{Piece, Shard},
};
use self::{kinds::Kinds, links::Links, structure::Structure, weights::Weights};
use super::{
    OnnxError, Outside, analyse,
    check::{Name, check},
    proto::{GraphProto, ModelProto, ValueInfoProto},
    read::decode,
    shapes::{self, Sizes, declared},
};
use crate::domain::{Chain, Digest};

/// A model that can be cut.
pub struct Whole {
    digest: Digest,
    /// Without its graph.
    model: ModelProto,
    graph: GraphProto,
    chain: Chain,
    /// The nodes of each unit, ascending, with those of weights alone that it needs.
    units: Vec<Vec<usize>>,
    /// What holds nodes together that might have been cut apart.
    bonds: Vec<Bond>,
    /// What shards declare of the values that pass between them: the values of the chain, in its order.
    declared: Vec<ValueInfoProto>,
    /// In how many ways its products were split before.
    ways: Option<usize>,
    /// Whether values pass in half precision where they may; then they are declared so, under other names.
    half: bool,
}

impl Whole {
    /// Reads the model that has this digest; `sizes` are those of the inputs' dimensions by name, a dimension without a name
    /// being called by its place, as `x[0]`. Weights beside the model stay where they are.
    pub fn read(file: &Bytes, digest: Digest, sizes: &Sizes) -> Result<Self, CutError> {
        let (model, graph) = decode(file)?;
        // Any weight lies within a file of this size.
        check(&model, &graph, &|_| Outside::Bytes(u64::MAX)).map_err(OnnxError::from)?;
        analyse(file)?;
        Self::of(model, graph, digest, sizes)
    }

    fn of(model: ModelProto, graph: GraphProto, digest: Digest, sizes: &Sizes) -> Result<Self, CutError> {
        said(&graph, sizes)?;
        let (shapes, exact) = (shapes::infer(&model, &graph), shapes::infer_at(&model, &graph, sizes));
        let links = Links::new(&graph);
        let kinds = Kinds::new(&graph, [&shapes, &exact], &links, sizes);
        let (units, bonds) = glue::units(&links, &kinds, sizes);
        if units.is_empty() {
            return Err(CutError::Nothing);
        }
        let weights = Weights::new(&graph, &links);
        let structure = Structure { graph: &graph, shapes: &exact, links: &links, kinds: &kinds, sizes };
        let (chain, units) = structure.chain(&units, &weights);
        let units = units.iter().map(|unit| links.with_steady(unit)).collect();
        let declaration = |name: &str| kinds.declaration(links.number(name).unwrap_or_default(), name);
        let declared = chain.values.iter().map(|value| declaration(&value.name)).collect();
        Ok(Self { digest, model, graph, chain, units, bonds, declared, ways: None, half: false })
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// In how many ways its products were split before it was cut.
    pub fn ways(&self) -> Option<usize> {
        self.ways
    }

    /// Values that cannot pass from one shard to another, so that the nodes on both sides of each stay together.
    pub fn bonds(&self) -> &[Bond] {
        &self.bonds
    }
}

/// Every dimension of what the caller gives has a size.
fn said(graph: &GraphProto, sizes: &Sizes) -> Result<(), CutError> {
    let weights: std::collections::HashSet<_> = links::weights(graph).collect();
    for input in graph.input.iter().filter(|input| !weights.contains(input.name.as_str())) {
        let dims = declared(input).dims.unwrap_or_default();
        if let Some(dim) = dims.into_iter().flatten().find(|dim| dim.at(sizes).is_none()) {
            let (input, dimension) = (Name::new(&input.name), Name::new(&dim.to_string()));
            return Err(CutError::Size { input, dimension });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
