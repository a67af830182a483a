//! Fewer calls that compute the same but for rounding: what stands between two of them is never written.
//!
//! Calls are only ever moved behind, to where the last of those stood that they were made of; every element is written
//! once, so that what they read is still there.

mod after;
mod attention;
mod calls;
mod formulas;
mod maps;
mod norms;
#[cfg(test)]
mod tests;
mod views;

use self::calls::Calls;
use super::ir::Routine;

pub fn fuse(routine: Routine) -> Routine {
    let mut calls = Calls::of(routine);
    // While scores and masks stand in calls of their own.
    attention::fuse(&mut calls);
    // Before maps take biases up.
    after::fuse(&mut calls);
    maps::fuse(&mut calls);
    after::fuse(&mut calls);
    norms::written(&mut calls);
    // Without the means and squares, which nobody reads any more.
    let mut calls = Calls::of(calls.finish());
    norms::skips(&mut calls);
    calls.finish()
}
