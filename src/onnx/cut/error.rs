//! Why a graph cannot be cut so.

use std::fmt;

use crate::onnx::{OnnxError, check::Name};

#[derive(Debug, thiserror::Error)]
pub enum CutError {
    #[error(transparent)]
    Model(#[from] OnnxError),
    #[error("the graph has no nodes that an output depends on, so there is nothing to cut")]
    Nothing,
    #[error("the size of {dimension} is not said, which input {input} has")]
    Size { input: Name, dimension: Name },
    #[error("{wanted} stages need {} frontiers, and the graph has {frontiers}{}", wanted - 1, held(held_by.as_ref()))]
    Stages { wanted: usize, frontiers: usize, held_by: Option<Bond> },
    #[error(
        "no stage may be empty, and stages come in order: {boundaries:?} are no frontiers of {units} units"
    )]
    Boundaries { boundaries: Vec<usize>, units: usize },
    #[error("the groups hold unit {unit} {times} times, and each unit belongs to one group")]
    Partition { unit: u32, times: usize },
    #[error("there is no unit {unit}: the chain has {units}")]
    Unit { unit: u32, units: usize },
    #[error("group {group} is empty")]
    EmptyGroup { group: usize },
    #[error("the groups need each other's values in a circle: {}", circle(groups))]
    Cyclic { groups: Vec<usize> },
    #[error("group {reader} reads {value}, which group {maker} makes after it; put group {maker} ahead")]
    Order { reader: usize, maker: usize, value: Name },
    #[error(
        "no two products with only elementwise work between them can be split {ways} ways: at least 2 ways are needed, \
         their weights in the model's own file, and a width that they divide"
    )]
    Ways { ways: usize },
    #[error("could not write the shard: {source}")]
    Write { source: std::io::Error },
}

/// Why the nodes on both sides of a value stay together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} {why}")]
pub struct Bond {
    pub value: Name,
    pub why: Uncarried,
}

/// Why a value cannot pass from one shard to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncarried {
    #[error("is a {kind}, which is no tensor")]
    Kind { kind: &'static str },
    #[error("is of a type that cannot be told; export the model with its inferred shapes")]
    Type,
    #[error("has element type {code}, which the protocol cannot carry")]
    Element { code: i32 },
    #[error("has dimensions whose number cannot be told; export the model with its inferred shapes")]
    Rank,
    #[error("is text, whose size is not known ahead")]
    Text,
    #[error("is of a size that cannot be told; export the model with its inferred shapes")]
    Size,
}

fn held(by: Option<&Bond>) -> impl fmt::Display {
    let told = by.map(|bond| format!("; nodes stay together where {bond}"));
    told.unwrap_or_default()
}

fn circle(groups: &[usize]) -> impl fmt::Display {
    groups.iter().map(usize::to_string).collect::<Vec<_>>().join(" -> ")
}
