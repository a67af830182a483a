//! Whether requests that share a step get what each would get alone.

use super::compare;
use crate::domain::{Signature, Tensor, Tolerance, VerdictStatus, rows, split};

/// The gate's inputs that can be joined with its first, that one included; `None` when the model has no axis to join
/// along, or there are no two such inputs.
pub fn alike(signature: &Signature, sets: &[Vec<Tensor>]) -> Option<Vec<usize>> {
    signature.batch_symbol()?;
    let beyond = |set: &[Tensor]| -> Vec<(String, Vec<u64>)> {
        let mut beyond: Vec<_> =
            set.iter().map(|tensor| (tensor.name.clone(), tensor.shape[1..].to_vec())).collect();
        beyond.sort();
        beyond
    };
    let first = beyond(sets.first()?);
    let alike = sets.iter().enumerate().filter(|(_, set)| rows(set) > 0 && beyond(set) == first);
    let alike: Vec<_> = alike.map(|(at, _)| at).collect();
    (alike.len() > 1).then_some(alike)
}

/// Why a shared step's outputs do not show that these requests may share one, if so; `alone` has what each is to get.
pub fn shared_barred(
    sets: &[Vec<Tensor>],
    alone: &[Vec<Tensor>],
    shared: &[Tensor],
    tolerance: Tolerance,
) -> Option<String> {
    let counts: Vec<_> = sets.iter().map(|set| rows(set)).collect();
    let parts = match split(shared, &counts) {
        Ok(parts) => parts,
        Err(problem) => return Some(problem),
    };
    let verdict = compare(alone, &parts, tolerance);
    (verdict.status != VerdictStatus::Verified).then_some(verdict.detail)
}
