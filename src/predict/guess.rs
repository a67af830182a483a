//! What a lane and its link are thought to take before anything is measured there.
//!
//! Only ratios matter much: a plan is never called faster for these.

use serde::{Deserialize, Serialize};

use super::speed::{Link, Rate, Speed, Work};
use crate::domain::{BackendKind, OperatorClass};

/// What is known of a lane before it has run anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneKind {
    /// Its product, as `chromium`; `native` for the daemon's own process.
    pub browser: String,
    pub backend: BackendKind,
    pub threads: u32,
    /// Whether its GPU is computed by a CPU.
    pub software: bool,
}

impl LaneKind {
    /// Of the machine's processors, how many it keeps busy while it computes.
    pub fn processors(&self) -> f64 {
        if self.backend.on_gpu() && !self.software { 0.0 } else { f64::from(self.threads.max(1)) }
    }
}

/// Microseconds per operation and per byte of one thread in WASM, in the order of [`OperatorClass::ALL`].
///
/// A transformer of 6 layers, width 384, 128 tokens is 2.9 billion operations and took 109 ms in Chromium; what is not
/// a product of matrices is bound by memory, of which a thread moves some 5 GB a second.
const WASM: [(f64, f64); 8] = [
    (3.7e-5, 2e-5),
    (7e-5, 2e-5),
    (1e-4, 2e-4),
    (1e-4, 2e-4),
    (5e-5, 1e-4),
    (1e-4, 1e-4),
    (0.0, 2e-4),
    (1e-4, 2e-4),
];

/// How many times faster than one thread in WASM a backend computes, and what it takes per unit and per step.
struct Pace {
    times: f64,
    unit_us: f64,
    step_us: f64,
}

/// By the medians in `browsers/*.toml` and those of native ONNX Runtime; a unit of a GPU's is an order to its queue.
/// Our own kernels are thought to be as the engine's in the same place.
fn pace(kind: &LaneKind) -> Pace {
    let threads = f64::from(kind.threads.max(1));
    match kind.backend {
        BackendKind::Ort(_) => Pace { times: 3.5 * threads, unit_us: 3.0, step_us: 50.0 },
        BackendKind::Wasm | BackendKind::WeftWasm => Pace { times: threads, unit_us: 5.0, step_us: 300.0 },
        BackendKind::Webnn => Pace { times: 1.7 * threads, unit_us: 5.0, step_us: 500.0 },
        BackendKind::Webgpu | BackendKind::WeftWgsl | BackendKind::Wgpu if kind.software => {
            Pace { times: 0.1, unit_us: 500.0, step_us: 5_000.0 }
        }
        BackendKind::Webgpu | BackendKind::WeftWgsl => Pace { times: 30.0, unit_us: 30.0, step_us: 2_000.0 },
        BackendKind::Wgpu => Pace { times: 30.0, unit_us: 30.0, step_us: 500.0 },
    }
}

/// How well products are thought to do what they are said to be best for, where 1 is the best of them: images, texts and
/// sound in Chrome, Firefox and Edge.
const AFFINITIES: [[f64; 3]; 3] = [[1.0, 0.8, 0.7], [0.8, 0.7, 1.0], [0.7, 1.0, 0.6]];

/// Which of these a class of operators stands for: convolutions are images, recurrent layers sound, the rest texts.
fn affinity(browser: &str, class: OperatorClass) -> f64 {
    let row = match class {
        OperatorClass::Conv => AFFINITIES[0],
        OperatorClass::Recurrent => AFFINITIES[2],
        _ => AFFINITIES[1],
    };
    let [chrome, firefox, edge] = row;
    // Of others nothing is said.
    match browser {
        "firefox" => firefox,
        "edge" => edge,
        name if name.starts_with("chrom") => chrome,
        _ => (chrome + firefox + edge) / 3.0,
    }
}

/// What a lane of this kind is thought to take.
pub fn speed(kind: &LaneKind) -> Speed {
    let Pace { times, unit_us, step_us } = pace(kind);
    let rate = |class: OperatorClass| {
        let (us_per_flop, us_per_byte) = WASM[class as usize];
        // The rates are Chromium's, whose affinity they hold.
        let fit = affinity(&kind.browser, class) / affinity("chromium", class);
        let times = if kind.backend.is_native() { times } else { times * fit };
        Rate { us_per_flop: us_per_flop / times, us_per_byte: us_per_byte / times }
    };
    Speed { rates: OperatorClass::ALL.map(rate), unit_us, step_us, samples: 0, within: None }
}

/// What passing values to a lane of this kind is thought to take: half a round trip of a WebSocket's echo each way, as
/// measured from Workers for 2.4 KB and 16 MiB; within the process it is a copy.
pub fn link(kind: &LaneKind) -> Link {
    let (round_trip_us, us_per_byte) = match kind.browser.as_str() {
        _ if kind.backend.is_native() => (20.0, 1e-4),
        "firefox" => (600.0, 7.8e-3),
        name if name.starts_with("chrom") || name == "edge" => (450.0, 3.5e-3),
        _ => (500.0, 5e-3),
    };
    Link {
        round_trip_us,
        down_us_per_byte: us_per_byte,
        up_us_per_byte: us_per_byte,
        samples: 0,
        within: None,
    }
}

/// What a lane of this kind takes when one step of so much work took it so many microseconds, its link's share included.
/// One figure says how fast it is, not at what: classes of operators keep their proportions.
pub fn scaled(kind: &LaneKind, work: &Work, step_us: f64) -> Speed {
    /// However fast a step was, some of it was computed.
    const COMPUTED_LEAST: f64 = 0.05;
    let mut speed = speed(kind);
    let computed = (step_us - link(kind).round_trip_us).max(step_us * COMPUTED_LEAST);
    let times = computed / speed.step(work);
    for rate in &mut speed.rates {
        rate.us_per_flop *= times;
        rate.us_per_byte *= times;
    }
    speed.unit_us *= times;
    speed.step_us *= times;
    speed.samples = 1;
    speed
}
