//! What the processors that all lanes share take for a request, whichever of its lanes is busy.
//!
//! With more lanes than processors, or short steps, no lane is what many requests wait for: the machine is.

use super::{fit::Row, refit::refit, speed::Within};

/// What a request costs the machine's processors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Stages in browsers' lanes, and in the daemon's own.
    pub pages: f64,
    pub natives: f64,
    /// Bytes that go to browsers and come from them.
    pub bytes: f64,
    /// Microseconds of processors that lanes compute.
    pub compute_us: f64,
}

/// What requests cost, and the microseconds from one answer to the next while many were under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadSample {
    pub load: Load,
    pub micros: f64,
}

/// Microseconds of the whole machine, which has several processors.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub request_us: f64,
    pub page_us: f64,
    pub native_us: f64,
    pub us_per_byte: f64,
    /// Of each microsecond that a lane computes.
    pub share: f64,
    pub within: Option<Within>,
}

/// What one processor is thought to take for a request, for each of its stages and for their bytes: only ratios matter,
/// as what was measured says how much all of it is.
const REQUEST_US: f64 = 1000.0;
const PAGE_US: f64 = 500.0;
const NATIVE_US: f64 = 150.0;
const US_PER_BYTE: f64 = 5e-3;

impl Host {
    /// Microseconds between two answers when the processors are what lacks.
    pub fn period(&self, load: &Load) -> f64 {
        self.request_us
            + self.page_us * load.pages
            + self.native_us * load.natives
            + self.us_per_byte * load.bytes
            + self.share * load.compute_us
    }
}

/// By what plans took while many requests were under way, on a machine of so many processors; nothing where none did.
pub fn refit_host(processors: f64, samples: &[LoadSample]) -> Option<Host> {
    let before = [REQUEST_US, PAGE_US, NATIVE_US, US_PER_BYTE, 1.0].map(|figure| figure / processors);
    let row = |LoadSample { load, micros }: &LoadSample| Row {
        amounts: vec![1.0, load.pages, load.natives, load.bytes, load.compute_us],
        micros: *micros,
    };
    let model = |figures: Vec<f64>| Host {
        request_us: figures[0],
        page_us: figures[1],
        native_us: figures[2],
        us_per_byte: figures[3],
        share: figures[4],
        within: None,
    };
    let (fit, refit) = refit(&samples.iter().map(row).collect::<Vec<_>>(), &before, model)?;
    Some(Host { within: fit.within, ..refit.model })
}
