//! What holds a lane up from outside: a browser that the system stops or starves now and then.
//!
//! A lane's own clock tells little of it, and what is far off is left out of fits. What comes again and again is no
//! exception, though.

/// A step as it is forecast and as the daemon saw it, in microseconds that its lane was busy with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub forecast_us: f64,
    pub took_us: f64,
}

/// A step that took more than so many times what is forecast was held up.
const HELD_UP: f64 = 4.0;

/// Steps from which it can be told what comes again.
const TOLD_FROM: usize = 32;

/// Microseconds by which each of a lane's latest steps was held up in the mean. What one half of them alone had is over,
/// or was what the first steps after a load take.
pub fn held_up(steps: &[Seen]) -> f64 {
    if steps.len() < TOLD_FROM {
        return 0.0;
    }
    let beyond = |step: &&Seen| step.took_us > HELD_UP * step.forecast_us;
    let mean = |half: &[Seen]| {
        let all: f64 = half.iter().filter(beyond).map(|step| step.took_us - step.forecast_us).sum();
        all / half.len() as f64
    };
    let (one, other) = steps.split_at(steps.len() / 2);
    mean(one).min(mean(other))
}
