//! Requests of one model in one step: their inputs joined along the first axis, its outputs cut into theirs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Body, Datatype, Tensor};

/// How a model's requests share steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Batching {
    /// Rows of a step at most; 1 leaves every request to itself.
    pub max: u32,
    /// How long a request may wait for others while a lane is free. With 0 only what waits anyway is joined.
    #[serde(with = "humantime_serde")]
    #[schema(value_type = String)]
    pub delay: Duration,
    /// Why requests never share a step; absent once it is proven that they can.
    pub barred: Option<String>,
}

impl Batching {
    /// On one CPU thread magika takes as long per row in a step of 8 as alone, and an eighth longer in one of 16; what is
    /// won up to there is the cost of a step itself, and what a GPU does at once.
    pub const MAX: u32 = 8;
    /// No model gains from more, and an activation of so many rows must still fit a lane.
    pub const MAX_MOST: u32 = 1024;
    /// Beyond it a wait is no delay but a timeout.
    pub const DELAY_MOST: Duration = Duration::from_secs(10);

    /// With the usual limits, and barred for this reason.
    pub fn barred(reason: impl Into<String>) -> Self {
        Self { max: Self::MAX, delay: Duration::ZERO, barred: Some(reason.into()) }
    }
}

/// Rows of a request whose inputs all begin with the batch's dimension.
pub fn rows(inputs: &[Tensor]) -> u64 {
    inputs.first().and_then(|tensor| tensor.shape.first()).copied().unwrap_or(0)
}

/// The inputs of several requests as those of one, in the order of the first; nothing is copied.
/// The caller has checked that they are alike: the same names, datatypes and shapes beyond the first axis.
pub fn join(requests: &[&[Tensor]]) -> Vec<Tensor> {
    let Some((first, others)) = requests.split_first() else { return Vec::new() };
    let joined = |tensor: &Tensor| {
        let mut joined = tensor.clone();
        let same = others.iter().flat_map(|inputs| inputs.iter().filter(|other| other.name == tensor.name));
        for other in same {
            joined.body.append(&other.body);
            joined.shape[0] += other.shape[0];
        }
        joined
    };
    first.iter().map(joined).collect()
}

/// Cuts a step's outputs into those of its requests, which have so many rows each; nothing is copied.
pub fn split(outputs: &[Tensor], rows: &[u64]) -> Result<Vec<Vec<Tensor>>, String> {
    let mut parts: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for output in outputs {
        for (part, tensor) in parts.iter_mut().zip(cut(output, rows)?) {
            part.push(tensor);
        }
    }
    Ok(parts)
}

fn cut(output: &Tensor, rows: &[u64]) -> Result<Vec<Tensor>, String> {
    let total: u64 = rows.iter().sum();
    if output.shape.first() != Some(&total) {
        return Err(format!(
            "output {:?} of a step of {total} rows has shape {:?}",
            output.name, output.shape
        ));
    }
    output.check().map_err(|error| format!("output {:?}: {error}", output.name))?;
    let ends = row_ends(output, total);
    let (mut from, mut row) = (0, 0);
    let part = |count: &u64| {
        row += *count as usize;
        let end = if row == 0 { 0 } else { ends(row) };
        let mut shape = output.shape.clone();
        shape[0] = *count;
        let body: Body = output.body.slice(from, end - from);
        from = end;
        Tensor { name: output.name.clone(), datatype: output.datatype, shape, body }
    };
    Ok(rows.iter().map(part).collect())
}

/// Where the first so many rows of a checked tensor end.
fn row_ends(output: &Tensor, total: u64) -> impl Fn(usize) -> usize {
    let total = (total as usize).max(1);
    let mut text_ends = Vec::new();
    if output.datatype == Datatype::Bytes {
        let bytes = output.body.contiguous();
        let mut end = 0;
        while let Some(length) = bytes.get(end..).and_then(|rest| rest.first_chunk::<4>()) {
            end += 4 + u32::from_le_bytes(*length) as usize;
            text_ends.push(end);
        }
    }
    let (texts_per_row, row_bytes) = (text_ends.len() / total, output.body.len() / total);
    let texts = output.datatype == Datatype::Bytes;
    move |row| match row * texts_per_row {
        0 if texts => 0,
        count if texts => text_ends[count - 1],
        _ => row * row_bytes,
    }
}

#[cfg(test)]
mod tests;
