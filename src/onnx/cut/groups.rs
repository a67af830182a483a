//! Which units make a shard: ranges of the chain, or any groups that do not need each other in a circle.

use super::{CutError, Shard, Whole, order::circles};
use crate::onnx::check::Name;

impl Whole {
    /// Cuts before the units of these numbers, which ascend: as many shards as there are of them, and one more.
    pub fn at(&self, boundaries: &[usize]) -> Result<Vec<Shard<'_>>, CutError> {
        let units = self.units.len();
        if boundaries.len() >= units {
            let (wanted, held_by) = (boundaries.len() + 1, self.bonds.first().cloned());
            return Err(CutError::Stages { wanted, frontiers: units - 1, held_by });
        }
        let ends = [&[0], boundaries, &[units]].concat();
        if ends.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(CutError::Boundaries { boundaries: boundaries.to_vec(), units });
        }
        let range = |pair: &[usize]| (pair[0] as u32..pair[1] as u32).collect();
        Ok(self.shards(&ends.windows(2).map(range).collect::<Vec<_>>()))
    }

    /// A shard of each group of units, in an order in which they can run.
    pub fn groups(&self, groups: &[Vec<u32>]) -> Result<Vec<Shard<'_>>, CutError> {
        let of = self.partition(groups)?;
        let mut after = vec![Vec::new(); groups.len()];
        let mut disordered = None;
        for value in &self.chain.values {
            let Some(maker) = value.from.map(|unit| of[unit as usize]) else { continue };
            for reader in value.to.iter().map(|unit| of[*unit as usize]).filter(|reader| *reader != maker) {
                after[maker].push(reader);
                if reader < maker && disordered.is_none() {
                    disordered = Some(CutError::Order { reader, maker, value: Name::new(&value.name) });
                }
            }
        }
        if let Some(circle) = circles(&after).first() {
            return Err(CutError::Cyclic { groups: path(&after, circle) });
        }
        disordered.map_or_else(|| Ok(self.shards(groups)), Err)
    }

    /// The group of each unit.
    fn partition(&self, groups: &[Vec<u32>]) -> Result<Vec<usize>, CutError> {
        let units = self.units.len();
        let mut of: Vec<Vec<usize>> = vec![Vec::new(); units];
        for (group, members) in groups.iter().enumerate() {
            if members.is_empty() {
                return Err(CutError::EmptyGroup { group });
            }
            for unit in members {
                let found = of.get_mut(*unit as usize).ok_or(CutError::Unit { unit: *unit, units })?;
                found.push(group);
            }
        }
        let one = |(unit, groups): (usize, Vec<usize>)| match groups.as_slice() {
            [group] => Ok(*group),
            others => Err(CutError::Partition { unit: unit as u32, times: others.len() }),
        };
        of.into_iter().enumerate().map(one).collect()
    }

    fn shards(&self, groups: &[Vec<u32>]) -> Vec<Shard<'_>> {
        let mut owners = vec![0; self.units.len()];
        for (group, members) in groups.iter().enumerate() {
            for unit in members {
                owners[*unit as usize] = group;
            }
        }
        groups.iter().enumerate().map(|(group, members)| Shard::new(self, members, group, &owners)).collect()
    }
}

/// A way round through some of those that lead to each other, the first repeated at the end.
fn path(after: &[Vec<usize>], circle: &[usize]) -> Vec<usize> {
    let mut path: Vec<usize> = circle.iter().copied().min().into_iter().collect();
    while let Some(last) = path.last() {
        let next = after[*last].iter().copied().filter(|next| circle.contains(next)).min();
        let Some(next) = next else { break };
        if let Some(from) = path.iter().position(|met| *met == next) {
            path.drain(..from);
            path.push(next);
            break;
        }
        path.push(next);
    }
    path
}
