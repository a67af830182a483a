//! What lanes and links take: guessed before anything is measured, fitted to measurements after. Pure.
//!
//! A step is forecast from its work, and its transfer from its bytes, so that a stage which no lane has run yet can be.

mod fit;
mod guess;
mod held;
mod host;
mod refit;
mod speed;
#[cfg(test)]
mod tests;

pub use guess::{LaneKind, link, scaled, speed};
pub use held::{Seen, held_up};
pub use host::{Host, Load, LoadSample, refit_host};
pub use refit::{LinkSample, Refit, StepSample, refit_link, refit_speed};
pub use speed::{Estimate, Link, Rate, Speed, Within, Work};
