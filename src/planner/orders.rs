//! In which order lanes may have stages.

use super::programme::{Edge, Graph, Group};

/// Limits on the number of stages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) least: usize,
    pub(super) most: usize,
}

/// Counts stages as far as the limits need it: up to the most, or where every split has fewer, up to the least, which
/// then stands for more too.
struct Count {
    most: usize,
    open: bool,
}

impl Count {
    fn new(limits: Limits, lanes: usize) -> Self {
        let open = limits.most >= lanes;
        Self { most: if open { limits.least } else { limits.most }, open }
    }

    fn next(&self, stages: usize) -> Option<usize> {
        if stages < self.most { Some(stages + 1) } else { self.open.then_some(stages) }
    }
}

/// Every order of any of the lanes, of which so many are of each kind; stages have one lane, or any number of them where
/// `shared`.
pub(super) fn any(kinds: &[usize], limits: Limits, shared: bool) -> Graph {
    let lanes: usize = kinds.iter().sum();
    let count = Count::new(limits, lanes);
    let groups: Vec<Group> = subsets(kinds)
        .into_iter()
        .map(|counts| counts.into_iter().enumerate().filter(|(_, count)| *count > 0).collect::<Group>())
        .filter(|group| {
            !group.is_empty() && (shared || group.iter().map(|(_, count)| count).sum::<usize>() == 1)
        })
        .collect();
    let mut graph = Graph { groups, ..Graph::default() };
    // Lanes used and stages counted, in an order in which both grow.
    let used = subsets(kinds);
    let state = |at: usize, stages: usize| at * (count.most + 1) + stages;
    graph.states = used.len() * (count.most + 1);
    let mut reached = vec![false; graph.states];
    reached[0] = true;
    for (at, counts) in used.iter().enumerate() {
        for stages in 0..=count.most {
            let from = state(at, stages);
            if !reached[from] {
                continue;
            }
            if at > 0 && stages >= limits.least {
                graph.ends.push(from);
            }
            let Some(next) = count.next(stages) else { continue };
            for (number, group) in graph.groups.iter().enumerate() {
                let Some(more) = with(counts, group, kinds) else { continue };
                let to = state(place(&more, kinds), next);
                reached[to] = true;
                graph.edges.push(Edge { from, to, group: number });
            }
        }
    }
    graph
}

/// Lanes of these kinds in this order, of which each may be left out. Where `shared`, neighbours may share a stage.
pub(super) fn ordered(order: &[usize], limits: Limits, shared: bool) -> Graph {
    let count = Count::new(limits, order.len());
    let state = |at: usize, stages: usize| at * (count.most + 1) + stages;
    let mut graph = Graph { states: (order.len() + 1) * (count.most + 1), ..Graph::default() };
    for at in 0..order.len() {
        for stages in 0..=count.most {
            graph.skips.push((state(at, stages), state(at + 1, stages)));
        }
        let ends = if shared { at + 1..=order.len() } else { at + 1..=at + 1 };
        for end in ends {
            let group = number(&mut graph.groups, grouped(&order[at..end]));
            for stages in 0..=count.most {
                let Some(next) = count.next(stages) else { continue };
                graph.edges.push(Edge { from: state(at, stages), to: state(end, next), group });
            }
        }
    }
    graph.ends.extend((limits.least..=count.most).map(|stages| state(order.len(), stages)));
    graph
}

/// Just these groups, one after another.
pub(super) fn fixed(groups: &[Group]) -> Graph {
    let mut graph = Graph { states: groups.len() + 1, ends: vec![groups.len()], ..Graph::default() };
    for (at, group) in groups.iter().enumerate() {
        let group = number(&mut graph.groups, group.clone());
        graph.edges.push(Edge { from: at, to: at + 1, group });
    }
    graph
}

fn number(groups: &mut Vec<Group>, group: Group) -> usize {
    groups.iter().position(|known| *known == group).unwrap_or_else(|| {
        groups.push(group);
        groups.len() - 1
    })
}

fn grouped(kinds: &[usize]) -> Group {
    let mut sorted = kinds.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
}

/// All ways to take some of each kind, none first; taking more of one comes later.
fn subsets(kinds: &[usize]) -> Vec<Vec<usize>> {
    let total: usize = kinds.iter().map(|count| count + 1).product();
    let counts = |mut place: usize| {
        let count = |of: &usize| {
            let count = place % (of + 1);
            place /= of + 1;
            count
        };
        kinds.iter().map(count).collect()
    };
    (0..total).map(counts).collect()
}

/// Where [`subsets`] has it.
fn place(counts: &[usize], kinds: &[usize]) -> usize {
    counts.iter().zip(kinds).rev().fold(0, |place, (count, of)| place * (of + 1) + count)
}

fn with(counts: &[usize], group: &Group, kinds: &[usize]) -> Option<Vec<usize>> {
    let mut counts = counts.to_vec();
    for (kind, more) in group {
        counts[*kind] += more;
        if counts[*kind] > kinds[*kind] {
            return None;
        }
    }
    Some(counts)
}

/// Edges that [`any`] makes at most, without making them.
pub(super) fn edges_most(kinds: &[usize], limits: Limits, shared: bool) -> f64 {
    let lanes: usize = kinds.iter().sum();
    let states: f64 = kinds.iter().map(|count| (count + 1) as f64).product();
    let stages = (Count::new(limits, lanes).most + 1) as f64;
    // Pairs of a state and one that has as much of each kind, or more.
    let pairs: f64 = kinds.iter().map(|count| ((count + 1) * (count + 2)) as f64 / 2.0).product();
    if shared { pairs * stages } else { states * kinds.len() as f64 * stages }
}
