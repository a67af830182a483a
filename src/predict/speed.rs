//! A lane's speed, a link's speed, and the work that they are applied to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Chain, OperatorClass};

const CLASSES: usize = OperatorClass::ALL.len();

/// What a lane takes for a class of operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Microseconds per operation.
    pub us_per_flop: f64,
    /// Microseconds per byte read or written.
    pub us_per_byte: f64,
}

/// What a lane takes for a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Per class, in the order of [`OperatorClass::ALL`].
    pub rates: [Rate; CLASSES],
    /// Microseconds that every unit takes beside its work.
    pub unit_us: f64,
    /// Microseconds that every step takes beside its units.
    pub step_us: f64,
    /// Steps that this rests on; 0 for a guess.
    pub samples: u32,
    /// How far measured steps were from this, as shares of it.
    pub within: Option<Within>,
}

/// What passing values between the daemon and a lane takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Microseconds of a step that carries nothing.
    pub round_trip_us: f64,
    /// Microseconds per byte to the lane.
    pub down_us_per_byte: f64,
    /// Microseconds per byte from the lane.
    pub up_us_per_byte: f64,
    /// Transfers that this rests on; 0 for a guess.
    pub samples: u32,
    /// How far measured transfers were from this, as shares of it.
    pub within: Option<Within>,
}

/// Bounds within which nine of ten measurements lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Within {
    pub low: f64,
    pub high: f64,
}

/// A value that was not measured, with its bounds where those are known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    pub value: f64,
    pub within: Option<Within>,
}

/// What a step does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Operations per class, in the order of [`OperatorClass::ALL`].
    pub flops: [f64; CLASSES],
    /// Bytes read and written per class.
    pub moved: [f64; CLASSES],
    /// Those of them that are weights, which a step reads once for all of its requests.
    pub weights: [f64; CLASSES],
    pub units: u32,
}

impl Work {
    /// That of a step of these units of a chain.
    pub fn of(chain: &Chain, units: impl IntoIterator<Item = usize>) -> Self {
        let mut work = Self::default();
        for unit in units.into_iter().map(|unit| &chain.units[unit]) {
            work.flops[unit.class as usize] += unit.flops;
            work.moved[unit.class as usize] += unit.moved;
            let weights: f64 = unit.weights.iter().map(|weight| chain.weights[*weight as usize] as f64).sum();
            // Of a table that is looked up little is read.
            work.weights[unit.class as usize] += if weights <= unit.moved { weights } else { 0.0 };
            work.units += 1;
        }
        work
    }

    /// That of a step of so many requests; the units are gone through and weights are read once.
    #[must_use]
    pub fn times(mut self, requests: f64) -> Self {
        for flops in &mut self.flops {
            *flops *= requests;
        }
        for (moved, weights) in self.moved.iter_mut().zip(&self.weights) {
            *moved = weights + (*moved - weights) * requests;
        }
        self
    }
}

impl Speed {
    /// Microseconds that the lane computes in a step.
    pub fn step(&self, work: &Work) -> f64 {
        let classes = self.rates.iter().zip(work.flops.iter().zip(&work.moved));
        let work_us: f64 =
            classes.map(|(rate, (flops, moved))| rate.us_per_flop * flops + rate.us_per_byte * moved).sum();
        self.step_us + self.unit_us * f64::from(work.units) + work_us
    }

    /// The same of one unit, without what the step itself takes.
    pub fn unit(&self, class: OperatorClass, flops: f64, moved: f64) -> f64 {
        let rate = self.rates[class as usize];
        self.unit_us + rate.us_per_flop * flops + rate.us_per_byte * moved
    }
}

impl Link {
    /// Microseconds of a step's transfer beside the round trip.
    pub fn moving(&self, down_bytes: f64, up_bytes: f64) -> f64 {
        self.down_us_per_byte * down_bytes + self.up_us_per_byte * up_bytes
    }
}

impl Estimate {
    /// A value of which these shares of it are the bounds.
    pub fn scaled(value: f64, within: Option<Within>) -> Self {
        let within = within.map(|within| Within { low: value * within.low, high: value * within.high });
        Self { value, within }
    }

    /// Both together. They err alike, so their bounds add up; one without bounds leaves the sum without.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let within = self.within.zip(other.within);
        let within = within.map(|(a, b)| Within { low: a.low + b.low, high: a.high + b.high });
        Self { value: self.value + other.value, within }
    }

    pub fn zero() -> Self {
        Self { value: 0.0, within: Some(Within { low: 0.0, high: 0.0 }) }
    }

    /// So much divided by it.
    #[must_use]
    pub fn inverse(self, of: f64) -> Self {
        let within = self.within.map(|within| Within { low: of / within.high, high: of / within.low });
        Self { value: of / self.value, within }
    }
}
