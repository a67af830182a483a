//! Chains and lanes made for tests. Their figures are invented; every one comes from a seed or a case.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    domain::{BackendKind, Chain, LaneId, OperatorClass, Part, Passing, Share, Unit},
    planner::Candidate,
    predict::{LaneKind, Link, Rate, Speed, Within},
};

pub(super) fn unit(class: OperatorClass, flops: f64, weights: Vec<u32>) -> Unit {
    Unit {
        name: String::new(),
        class,
        part: Part::Other,
        block: None,
        tower: None,
        share: None,
        flops,
        moved: 0.0,
        weights,
    }
}

pub(super) fn value(from: Option<u32>, to: &[u32], output: bool, bytes: f64) -> Passing {
    let name = from.map_or_else(|| "given".to_owned(), |from| format!("of {from}"));
    Passing { name, from, to: to.to_vec(), output, bytes }
}

/// Units with values that skip some, several outputs, and weights that two of them share.
pub(super) fn random_chain(units: usize, random: &mut StdRng) -> Chain {
    let count = units + 2;
    let weights = (0..count).map(|_| random.random_range(1_000..200_000)).collect();
    let unit = |at: usize, random: &mut StdRng| {
        let class = OperatorClass::ALL[random.random_range(0..3)];
        let mut own = vec![at as u32];
        if random.random_bool(0.3) {
            own.push(random.random_range(0..count) as u32);
        }
        Unit { moved: random.random_range(0.0..1e5), ..unit(class, random.random_range(1e4..1e7), own) }
    };
    let units: Vec<_> = (0..units).map(|at| unit(at, random)).collect();
    let last = units.len() as u32 - 1;
    let mut values = vec![value(None, &[0], false, 4_000.0)];
    if last > 2 && random.random_bool(0.5) {
        values.push(value(None, &[1, last], false, random.random_range(100.0..50_000.0)));
    }
    for at in 0..=last {
        let mut to: Vec<u32> =
            (at + 1..=last).filter(|reader| *reader == at + 1 || random.random_bool(0.15)).collect();
        if random.random_bool(0.1) {
            to.retain(|reader| *reader > at + 1);
        }
        let output = at == last || random.random_bool(0.1);
        values.push(value(Some(at), &to, output, random.random_range(100.0..80_000.0)));
    }
    Chain { units, weights, values }
}

/// A transformer of blocks of ten units, with its residual stream.
pub(super) fn transformer(blocks: usize, width: f64, tokens: f64) -> Chain {
    let mut chain = Chain::default();
    let stream = width * tokens * 4.0;
    let add = |chain: &mut Chain, class, part, block, flops: f64, weight_bytes: f64, moved: f64| {
        let weights = if weight_bytes > 0.0 {
            chain.weights.push(weight_bytes as u64);
            vec![chain.weights.len() as u32 - 1]
        } else {
            Vec::new()
        };
        let name = format!("{class:?} {}", chain.units.len());
        chain.units.push(Unit { name, class, part, block, tower: None, share: None, flops, moved, weights });
        chain.units.len() as u32 - 1
    };
    let mut pass = Vec::new();
    let embedding =
        add(&mut chain, OperatorClass::Movement, Part::Embedding, None, 0.0, 30_000.0 * width * 4.0, stream);
    let mut residual = embedding;
    pass.push((None, embedding, tokens * 8.0));
    for block in 0..blocks as u32 {
        let square = width * width;
        let product = 2.0 * tokens * square;
        let attend = |chain: &mut Chain, class, flops, weights| {
            add(chain, class, Part::Attention, Some(block), flops, weights, stream)
        };
        let norm = attend(&mut chain, OperatorClass::Normalisation, 5.0 * tokens * width, width * 8.0);
        let [q, k, v] = [0; 3].map(|_| attend(&mut chain, OperatorClass::MatMul, product, square * 4.0));
        let mix = attend(&mut chain, OperatorClass::Attention, 4.0 * tokens * tokens * width, 0.0);
        let out = attend(&mut chain, OperatorClass::MatMul, product, square * 4.0);
        let feed = |chain: &mut Chain, class, flops, weights| {
            add(chain, class, Part::FeedForward, Some(block), flops, weights, stream)
        };
        let second = feed(&mut chain, OperatorClass::Normalisation, 5.0 * tokens * width, width * 8.0);
        let up = feed(&mut chain, OperatorClass::MatMul, 4.0 * product, square * 16.0);
        let gelu = feed(&mut chain, OperatorClass::Elementwise, 32.0 * tokens * width, 0.0);
        let down = feed(&mut chain, OperatorClass::MatMul, 4.0 * product, square * 16.0);
        pass.extend([
            (Some(residual), norm, stream),
            (Some(residual), out, stream),
            (Some(norm), q, stream),
            (Some(norm), k, stream),
            (Some(norm), v, stream),
            (Some(q), mix, stream),
            (Some(k), mix, stream),
            (Some(v), mix, stream),
            (Some(mix), out, stream),
            (Some(out), second, stream),
            (Some(out), down, stream),
            (Some(second), up, stream),
            (Some(up), gelu, 4.0 * stream),
            (Some(gelu), down, 4.0 * stream),
        ]);
        residual = down;
    }
    let head =
        add(&mut chain, OperatorClass::Normalisation, Part::Head, None, width * tokens, width * 8.0, stream);
    pass.push((Some(residual), head, stream));
    for (from, to, bytes) in pass {
        match chain.values.iter_mut().find(|value| value.from == from && from.is_some()) {
            Some(value) => value.to.push(to),
            None => chain.values.push(value(from, &[to], false, bytes)),
        }
    }
    for value in &mut chain.values {
        value.to.sort_unstable();
    }
    chain.values.push(value(Some(head), &[], true, width * 4.0));
    chain
}

/// Towers of some units each, then units that join them.
pub(super) fn towers(sizes: &[usize], joining: usize, flops: f64) -> Chain {
    let mut chain = Chain::default();
    let mut ends = Vec::new();
    for (tower, size) in sizes.iter().enumerate() {
        for at in 0..*size {
            let number = chain.units.len() as u32;
            chain.weights.push(1_000_000);
            let mut unit = unit(OperatorClass::MatMul, flops, vec![number]);
            unit.tower = Some(tower as u32);
            chain.units.push(unit);
            let from = (at > 0).then(|| number - 1);
            chain.values.push(value(from, &[number], false, 4_000.0));
        }
        ends.push(chain.units.len() as u32 - 1);
    }
    let first = chain.units.len() as u32;
    for at in 0..joining as u32 {
        chain.weights.push(100_000);
        chain.units.push(unit(OperatorClass::MatMul, flops / 10.0, vec![first + at]));
        if at > 0 {
            chain.values.push(value(Some(first + at - 1), &[first + at], false, 4_000.0));
        }
    }
    for end in ends {
        let readers = [first];
        let readers = if joining > 0 { &readers[..] } else { &[] };
        chain.values.push(value(Some(end), readers, joining == 0, 4_000.0));
    }
    if joining > 0 {
        chain.values.push(value(Some(first + joining as u32 - 1), &[], true, 100.0));
    }
    chain
}

/// Layers of a unit that the ways of a product follow, of two units each, in turns; and their sum.
pub(super) fn dealt(layers: usize, ways: u32, flops: f64) -> Chain {
    let mut chain = Chain::default();
    let mut before = None;
    for _ in 0..layers {
        let between = chain.units.len() as u32;
        chain.units.push(unit(OperatorClass::MatMul, flops / 100.0, vec![]));
        for share in (0..2 * ways).map(|at| Share::Way(at % ways)) {
            let weight = chain.weights.len() as u32;
            chain.weights.push(500_000);
            let half = unit(OperatorClass::MatMul, flops / 2.0, vec![weight]);
            chain.units.push(Unit { share: Some(share), ..half });
        }
        let first: Vec<_> = (between + 1..=between + ways).collect();
        let sum = between + 2 * ways + 1;
        let adding = unit(OperatorClass::MatMul, flops / 100.0, vec![]);
        chain.units.push(Unit { share: Some(Share::Sum), ..adding });
        chain.values.push(value(before, &[between], false, 4_000.0));
        chain.values.push(value(Some(between), &first, false, 4_000.0));
        for way in first {
            chain.values.push(value(Some(way), &[way + ways], false, 4_000.0));
            chain.values.push(value(Some(way + ways), &[sum], false, 4_000.0));
        }
        before = Some(sum);
    }
    chain.values.push(value(before, &[], true, 4_000.0));
    chain
}

/// A measured lane that computes so many operations per microsecond.
pub(super) fn lane(name: &str, per_us: f64) -> Candidate {
    let rate = Rate { us_per_flop: 1.0 / per_us, us_per_byte: 1e-5 };
    let within = Some(Within { low: 0.9, high: 1.2 });
    Candidate {
        id: LaneId::new(name),
        kind: LaneKind {
            browser: name.split('-').next().unwrap_or(name).to_owned(),
            backend: BackendKind::Wasm,
            threads: 1,
            software: false,
        },
        speed: Speed { rates: [rate; 8], unit_us: 1.0, step_us: 20.0, samples: 50, within },
        link: Link {
            round_trip_us: 100.0,
            down_us_per_byte: 1e-3,
            up_us_per_byte: 2e-3,
            samples: 50,
            within,
        },
        memory: 1 << 40,
    }
}

/// A lane of its own speed per class, link and memory.
pub(super) fn random_lane(at: usize, random: &mut StdRng) -> Candidate {
    let mut lane = lane(&format!("b{at}-1"), 1.0);
    for rate in &mut lane.speed.rates {
        *rate = Rate {
            us_per_flop: random.random_range(1e-5..5e-4),
            us_per_byte: random.random_range(1e-6..1e-4),
        };
    }
    lane.speed.step_us = random.random_range(0.0..300.0);
    lane.link.round_trip_us = random.random_range(0.0..600.0);
    lane.link.down_us_per_byte = random.random_range(1e-4..1e-2);
    lane.link.up_us_per_byte = random.random_range(1e-4..1e-2);
    lane
}

pub(super) fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}
