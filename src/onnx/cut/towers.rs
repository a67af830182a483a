//! Parts of a graph that do much of the work without each other's values, up to where they meet.

use super::order::Ties;

/// The share of a graph's work that makes a part worth a place of its own.
const SHARE: f64 = 0.1;

/// What is known of a unit so far.
#[derive(Clone, Copy)]
enum Side {
    /// Number of a part, of which several may have become one.
    Own(usize),
    Met,
}

/// The tower of each unit, the units in their order; none where there are not two, and where they have met.
///
/// `made` are the units that make each value, and `few` says of a value that it is a handful of whole numbers: shapes join
/// no towers.
pub(super) fn towers(
    units: &[Ties],
    work: &[f64],
    made: &[Option<usize>],
    few: &dyn Fn(usize) -> bool,
) -> Vec<Option<u32>> {
    let least = work.iter().sum::<f64>() * SHARE;
    let mut parts = Parts::default();
    let mut sides: Vec<Side> = Vec::with_capacity(units.len());
    for (unit, ties) in units.iter().enumerate() {
        let (mut own, mut beside, mut met) = (Vec::new(), Vec::new(), false);
        for (value, maker) in ties.reads.iter().filter_map(|value| Some((*value, made[*value]?))) {
            match sides[maker] {
                Side::Own(part) => {
                    let part = parts.find(part);
                    let light = parts.work[part] < least;
                    if few(value) && light { beside.push(part) } else { own.push(part) }
                }
                Side::Met => met = true,
            }
        }
        own.sort_unstable();
        own.dedup();
        let (heavy, light): (Vec<_>, Vec<_>) = own.into_iter().partition(|part| parts.work[*part] >= least);
        let side = match heavy.as_slice() {
            _ if met => Side::Met,
            [] => Side::Own(parts.joined(&light)),
            [only] => Side::Own(*only),
            _ => Side::Met,
        };
        match side {
            Side::Own(part) => {
                parts.work[part] += work[unit];
                // What is light goes with the first heavy one that reads it.
                let light = light.iter().filter(|_| !heavy.is_empty()).chain(&beside);
                light.filter(|light| **light != part).for_each(|light| parts.claims.push((*light, part)));
            }
            Side::Met => {}
        }
        sides.push(side);
    }
    number(&parts, &sides, least)
}

fn number(parts: &Parts, sides: &[Side], least: f64) -> Vec<Option<u32>> {
    let mut numbers: Vec<Option<u32>> = vec![None; parts.work.len()];
    let mut count = 0;
    for side in sides {
        let Side::Own(part) = side else { continue };
        let part = parts.find(*part);
        if parts.work[part] >= least && numbers[part].is_none() {
            numbers[part] = Some(count);
            count += 1;
        }
    }
    if count < 2 {
        return vec![None; sides.len()];
    }
    let heavy: Vec<bool> = numbers.iter().map(Option::is_some).collect();
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for (light, by) in &parts.claims {
            let (light, by) = (parts.find(*light), parts.find(*by));
            let Some(claimed) = numbers[by].filter(|_| !heavy[light]) else { continue };
            if numbers[light].is_none_or(|number| claimed < number) {
                numbers[light] = Some(claimed);
                changed = true;
            }
        }
    }
    let tower = |side: &Side| match side {
        Side::Own(part) => numbers[parts.find(*part)],
        Side::Met => None,
    };
    sides.iter().map(tower).collect()
}

#[derive(Default)]
struct Parts {
    parents: Vec<usize>,
    work: Vec<f64>,
    /// A light part, and one that reads it.
    claims: Vec<(usize, usize)>,
}

impl Parts {
    fn find(&self, mut of: usize) -> usize {
        while self.parents[of] != of {
            of = self.parents[of];
        }
        of
    }

    /// One part of several, or a new one of none.
    fn joined(&mut self, parts: &[usize]) -> usize {
        let Some((first, others)) = parts.split_first() else {
            self.parents.push(self.work.len());
            self.work.push(0.0);
            return self.work.len() - 1;
        };
        for other in others {
            self.parents[*other] = *first;
            self.work[*first] += std::mem::take(&mut self.work[*other]);
        }
        *first
    }
}
