//! Which nodes are never separated: those on both sides of a value that cannot be carried, and what computes a shape with
//! what reads it.

use super::{
    error::Bond,
    kinds::Kinds,
    links::{Links, ValueId},
    order::circles,
};
use crate::onnx::{check::Name, shapes::Sizes};

/// Sets of nodes, joined as reasons for that are found.
struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    fn find(&mut self, mut of: usize) -> usize {
        while self.parents[of] != of {
            self.parents[of] = self.parents[self.parents[of]];
            of = self.parents[of];
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

/// The placed nodes in sets, each ascending, in the order of their first nodes; and what held nodes together because it
/// cannot be carried.
pub(super) fn units(links: &Links<'_>, kinds: &Kinds<'_>, sizes: &Sizes) -> (Vec<Vec<usize>>, Vec<Bond>) {
    let count = links.reads.len();
    let placed: Vec<bool> = (0..count).map(|node| links.is_placed(node)).collect();
    let mut sets = Sets { parents: (0..count).collect() };
    let mut bonds = Vec::new();
    for value in 0..links.names.len() {
        let Some(maker) = links.maker(value).filter(|maker| placed[*maker] && !links.steady[*maker]) else {
            continue;
        };
        let mut readers = links.readers[value].iter().filter(|reader| placed[**reader]).peekable();
        if readers.peek().is_none() {
            continue;
        }
        if let Err(why) = kinds.carried(value, sizes) {
            readers.for_each(|reader| sets.join(maker, *reader));
            bonds.push(Bond { value: Name::new(links.names[value]), why });
        }
    }
    join_shapes(links, kinds, &placed, &mut sets);
    join_circles(links, &placed, &mut sets);
    (collect(&placed, &mut sets), bonds)
}

/// A node that makes a handful of whole numbers goes with their only reader, unless what it takes would have to be kept
/// longer for it: then with what makes that.
fn join_shapes(links: &Links<'_>, kinds: &Kinds<'_>, placed: &[bool], sets: &mut Sets) {
    let small = |value: &ValueId| kinds.is_small(*value);
    for node in (0..placed.len()).rev() {
        let makes = &links.makes[node];
        let wanted = makes.iter().any(|value| links.outputs.contains(value));
        if !placed[node] || wanted || !makes.iter().all(small) {
            continue;
        }
        let readers = makes.iter().flat_map(|value| &links.readers[*value]).copied();
        let readers: Vec<usize> = readers.filter(|reader| placed[*reader]).collect();
        let Some(first) = readers.first().copied() else { continue };
        let together = readers.iter().all(|reader| sets.find(*reader) == sets.find(first));
        let taken: Vec<_> = links.reads[node]
            .iter()
            .copied()
            .filter(|value| !links.is_steady(*value) && !small(value))
            .collect();
        let last = readers.iter().copied().max().unwrap_or(first);
        let kept = |value: &ValueId| links.readers[*value].iter().any(|reader| *reader >= last);
        if together && taken.iter().all(kept) {
            sets.join(node, first);
        } else if let ([value], [_]) = (taken.as_slice(), links.reads[node].as_slice())
            && let Some(maker) = links.maker(*value)
        {
            sets.join(node, maker);
        }
    }
}

/// Sets that would need each other's values become one.
fn join_circles(links: &Links<'_>, placed: &[bool], sets: &mut Sets) {
    let mut after = vec![Vec::new(); placed.len()];
    for reader in (0..placed.len()).filter(|node| placed[*node]) {
        for maker in links.reads[reader].iter().filter_map(|value| links.maker(*value)) {
            let (from, to) = (sets.find(maker), sets.find(reader));
            if placed[maker] && from != to {
                after[from].push(to);
            }
        }
    }
    for circle in circles(&after) {
        circle.windows(2).for_each(|pair| sets.join(pair[0], pair[1]));
    }
}

fn collect(placed: &[bool], sets: &mut Sets) -> Vec<Vec<usize>> {
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut numbers = vec![None; placed.len()];
    for node in (0..placed.len()).filter(|node| placed[*node]) {
        let set = sets.find(node);
        match numbers[set] {
            Some(unit) => {
                let unit: &mut Vec<usize> = &mut units[unit];
                unit.push(node);
            }
            None => {
                numbers[set] = Some(units.len());
                units.push(vec![node]);
            }
        }
    }
    units
}
