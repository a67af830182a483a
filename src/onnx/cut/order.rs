//! An order of units that is good to split: each branch to its end before the next one, so that little is under way at any
//! place.

/// What one unit reads and makes, by numbers of values.
#[derive(Clone, Debug, Default)]
pub(super) struct Ties {
    pub(super) reads: Vec<usize>,
    pub(super) makes: Vec<usize>,
}

/// The numbers of the units in their order. Units are given in one in which they could be met first; `maker` is the unit
/// that makes each value, and `bytes` what each value has.
pub(super) fn order(units: &[Ties], makers: &[Option<usize>], bytes: &[u64]) -> Vec<usize> {
    let deep = depth_first(units, makers);
    let mut position = vec![0; units.len()];
    deep.iter().enumerate().for_each(|(at, unit)| position[*unit] = at);

    // How many readers of each value are still to come.
    let mut left = vec![0usize; bytes.len()];
    units.iter().flat_map(|unit| &unit.reads).for_each(|value| left[*value] += 1);
    let mut readers = vec![Vec::new(); bytes.len()];
    for (at, unit) in units.iter().enumerate() {
        unit.reads.iter().for_each(|value| readers[*value].push(at));
    }
    let mut missing: Vec<usize> = units
        .iter()
        .map(|unit| unit.reads.iter().filter(|value| makers[**value].is_some()).count())
        .collect();

    let mut emitted = vec![false; units.len()];
    let mut ordered = Vec::with_capacity(units.len());
    for next in deep {
        let mut open = vec![next];
        while let Some(unit) = open.pop() {
            if std::mem::replace(&mut emitted[unit], true) {
                continue;
            }
            ordered.push(unit);
            units[unit].reads.iter().for_each(|value| left[*value] -= 1);
            let mut ready: Vec<usize> = Vec::new();
            for reader in units[unit].makes.iter().flat_map(|value| &readers[*value]) {
                missing[*reader] -= 1;
                if missing[*reader] == 0 {
                    ready.push(*reader);
                }
            }
            // What was read may be free now but for one last reader, which is ready too.
            let last = units[unit].reads.iter().filter(|value| left[**value] == 1);
            let last = last.flat_map(|value| &readers[*value]).copied();
            ready.extend(last.filter(|reader| !emitted[*reader] && missing[*reader] == 0));
            ready.retain(|reader| frees(&units[*reader], makers, bytes, &left));
            // The earliest comes out first.
            ready.sort_unstable_by_key(|reader| std::cmp::Reverse(position[*reader]));
            open.extend(ready);
        }
    }
    ordered
}

/// Whether less is under way after it than before, so that it had better run at once.
fn frees(unit: &Ties, makers: &[Option<usize>], bytes: &[u64], left: &[usize]) -> bool {
    let freed = unit.reads.iter().filter(|value| left[**value] == 1 && makers[**value].is_some());
    let freed: u64 = freed.map(|value| bytes[*value]).fold(0, u64::saturating_add);
    let kept = unit.makes.iter().filter(|value| left[**value] > 0);
    let kept: u64 = kept.map(|value| bytes[*value]).fold(0, u64::saturating_add);
    let ends = unit.makes.iter().all(|value| left[*value] == 0);
    kept < freed || ends
}

/// What a unit needs comes right before it.
fn depth_first(units: &[Ties], makers: &[Option<usize>]) -> Vec<usize> {
    let mut met = vec![false; units.len()];
    let mut order = Vec::with_capacity(units.len());
    let needs = |unit: usize| {
        let mut needs: Vec<_> = units[unit].reads.iter().filter_map(|value| makers[*value]).collect();
        // The last of a stack is its top.
        needs.sort_unstable_by_key(|need| std::cmp::Reverse(*need));
        needs
    };
    let mut read = vec![false; makers.len()];
    units.iter().flat_map(|unit| &unit.reads).for_each(|value| read[*value] = true);
    let ends = |unit: &usize| units[*unit].makes.iter().all(|value| !read[*value]);
    for end in (0..units.len()).filter(ends) {
        met[end] = true;
        let mut open = vec![(end, needs(end))];
        while let Some((unit, wanted)) = open.last_mut() {
            match wanted.pop() {
                Some(need) => {
                    if !std::mem::replace(&mut met[need], true) {
                        open.push((need, needs(need)));
                    }
                }
                None => {
                    order.push(*unit);
                    open.pop();
                }
            }
        }
    }
    order
}

/// The sets of places that lead to each other, those of one place left out; by Tarjan's algorithm.
pub(super) fn circles(after: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNMET: usize = usize::MAX;
    let mut number = vec![UNMET; after.len()];
    let mut low = vec![0; after.len()];
    let mut on_stack = vec![false; after.len()];
    let (mut stack, mut found, mut count) = (Vec::new(), Vec::new(), 0);
    for root in 0..after.len() {
        if number[root] != UNMET {
            continue;
        }
        let mut open = vec![(root, 0)];
        while let Some((place, edge)) = open.last_mut() {
            let place = *place;
            if *edge == 0 && number[place] == UNMET {
                (number[place], low[place]) = (count, count);
                count += 1;
                stack.push(place);
                on_stack[place] = true;
            }
            if let Some(next) = after[place].get(*edge).copied() {
                *edge += 1;
                if number[next] == UNMET {
                    open.push((next, 0));
                } else if on_stack[next] {
                    low[place] = low[place].min(number[next]);
                }
                continue;
            }
            open.pop();
            if let Some((parent, _)) = open.last() {
                low[*parent] = low[*parent].min(low[place]);
            }
            if low[place] == number[place] {
                let from = stack.iter().rposition(|met| *met == place).unwrap_or_default();
                let circle = stack.split_off(from);
                for met in &circle {
                    on_stack[*met] = false;
                }
                found.extend(Some(circle).filter(|circle| circle.len() > 1));
            }
        }
    }
    found
}
