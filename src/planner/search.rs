//! The best sequence for an objective, and the best order of more lanes than all orders of which can be tried.

use super::{
    Objective,
    orders::{self, Limits},
    programme::{Graph, Least, Programme, Sequence},
    step::Scene,
    table::Table,
};

/// Programmes that are solved for one graph at most; each halves what is left.
const SOLVED_MOST: usize = 40;

/// Stages that are compared for all orders together at most, each graph being solved some ten times: half a second.
const COMPARED_MOST: f64 = 5e6;

/// Orders that are tried at most and at least.
const ORDERS_MOST: usize = 150;
const ORDERS_LEAST: usize = 20;

/// The best of all sequences that a graph allows.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Fits(Sequence),
    /// None fits; this one lacks least, and that is its cost.
    Lacks(Sequence),
}

impl Found {
    pub(super) fn sequence(&self) -> &Sequence {
        match self {
            Self::Fits(sequence) | Self::Lacks(sequence) => sequence,
        }
    }
}

/// Periods between which the sum of latencies is no less than that of the longest.
struct Span {
    latency: f64,
    low: f64,
    high: f64,
}

pub(super) struct Search<'a> {
    pub(super) scene: &'a Scene<'a>,
    /// Lanes that are alike, per kind.
    pub(super) kinds: &'a [Vec<usize>],
    /// How near the best a sequence must be proven to be, as a share.
    pub(super) near: f64,
}

impl Search<'_> {
    /// The best of all sequences that the graph allows.
    pub(super) fn best(&self, table: &Table, graph: &Graph) -> Found {
        let programme = Programme::new(self.scene, table, self.kinds, graph);
        match programme.solve(Least::Latency { period_most: f64::INFINITY }) {
            Some(soonest) => Found::Fits(match self.scene.objective {
                Objective::Latency | Objective::Memory => soonest,
                Objective::Throughput { .. } | Objective::Stream { .. } => self.balance(&programme, soonest),
            }),
            None => Found::Lacks(
                programme.solve(Least::Missing).expect("there are cuts for every number of stages"),
            ),
        }
    }

    /// The best for many requests, which both the sum of latencies and the longest period decide.
    ///
    /// A longer period allows a smaller sum. So between two periods of which the sums are known, nothing is better than
    /// the smaller sum with the shorter period, and such a span is halved only while that would beat what was found.
    fn balance(&self, programme: &Programme<'_>, soonest: Sequence) -> Sequence {
        let cost = |sequence: &Sequence| self.scene.objective.cost(sequence.cost, sequence.period);
        let shortest = programme.solve(Least::Period).map_or(soonest.period, |found| found.cost);
        let mut spans = vec![Span { latency: soonest.cost, low: shortest, high: soonest.period }];
        let mut best = soonest;
        let mut next = Some((0, shortest));
        for _ in 0..SOLVED_MOST {
            let Some((at, period)) = next else { break };
            let span = spans.swap_remove(at);
            if let Some(found) = programme.solve(Least::Latency { period_most: period }) {
                spans.push(Span { latency: found.cost, low: span.low, high: found.period });
                if cost(&found) < cost(&best) {
                    best = found;
                }
            }
            spans.push(Span { latency: span.latency, low: period, high: span.high });
            let bound = |span: &Span| self.scene.objective.cost(span.latency, span.low);
            let most = cost(&best) * (1.0 - self.near);
            spans.retain(|span| bound(span) < most && span.high > span.low * (1.0 + self.near));
            next = (0..spans.len())
                .min_by(|a, b| bound(&spans[*a]).total_cmp(&bound(&spans[*b])))
                .map(|at| (at, f64::midpoint(spans[at].low, spans[at].high)));
        }
        best
    }

    /// The best order of lanes that swaps of two lead to, from the fastest first, the largest first and as they are.
    pub(super) fn local(&self, table: &Table, limits: Limits, shared: bool) -> Found {
        let tried = |order: &[usize]| {
            let found = self.best(table, &orders::ordered(order, limits, shared));
            (self.judge(&found), found)
        };
        let edges = orders::ordered(&self.starts()[0], limits, shared).edges.len();
        let each = (edges * table.stages() * table.stages() / 2) as f64;
        let most = ((COMPARED_MOST / each) as usize).clamp(ORDERS_LEAST, ORDERS_MOST);
        let mut count = 0;
        let mut best: Option<((bool, f64), Found)> = None;
        for mut order in self.starts() {
            let mut here = tried(&order);
            let mut better = true;
            while better && count < most {
                better = false;
                for (a, b) in pairs(order.len()) {
                    if order[a] == order[b] || count == most {
                        continue;
                    }
                    count += 1;
                    order.swap(a, b);
                    let there = tried(&order);
                    if there.0 < here.0 {
                        (here, better) = (there, true);
                    } else {
                        order.swap(a, b);
                    }
                }
            }
            if best.as_ref().is_none_or(|best| here.0 < best.0) {
                best = Some(here);
            }
        }
        best.expect("there are orders to start from").1
    }

    /// What lacks memory is worse than what fits.
    fn judge(&self, found: &Found) -> (bool, f64) {
        match found {
            Found::Lacks(sequence) => (true, sequence.cost),
            Found::Fits(sequence) => (false, self.scene.objective.cost(sequence.cost, sequence.period)),
        }
    }

    /// Kinds of all lanes in the orders that the search starts from.
    fn starts(&self) -> Vec<Vec<usize>> {
        let lanes = self.scene.lanes;
        let given: Vec<usize> = (0..lanes.len())
            .map(|lane| {
                self.kinds.iter().position(|kind| kind.contains(&lane)).expect("every lane has a kind")
            })
            .collect();
        let whole = |kind: &usize| self.scene.unit_us[self.kinds[*kind][0]].iter().sum::<f64>();
        let memory = |kind: &usize| lanes[self.kinds[*kind][0]].memory;
        let (mut fastest, mut largest) = (given.clone(), given.clone());
        fastest.sort_by(|a, b| whole(a).total_cmp(&whole(b)));
        largest.sort_by_key(|kind| std::cmp::Reverse(memory(kind)));
        vec![fastest, largest, given]
    }
}

fn pairs(of: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..of).flat_map(move |a| (a + 1..of).map(move |b| (a, b)))
}
