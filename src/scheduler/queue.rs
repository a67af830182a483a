//! In which order requests are served. Pure: it is told the time.
//!
//! First comes the better class, where each `age_step` of waiting moves a request up by one, as far as the best.
//! In a class, requests that are tried again come first, then the callers by their fair share ([`Shares`]), and of
//! one caller the earliest deadline, then the earliest arrival.
//! So priority comes before fairness, and ageing bounds what that costs those behind.
//!
//! Requests that every lane treats alike are one lot: when the first of a lot has to wait, so have the others.
//! With n requests of c callers in l lots, a request comes and goes in O(log n + c), and looking once for everything
//! that can run takes O(l · (c + log l)), however many wait.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::shares::Shares;
use crate::domain::Caller;

/// Where a request without a priority stands: behind what somebody called urgent, ahead of what somebody deferred.
pub const PRIORITY_DEFAULT: u32 = 8;

/// Nothing stands further behind, so that ageing brings it to the front in a bounded number of steps.
pub const PRIORITY_LAST: u32 = 32;

/// The best class, and the one that waiting alone can reach: nothing waits for ever.
const CLASS_BEST: u32 = 1;

/// What of a request decides when it is served.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) caller: Caller,
    /// As its caller gave it.
    pub(super) priority: u32,
    /// Whether it was tried before.
    pub(super) again: bool,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
}

/// A queued request's name: smaller ones came earlier.
pub(super) type Number = u64;

pub(super) struct Queue<K, T> {
    requests: BTreeMap<Number, Queued<K, T>>,
    lots: BTreeMap<Arc<K>, Lot>,
    deadlines: BTreeSet<(Instant, Number)>,
    /// When each moves up next.
    rises: BTreeSet<(Instant, Number)>,
    shares: Shares,
    age_step: Duration,
    next: Number,
}

struct Queued<K, T> {
    lot: Arc<K>,
    place: Place,
    tier: Tier,
    rise: Option<Instant>,
    request: T,
}

/// A class as aged, and whether it is the first attempt.
type Tier = (u32, bool);

/// The order of one caller's requests in a tier.
type Turn = (Instant, Instant, Number);

type Callers = BTreeMap<Arc<str>, BTreeSet<Turn>>;

#[derive(Default)]
struct Lot {
    tiers: BTreeMap<Tier, Callers>,
    len: usize,
}

/// How the first of a lot compares with those of others; the least is served first.
#[derive(Clone, Copy, Debug)]
struct Rank {
    tier: Tier,
    share: f64,
    turn: Turn,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let tier = self.tier.cmp(&other.tier);
        tier.then(self.share.total_cmp(&other.share)).then(self.turn.cmp(&other.turn))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

/// One look through the lots in their order.
pub(super) struct Pass<K> {
    lots: BinaryHeap<Reverse<(Rank, Arc<K>)>>,
}

impl<K: Ord, T> Queue<K, T> {
    pub(super) fn new(age_step: Duration) -> Self {
        Self {
            requests: BTreeMap::new(),
            lots: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            rises: BTreeSet::new(),
            shares: Shares::default(),
            age_step,
            next: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// What callers have been charged.
    pub(super) fn shares(&mut self) -> &mut Shares {
        &mut self.shares
    }

    pub(super) fn insert(&mut self, lot: K, place: Place, request: T, now: Instant) -> Number {
        let number = self.next;
        self.next += 1;
        let lot = match self.lots.get_key_value(&lot) {
            Some((lot, _)) => lot.clone(),
            None => Arc::new(lot),
        };
        self.shares.enter(&place.caller);
        self.deadlines.insert((place.deadline, number));
        let (class, rise) = self.class(&place, now);
        let tier = (class, !place.again);
        self.line_up(&lot, tier, &place, number);
        self.rises.extend(rise.map(|rise| (rise, number)));
        self.requests.insert(number, Queued { lot, place, tier, rise, request });
        number
    }

    pub(super) fn get(&self, number: Number) -> Option<&T> {
        self.requests.get(&number).map(|queued| &queued.request)
    }

    pub(super) fn remove(&mut self, number: Number) -> Option<T> {
        let Queued { lot, place, tier, rise, request } = self.requests.remove(&number)?;
        self.leave(&lot, tier, &place, number);
        self.deadlines.remove(&(place.deadline, number));
        if let Some(rise) = rise {
            self.rises.remove(&(rise, number));
        }
        self.shares.leave(&place.caller);
        Some(request)
    }

    /// Takes out every request of which this is true; it looks at each.
    pub(super) fn remove_where(&mut self, is: impl Fn(&T) -> bool) -> Vec<T> {
        let found = self.requests.iter().filter(|(_, queued)| is(&queued.request));
        let found: Vec<_> = found.map(|(number, _)| *number).collect();
        found.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out one whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Option<T> {
        let (_, number) = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.remove(number)
    }

    /// The next to be served of the lot that this request is in.
    pub(super) fn first_beside(&self, number: Number) -> Option<Number> {
        let queued = self.requests.get(&number)?;
        self.first(&queued.lot).map(|rank| rank.turn.2)
    }

    pub(super) fn lot_of(&self, number: Number) -> Option<Arc<K>> {
        self.requests.get(&number).map(|queued| queued.lot.clone())
    }

    /// The next to be served of a lot.
    pub(super) fn first_of(&self, lot: &Arc<K>) -> Option<Number> {
        self.first(lot).map(|rank| rank.turn.2)
    }

    /// Where those of a lot stand, itself included, in no order.
    pub(super) fn places(&self, lot: &Arc<K>) -> impl Iterator<Item = &Place> {
        let tiers = self.lots.get(lot).into_iter().flat_map(|lot| lot.tiers.values());
        let turns = tiers.flat_map(BTreeMap::values).flatten();
        turns.filter_map(|(_, _, number)| Some(&self.requests.get(number)?.place))
    }

    /// How many of its lot will be served before it, as things stand: what is in better classes, what its caller
    /// wants earlier, and as much of others as their shares come to meanwhile.
    pub(super) fn ahead(&self, number: Number) -> usize {
        let Some(queued) = self.requests.get(&number) else { return 0 };
        let Some(lot) = self.lots.get(&queued.lot) else { return 0 };
        let place = &queued.place;
        let count = |callers: &Callers| callers.values().map(BTreeSet::len).sum::<usize>();
        let better: usize = lot.tiers.range(..queued.tier).map(|(_, callers)| count(callers)).sum();
        let Some(callers) = lot.tiers.get(&queued.tier) else { return better };
        let Some(own) = callers.get(&place.caller.id) else { return better };
        let before = own.range(..turn(place, number)).count();
        let share = self.shares.share(&place.caller);
        let beside = ((before + 1) as f64 * (1.0 - share) / share) as usize;
        better + before + beside.min(count(callers) - own.len())
    }

    /// How many wait in its lot, itself included.
    pub(super) fn lot_len(&self, number: Number) -> usize {
        let lot = self.requests.get(&number).and_then(|queued| self.lots.get(&queued.lot));
        lot.map_or(0, |lot| lot.len)
    }

    /// Begins a look through all lots.
    pub(super) fn pass(&mut self, now: Instant) -> Pass<K> {
        self.age(now);
        let firsts = self.lots.keys().filter_map(|lot| Some(Reverse((self.first(lot)?, lot.clone()))));
        Pass { lots: firsts.collect() }
    }

    /// Moves up what has waited long enough.
    fn age(&mut self, now: Instant) {
        while let Some((_, number)) = self.rises.first().copied().filter(|(rise, _)| *rise <= now) {
            self.rises.pop_first();
            let Some(mut queued) = self.requests.remove(&number) else { continue };
            self.leave(&queued.lot, queued.tier, &queued.place, number);
            let (class, rise) = self.class(&queued.place, now);
            queued.tier.0 = class;
            queued.rise = rise;
            self.rises.extend(rise.map(|rise| (rise, number)));
            self.line_up(&queued.lot, queued.tier, &queued.place, number);
            self.requests.insert(number, queued);
        }
    }

    /// The class that it has come to by now, and when it comes to the next.
    fn class(&self, place: &Place, now: Instant) -> (u32, Option<Instant>) {
        let given = if place.priority == 0 { PRIORITY_DEFAULT } else { place.priority.min(PRIORITY_LAST) };
        let waited = now.saturating_duration_since(place.arrived).as_nanos();
        let steps = u32::try_from(waited / self.age_step.as_nanos().max(1)).unwrap_or(u32::MAX);
        let class = given.saturating_sub(steps).max(CLASS_BEST);
        let rise = (class > CLASS_BEST).then(|| place.arrived + self.age_step * (steps + 1));
        (class, rise)
    }

    fn line_up(&mut self, lot: &Arc<K>, tier: Tier, place: &Place, number: Number) {
        let lot = self.lots.entry(lot.clone()).or_default();
        let callers = lot.tiers.entry(tier).or_default();
        callers.entry(place.caller.id.clone()).or_default().insert(turn(place, number));
        lot.len += 1;
    }

    fn leave(&mut self, key: &Arc<K>, tier: Tier, place: &Place, number: Number) {
        let Some(lot) = self.lots.get_mut(key) else { return };
        lot.len -= 1;
        if lot.len == 0 {
            self.lots.remove(key);
            return;
        }
        let Some(callers) = lot.tiers.get_mut(&tier) else { return };
        if let Some(turns) = callers.get_mut(&place.caller.id) {
            turns.remove(&turn(place, number));
            if turns.is_empty() {
                callers.remove(&place.caller.id);
            }
        }
        if callers.is_empty() {
            lot.tiers.remove(&tier);
        }
    }

    fn first(&self, lot: &Arc<K>) -> Option<Rank> {
        let (tier, callers) = self.lots.get(lot)?.tiers.first_key_value()?;
        let rank = |(caller, turns): (&Arc<str>, &BTreeSet<Turn>)| {
            Some(Rank { tier: *tier, share: self.shares.counter(caller), turn: *turns.first()? })
        };
        callers.iter().filter_map(rank).min()
    }
}

fn turn(place: &Place, number: Number) -> Turn {
    (place.deadline, place.arrived, number)
}

impl<K: Ord> Pass<K> {
    /// The first request of the lots that are left.
    pub(super) fn next<T>(&mut self, queue: &Queue<K, T>) -> Option<(Arc<K>, Number)> {
        while let Some(Reverse((noted, lot))) = self.lots.pop() {
            match queue.first(&lot) {
                // Its caller has been charged since.
                Some(rank) if rank > noted => self.lots.push(Reverse((rank, lot))),
                Some(rank) => return Some((lot, rank.turn.2)),
                None => {}
            }
        }
        None
    }

    /// Looks at this lot once more, since its first request has gone.
    pub(super) fn again<T>(&mut self, lot: Arc<K>, queue: &Queue<K, T>) {
        self.lots.extend(queue.first(&lot).map(|rank| Reverse((rank, lot))));
    }
}

#[cfg(test)]
mod tests;
