//! Caches that stay where a model runs: what a graph takes of earlier steps and gives to later ones.
//!
//! A cache has room for a fixed number of rows and for those of one step behind them. The step's rows are written behind
//! the cache, where the graph expects them, and into it, at the place that the step says, where the next one finds them.
//! Whatever else is in the cache is hidden by the mask that every step brings, or by how many rows are said to be there.

use std::collections::BTreeMap;

use super::{
    LowerError,
    builder::Builder,
    value::{self, Value},
};
use crate::{
    domain::{Dim, Port, Signature},
    kernels::ir::{Call, Expr, Keep, Slot, State},
};

/// The input that says how many rows the caches have, ahead of the step's own: one INT64.
pub const POSITION: &str = "weft.position";

/// Tokens that a step with caches brings at most.
pub const TOKENS_MAX: usize = 128;

/// What a routine does with the caches of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keeping {
    /// Rows that they have room for.
    pub rows: usize,
    /// Whether the step fills them and gives nothing else.
    pub fills: bool,
}

impl Keeping {
    /// The caches of a model: for each input the output that it goes on as.
    pub fn caches(signature: &Signature) -> BTreeMap<&str, &str> {
        let grows = |port: &Port| matches!(port.shape[..], [_, _, Dim::Symbol(_) | Dim::Free(_), _]);
        let mut caches = BTreeMap::new();
        for input in signature.inputs.iter().filter(|input| grows(input)) {
            let next = next_of(&input.name);
            let output = signature.outputs.iter().find(|output| Some(&output.name) == next.as_ref());
            if let Some(output) = output.filter(|output| grows(output)) {
                caches.insert(input.name.as_str(), output.name.as_str());
            }
        }
        caches
    }

    /// The shape of a cache as the graph has it, by the sizes that the other inputs fix.
    pub(super) fn shape(
        self,
        port: &Port,
        symbols: &BTreeMap<&str, usize>,
    ) -> Result<Vec<usize>, LowerError> {
        let size = |(at, dim): (usize, &Dim)| match dim {
            _ if at == 2 => Some(self.rows),
            Dim::Fixed(size) => usize::try_from(*size).ok(),
            Dim::Symbol(name) => symbols.get(name.as_str()).copied(),
            Dim::Free(_) => None,
        };
        let sizes: Option<Vec<usize>> = port.shape.iter().enumerate().map(size).collect();
        sizes.filter(|sizes| !sizes.contains(&0)).ok_or_else(|| LowerError::Cache {
            name: port.name.clone(),
            problem: "has sizes that no other input fixes".to_owned(),
        })
    }
}

/// What the output is called that an input is in the next step: `past_key_values.0.key` is `present.0.key`.
fn next_of(input: &str) -> Option<String> {
    let rest = input.strip_prefix("past")?;
    Some(format!("present{}", rest.strip_prefix("_key_values").unwrap_or(rest)))
}

/// The caches of a routine that is made.
#[derive(Default)]
pub(super) struct Caches {
    /// Where the step says how many rows they have.
    position: Option<Value>,
    /// Which have got the step's rows already.
    filled: Vec<Slot>,
}

impl Builder {
    /// A cache, as the input of that name.
    pub(super) fn cache(&mut self, port: &Port, shape: &[usize]) -> Result<Value, LowerError> {
        let [batch, heads, rows, size] = shape[..] else { unreachable!("caches have four dimensions") };
        if batch != 1 {
            let problem = format!("is of {batch} sequences, and a lane keeps those of one");
            return Err(LowerError::Cache { name: port.name.clone(), problem });
        }
        let room = rows + TOKENS_MAX;
        let all = self.fresh(port.datatype, &[batch, heads, room, size])?;
        if !all.is_float() {
            return Err(LowerError::Datatype { name: port.name.clone(), datatype: port.datatype });
        }
        let (name, slot) = (port.name.clone(), all.slot);
        self.add_state(State { name, slot, outer: batch * heads, rows, room, inner: size });
        Ok(all.sliced(2, 0, 1, rows))
    }

    pub(super) fn keep_by(&mut self, position: Value) {
        self.caches.position = Some(position);
    }

    /// How many rows the caches have ahead of the step's own.
    pub(super) fn position(&self) -> &Value {
        self.caches.position.as_ref().expect("what has caches has a position")
    }

    /// The state that a value is the whole of, with rows that earlier steps have left.
    pub(super) fn cached(&self, value: &Value) -> Option<&State> {
        let state = self.states().iter().find(|state| state.slot == value.slot)?;
        let strides = [(state.room * state.inner) as i64, state.inner as i64, 1];
        let whole = value.rank() == 4
            && value.offset == 0
            && value.shape[1] * value.shape[0] == state.outer
            && value.shape[2..] == [state.rows, state.inner]
            && value.strides[1..] == strides;
        whole.then_some(state)
    }

    /// The rows of a cache with those of the step behind them, which the next step finds in the cache.
    pub(super) fn kept(&mut self, past: &Value, new: &Value) -> Result<Value, LowerError> {
        let state = self.cached(past).expect("the caller has looked").clone();
        let wrong =
            |problem: &str| LowerError::Cache { name: state.name.clone(), problem: problem.to_owned() };
        let [batch, heads, rows, size] = new.shape[..] else {
            return Err(wrong("goes on with something else"));
        };
        if batch * heads != state.outer || size != state.inner || !new.is_float() {
            return Err(wrong("goes on with rows that do not fit it"));
        }
        if rows > TOKENS_MAX {
            let problem = format!("gets {rows} rows in a step, where {TOKENS_MAX} are the most");
            return Err(wrong(&problem));
        }
        if self.caches.filled.contains(&state.slot) {
            return Err(wrong("goes on in two places"));
        }
        self.caches.filled.push(state.slot);
        let together = Value {
            shape: vec![batch, heads, state.rows + rows, size],
            strides: value::dense(&[batch, heads, state.room, size]),
            ..past.clone()
        };
        let behind = together.sliced(2, state.rows, 1, rows);
        let copy = Self::mapping(&new.shape, std::slice::from_ref(new), &behind, Expr::Input(0))?;
        let keep = Keep {
            batch,
            heads,
            rows,
            size,
            input: Self::view(new, &new.shape),
            at: self.position().slot,
            rows_max: state.rows,
            output: state.slot,
            room: state.room,
        };
        self.emit(copy.into_iter().chain([Call::Keep(keep)]).collect(), &together);
        Ok(together)
    }

    /// Whether a value is a cache with the step's rows.
    pub(super) fn goes_on(&self, value: &Value) -> bool {
        self.caches.filled.contains(&value.slot)
    }
}
