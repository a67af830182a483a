//! The best sequence of contiguous stages, by dynamic programme.
//!
//! A state is what has been given a stage so far: which lanes, or how far in an order of them. For every state and cut
//! the least cost of the units before that cut is kept, so all splits that the states allow are compared.

use super::{step::Scene, table::Table};

/// Lanes that share a stage, as kinds of lane and how many of each.
pub(super) type Group = Vec<(usize, usize)>;

/// One more stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// In [`Graph::groups`].
    pub(super) group: usize,
}

/// Which lanes may follow each other. State 0 has no stage yet, and edges lead to later states only.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) groups: Vec<Group>,
    pub(super) edges: Vec<Edge>,
    /// States that are reached from others without a stage, in the order of the states that they leave.
    pub(super) skips: Vec<(usize, usize)>,
    /// States in which a split may end.
    pub(super) ends: Vec<usize>,
    pub(super) states: usize,
}

/// What is least in the best split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Least {
    /// The sum of the stages' latencies, none of their periods being longer than this.
    Latency { period_most: f64 },
    /// The longest period.
    Period,
    /// What the lane that lacks most memory lacks.
    Missing,
}

/// Stages in their order: where each ends among the cuts, and its group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sequence {
    pub(super) cost: f64,
    /// The longest of its stages' periods.
    pub(super) period: f64,
    pub(super) stages: Vec<(usize, Group)>,
}

pub(super) struct Programme<'a> {
    table: &'a Table,
    graph: &'a Graph,
    /// Of every stage that the table has, per group.
    costs: Vec<Costs>,
}

/// Endless where weights do not fit, and where a stage would have too little to do.
struct Costs {
    latency: Vec<f64>,
    period: Vec<f64>,
    /// Bytes of weights that each of the group's lanes holds.
    memory: f64,
}

impl<'a> Programme<'a> {
    /// `kinds` are lanes that are alike.
    pub(super) fn new(scene: &Scene<'_>, table: &'a Table, kinds: &[Vec<usize>], graph: &'a Graph) -> Self {
        let alone: Vec<_> = kinds.iter().map(|kind| alone(scene, table, kind[0])).collect();
        let costs = graph.groups.iter().map(|group| together(&alone, group)).collect();
        Self { table, graph, costs }
    }

    /// The best split, if any fits.
    pub(super) fn solve(&self, least: Least) -> Option<Sequence> {
        let cuts = self.table.stages();
        let mut best = vec![vec![f64::INFINITY; cuts + 1]; self.graph.states];
        best[0][0] = 0.0;
        for from in 0..cuts {
            self.skip(&mut best, from);
            let cells = self.table.cells(from);
            for edge in &self.graph.edges {
                let before = best[edge.from][from];
                if before == f64::INFINITY {
                    continue;
                }
                let costs = &self.costs[edge.group];
                let best = &mut best[edge.to][from + 1..];
                let (latency, period) = (&costs.latency[cells.clone()], &costs.period[cells.clone()]);
                match least {
                    Least::Latency { period_most } => improve(best, latency, period, |latency, period| {
                        if period > period_most { f64::INFINITY } else { before + latency }
                    }),
                    Least::Period => improve(best, latency, period, |_, period| longer(before, period)),
                    Least::Missing => improve(best, self.table.weight_bytes(from), period, |bytes, _| {
                        longer(before, bytes - costs.memory)
                    }),
                }
            }
        }
        self.skip(&mut best, cuts);
        let ends = self.graph.ends.iter().filter(|state| best[**state][cuts] < f64::INFINITY);
        let end = *ends.min_by(|a, b| best[**a][cuts].total_cmp(&best[**b][cuts]))?;
        Some(self.trace(&best, least, end))
    }

    fn skip(&self, best: &mut [Vec<f64>], at: usize) {
        for (from, to) in &self.graph.skips {
            best[*to][at] = best[*to][at].min(best[*from][at]);
        }
    }

    /// Back from an end, the stage each time that led to what was found there.
    fn trace(&self, best: &[Vec<f64>], least: Least, mut state: usize) -> Sequence {
        let mut to = self.table.stages();
        let mut sequence = Sequence { cost: best[state][to], period: 0.0, stages: Vec::new() };
        while to > 0 || state > 0 {
            let here = best[state][to];
            let same =
                |(from, into): &&(usize, usize)| *into == state && best[*from][to].total_cmp(&here).is_eq();
            if let Some((from, _)) = self.graph.skips.iter().find(same) {
                state = *from;
                continue;
            }
            let edges = self.graph.edges.iter().filter(|edge| edge.to == state);
            let ways = edges.flat_map(|edge| (0..to).map(move |from| (edge, from)));
            let way = ways
                .map(|(edge, from)| {
                    (self.after(least, best[edge.from][from], edge.group, from, to), edge, from)
                })
                .min_by(|(a, ..), (b, ..)| a.total_cmp(b));
            let (_, edge, from) = way.expect("a state that was reached was reached from another");
            sequence.stages.push((to, self.graph.groups[edge.group].clone()));
            let period = self.costs[edge.group].period[self.table.cell(from, to)];
            sequence.period = sequence.period.max(period);
            (state, to) = (edge.from, from);
        }
        sequence.stages.reverse();
        sequence
    }

    /// The cost after one more stage.
    fn after(&self, least: Least, before: f64, group: usize, from: usize, to: usize) -> f64 {
        let (costs, cell) = (&self.costs[group], self.table.cell(from, to));
        match least {
            Least::Latency { period_most } if costs.period[cell] > period_most => f64::INFINITY,
            Least::Latency { .. } => before + costs.latency[cell],
            Least::Period => longer(before, costs.period[cell]),
            Least::Missing => longer(before, self.table.weight_bytes(from)[to - from - 1] - costs.memory),
        }
    }
}

fn longer(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

fn improve(best: &mut [f64], first: &[f64], second: &[f64], after: impl Fn(f64, f64) -> f64) {
    for (best, (first, second)) in best.iter_mut().zip(first.iter().zip(second)) {
        let cost = after(*first, *second);
        if cost < *best {
            *best = cost;
        }
    }
}

/// What lanes that share a stage take together: each gets requests as fast as it answers them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shared {
    /// Requests per microsecond.
    rate: f64,
    /// Requests under way, which is latency times rate.
    under_way: f64,
}

impl Shared {
    pub(super) fn add(&mut self, latency: f64, period: f64, count: f64) {
        let rate = count / period;
        self.rate += rate;
        self.under_way += latency * rate;
    }

    pub(super) fn period(self) -> f64 {
        1.0 / self.rate
    }

    /// Of a request in the middle.
    pub(super) fn latency(self) -> f64 {
        self.under_way / self.rate
    }
}

/// Costs of all stages in one lane.
fn alone(scene: &Scene<'_>, table: &Table, lane: usize) -> Costs {
    let memory = scene.lanes[lane].memory as f64;
    let (mut latency, mut period) = (Vec::new(), Vec::new());
    for from in 0..table.stages() {
        for (to, weights) in (from + 1..).zip(table.weight_bytes(from)) {
            let step = table.step(scene, lane, from, to);
            let fits = *weights <= memory && table.is_enough(from, to);
            latency.push(if fits { step.latency() } else { f64::INFINITY });
            period.push(if fits { step.period() } else { f64::INFINITY });
        }
    }
    Costs { latency, period, memory }
}

/// Costs of all stages that a group shares.
fn together(alone: &[Costs], group: &Group) -> Costs {
    let lanes = || group.iter().map(|(kind, count)| (&alone[*kind], *count as f64));
    let memory = lanes().map(|(lane, _)| lane.memory).fold(f64::INFINITY, f64::min);
    let cells = lanes().next().map_or(0, |(lane, _)| lane.latency.len());
    let (mut latency, mut period) = (Vec::with_capacity(cells), Vec::with_capacity(cells));
    if let [(kind, 1)] = group[..] {
        latency.extend(&alone[kind].latency);
        period.extend(&alone[kind].period);
        return Costs { latency, period, memory };
    }
    for cell in 0..cells {
        if lanes().any(|(lane, _)| lane.period[cell] == f64::INFINITY) {
            latency.push(f64::INFINITY);
            period.push(f64::INFINITY);
            continue;
        }
        let mut shared = Shared::default();
        for (lane, count) in lanes() {
            shared.add(lane.latency[cell], lane.period[cell], count);
        }
        latency.push(shared.latency());
        period.push(shared.period());
    }
    Costs { latency, period, memory }
}
