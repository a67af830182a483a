//! Where in what was pickled the weights are: at the top, or below a name that training scripts give them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    TorchError, View,
    pickle::{Pickled, Place, Storage, Value},
};

/// What training scripts call the weights, beside an optimiser's state and counters. The first that is there counts.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model", "module", "net"];

/// `{"model": {"state_dict": {…}}}`, and one more.
const DEPTH_MAX: usize = 3;

pub(super) type Weights<'p> = BTreeMap<&'p str, (&'p Storage<'p>, &'p View)>;

pub(super) fn weights<'p>(pickled: &'p Pickled<'p>) -> Result<Weights<'p>, TorchError> {
    Search { pickled, seen: BTreeSet::new() }.find(pickled.root, DEPTH_MAX)?.ok_or(TorchError::NoWeights)
}

struct Search<'p> {
    pickled: &'p Pickled<'p>,
    /// A dictionary may lie in many others, or in itself; it is looked into once.
    seen: BTreeSet<Place>,
}

impl<'p> Search<'p> {
    fn find(&mut self, place: Place, depth: usize) -> Result<Option<Weights<'p>>, TorchError> {
        let Value::Dict(pairs) = &self.pickled.values[place] else { return Ok(None) };
        if !self.seen.insert(place) {
            return Ok(None);
        }
        let named: BTreeMap<&str, Place> = pairs
            .iter()
            .filter_map(|(key, value)| match self.pickled.values[*key] {
                Value::Text(name) => Some((name, *value)),
                _ => None,
            })
            .collect();
        for wrapper in WRAPPERS.iter().filter(|_| depth > 0) {
            if let Some(place) = named.get(wrapper)
                && let Some(found) = self.find(*place, depth - 1)?
            {
                return Ok(Some(found));
            }
        }
        let own: Weights = named
            .iter()
            .filter_map(|(name, value)| match &self.pickled.values[*value] {
                Value::Tensor(storage, view) => Some((*name, (storage, view))),
                _ => None,
            })
            .collect();
        match depth {
            _ if !own.is_empty() => Ok(Some(own)),
            0 => Ok(None),
            _ => self.only(&named, depth),
        }
    }

    /// The one dictionary among these that holds weights.
    fn only(
        &mut self,
        named: &BTreeMap<&str, Place>,
        depth: usize,
    ) -> Result<Option<Weights<'p>>, TorchError> {
        let mut only: Option<(&str, Weights)> = None;
        for (name, place) in named {
            let Some(found) = self.find(*place, depth - 1)? else { continue };
            if let Some((first, _)) = only {
                return Err(TorchError::Several { first: first.to_owned(), second: (*name).to_owned() });
            }
            only = Some((name, found));
        }
        Ok(only.map(|(_, found)| found))
    }
}
