//! What every contiguous stage carries and holds: bytes in, bytes out and bytes of weights, between any two cuts.

use std::ops::Range;

use super::step::{Scene, StepCost};
use crate::domain::{Chain, Unit};

/// What sums of shares may miss.
const ROUNDING: f64 = 1e-9;

/// Stages between cuts: `from` and `to` are places in `cuts`, and `to` is the larger.
pub(super) struct Table {
    /// Units before each cut; the first is none and the last all.
    pub(super) cuts: Vec<usize>,
    /// Where the stages of each `from` begin in the three below; they are in the order of their ends.
    starts: Vec<usize>,
    bytes_in: Vec<f64>,
    bytes_out: Vec<f64>,
    weight_bytes: Vec<f64>,
    /// Microseconds of all units before each cut, per lane.
    spent: Vec<Vec<f64>>,
    /// The share of all work that lies before each cut.
    done: Vec<f64>,
    /// The share of all work that a stage may have at least.
    least: f64,
}

impl Table {
    /// Between these cuts, ascending from none of the units to all.
    pub(super) fn new(scene: &Scene<'_>, cuts: Vec<usize>, least: f64) -> Self {
        let stages = cuts.len() - 1;
        let cells = stages * (stages + 1) / 2;
        let mut table = Self {
            starts: Vec::with_capacity(stages),
            bytes_in: Vec::with_capacity(cells),
            bytes_out: Vec::with_capacity(cells),
            weight_bytes: Vec::with_capacity(cells),
            spent: scene.unit_us.iter().map(|unit_us| sums(unit_us, &cuts)).collect(),
            done: sums(&shares(scene.chain), &cuts),
            least,
            cuts,
        };
        let uses = Uses::of(scene.chain);
        for from in 0..stages {
            table.starts.push(table.bytes_in.len());
            table.append(scene.chain, &uses, from);
        }
        table
    }

    /// Whether a stage has as much work as it must.
    pub(super) fn is_enough(&self, from: usize, to: usize) -> bool {
        self.done[to] - self.done[from] >= self.least - ROUNDING
    }

    /// Stages that it can be cut into at most.
    pub(super) fn stages(&self) -> usize {
        self.cuts.len() - 1
    }

    /// Places of the stages that begin at a cut, among all stages in the order of their beginnings.
    pub(super) fn cells(&self, from: usize) -> Range<usize> {
        self.starts[from]..self.starts[from] + self.stages() - from
    }

    pub(super) fn cell(&self, from: usize, to: usize) -> usize {
        self.starts[from] + to - from - 1
    }

    /// Bytes of weights of the stages that begin at a cut, by their ends.
    pub(super) fn weight_bytes(&self, from: usize) -> &[f64] {
        &self.weight_bytes[self.cells(from)]
    }

    pub(super) fn step(&self, scene: &Scene<'_>, lane: usize, from: usize, to: usize) -> StepCost {
        let cell = self.cell(from, to);
        let units_us = self.spent[lane][to] - self.spent[lane][from];
        scene.step(lane, units_us, self.bytes_in[cell], self.bytes_out[cell])
    }

    /// The stages that begin at a cut, each made of the one before by adding units.
    fn append(&mut self, chain: &Chain, uses: &Uses, from: usize) {
        let first = self.cuts[from] as u32;
        let (mut into, mut out, mut held) = (0.0, 0.0, 0.0);
        for to in from + 1..self.cuts.len() {
            for unit in self.cuts[to - 1]..self.cuts[to] {
                // What was not yet needed since the stage's first unit is new to it.
                for (weight, before) in uses.weights.of(unit) {
                    if before.is_none_or(|before| before < first) {
                        held += chain.weights[weight as usize] as f64;
                    }
                }
                for (value, before) in uses.reads.of(unit) {
                    let value = &chain.values[value as usize];
                    let made_here = value.from.is_some_and(|from| from >= first);
                    if !made_here && before.is_none_or(|before| before < first) {
                        into += value.bytes;
                    }
                    // Its last reader is within the stage now.
                    if made_here && !value.output && value.to.last() == Some(&(unit as u32)) {
                        out -= value.bytes;
                    }
                }
                for (value, _) in uses.makes.of(unit) {
                    let value = &chain.values[value as usize];
                    if value.output || !value.to.is_empty() {
                        out += value.bytes;
                    }
                }
            }
            self.bytes_in.push(into);
            // Sums of what was added and taken away again may miss zero.
            self.bytes_out.push(f64::max(out, 0.0));
            self.weight_bytes.push(held);
        }
    }
}

fn sums(unit_us: &[f64], cuts: &[usize]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut spent = vec![0.0];
    for ends in cuts.windows(2) {
        sum += unit_us[ends[0]..ends[1]].iter().sum::<f64>();
        spent.push(sum);
    }
    spent
}

/// For each unit, numbers of what it uses, each with the unit that used it before.
struct Lists {
    starts: Vec<usize>,
    entries: Vec<(u32, Option<u32>)>,
}

impl Lists {
    /// From (unit, number, used before by).
    fn new(units: usize, uses: &[(u32, u32, Option<u32>)]) -> Self {
        let mut starts = vec![0; units + 1];
        for (unit, ..) in uses {
            starts[*unit as usize + 1] += 1;
        }
        for unit in 0..units {
            starts[unit + 1] += starts[unit];
        }
        let mut next = starts.clone();
        let mut entries = vec![(0, None); uses.len()];
        for (unit, number, before) in uses {
            entries[next[*unit as usize]] = (*number, *before);
            next[*unit as usize] += 1;
        }
        Self { starts, entries }
    }

    fn of(&self, unit: usize) -> impl Iterator<Item = (u32, Option<u32>)> {
        self.entries[self.starts[unit]..self.starts[unit + 1]].iter().copied()
    }
}

struct Uses {
    weights: Lists,
    reads: Lists,
    makes: Lists,
}

impl Uses {
    fn of(chain: &Chain) -> Self {
        let units = chain.units.len();
        let mut used_by: Vec<Option<u32>> = vec![None; chain.weights.len()];
        let mut weights = Vec::new();
        for (at, unit) in chain.units.iter().enumerate() {
            for weight in &unit.weights {
                let before = used_by[*weight as usize].replace(at as u32);
                if before != Some(at as u32) {
                    weights.push((at as u32, *weight, before));
                }
            }
        }
        let (mut reads, mut makes) = (Vec::new(), Vec::new());
        for (number, value) in chain.values.iter().enumerate() {
            makes.extend(value.from.map(|unit| (unit, number as u32, None)));
            let mut before = None;
            for reader in &value.to {
                reads.push((*reader, number as u32, before));
                before = Some(*reader);
            }
        }
        Self {
            weights: Lists::new(units, &weights),
            reads: Lists::new(units, &reads),
            makes: Lists::new(units, &makes),
        }
    }
}

/// Bytes that pass each cut, by the number of units before it.
fn crossing(chain: &Chain) -> Vec<f64> {
    let mut change = vec![0.0; chain.units.len() + 1];
    for value in &chain.values {
        let Some(last) = value.to.last() else { continue };
        // What the caller gives is sent to whoever reads it, wherever the cut is.
        if let Some(from) = value.from {
            change[from as usize + 1] += value.bytes;
            change[*last as usize + 1] -= value.bytes;
        }
    }
    let mut bytes = 0.0;
    change
        .into_iter()
        .map(|change| {
            bytes += change;
            bytes
        })
        .collect()
}

/// Each unit's share of all work, whatever the lanes. A unit counts for its number as well, so that units without work are
/// spread too.
fn shares(chain: &Chain) -> Vec<f64> {
    let work = |unit: &Unit| unit.flops + unit.moved;
    let total: f64 = chain.units.iter().map(work).sum();
    let share = |unit| 0.5 * work(unit) / total.max(f64::MIN_POSITIVE) + 0.5 / chain.units.len() as f64;
    chain.units.iter().map(share).collect()
}

/// All cuts of a chain, or if there are more, so many: in each of as many spans of about the same work, the narrowest.
pub(super) fn narrowest(chain: &Chain, stages_most: usize) -> Vec<usize> {
    let units = chain.units.len();
    if units <= stages_most {
        return (0..=units).collect();
    }
    let (crossing, shares) = (crossing(chain), shares(chain));
    let mut cuts = vec![0];
    let (mut before, mut span, mut narrowest) = (0.0, 0, None::<usize>);
    for (at, share) in shares.iter().enumerate().take(units - 1) {
        before += share;
        let cut = at + 1;
        let in_span = (before * (stages_most - 1) as f64) as usize;
        if in_span > span {
            cuts.extend(narrowest.take());
            span = in_span;
        }
        if narrowest.is_none_or(|best| crossing[cut] < crossing[best]) {
            narrowest = Some(cut);
        }
    }
    cuts.extend(narrowest);
    cuts.push(units);
    cuts
}
