//! Programs without a device: what they are made of, and whether their kernels are WGSL.

pub(crate) mod cases;

use std::collections::BTreeSet;

use super::{
    GpuError, Limits, compile, engine,
    program::{Dispatch, Program},
};
use crate::kernels::ir::{
    Call, Element, Expr, Map, Port, Routine, Slot, SlotInfo, Source, Unary, View, Weight,
};

fn classes() -> [Limits; 2] {
    [Limits::PROMISED, Limits { software: true, ..Limits::PROMISED }]
}

/// Whatever `Program` says of dispatches.
fn check(program: &Program, limits: &Limits) {
    for Dispatch { pipeline, uniform, uniform_bytes, buffers, groups } in
        program.once.iter().chain(&program.calls)
    {
        assert!((*pipeline as usize) < program.pipelines.len());
        assert!(uniform % 256 == 0 && uniform + uniform_bytes <= program.uniforms);
        assert!((1..=8).contains(&buffers.len()), "{} buffers", buffers.len());
        let (written, read) = buffers.split_last().expect("a kernel writes");
        assert!(!read.contains(written), "a kernel reads what it writes");
        assert!(groups.iter().all(|groups| (1..=limits.groups).contains(groups)), "{groups:?}");
    }
}

#[test]
fn every_kernel_is_wgsl_that_keeps_to_what_adapters_promise() {
    let mut seen = BTreeSet::new();
    for limits in classes() {
        for case in cases::all() {
            let made = compile(&case.routine, &limits);
            let (program, _) = made.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            check(&program, &limits);
            for source in program.modules {
                if seen.insert(source.clone()) {
                    valid(&case.name, &source);
                }
            }
        }
    }
    assert!(seen.len() > 100, "{} kernels", seen.len());
}

fn valid(name: &str, source: &str) {
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|error| panic!("{name}: {}\n{source}", error.emit_to_string(source)));
    let flags = naga::valid::ValidationFlags::all();
    let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty());
    validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}\n{source}", error.emit_to_string(source)));
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("types have sizes");
    let shared = module.global_variables.iter().filter(|(_, one)| one.space == naga::AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, one)| layouter[one.ty].size).sum();
    assert!(bytes <= Limits::PROMISED.workgroup_bytes, "{name}: {bytes} bytes of shared memory");
    let threads = module.entry_points[0].workgroup_size.iter().product::<u32>();
    assert!(threads <= Limits::PROMISED.invocations, "{name}: {threads} threads");
}

/// A chain of so many maps over so many elements, by a weight that is added once.
fn chain(links: u32, len: usize) -> Routine {
    let view = |slot| View { slot: Slot(slot), offset: 0, strides: vec![1] };
    let map = |from, to, op| {
        let expr = Expr::Unary(op, Box::new(Expr::Input(0)));
        Call::Map(Map { shape: vec![len], inputs: vec![view(from)], output: view(to), expr })
    };
    let port = |name: &str, slot| Port {
        name: name.to_owned(),
        datatype: crate::domain::Datatype::Fp32,
        shape: vec![len],
        slot: Some(Slot(slot)),
    };
    // 0: the weight, 1 and 2: made of it once, 3: the input, from 4 on: the chain.
    let mut calls: Vec<Call> = (3..3 + links).map(|at| map(at, at + 1, Unary::Neg)).collect();
    let sum =
        Expr::Binary(crate::kernels::ir::Binary::Add, Box::new(Expr::Input(0)), Box::new(Expr::Input(1)));
    let (inputs, output) = (vec![view(3 + links), view(2)], view(4 + links));
    calls.push(Call::Map(Map { shape: vec![len], inputs, output, expr: sum }));
    Routine {
        slots: vec![SlotInfo { element: Element::F32, len }; 5 + links as usize],
        inputs: vec![port("x", 3)],
        outputs: vec![port("y", 4 + links)],
        weights: vec![Weight {
            slot: Slot(0),
            datatype: crate::domain::Datatype::Fp16,
            source: Source::File { name: "w".to_owned(), offset: 3 },
        }],
        states: Vec::new(),
        once: vec![map(0, 1, Unary::Abs), map(1, 2, Unary::Neg)],
        calls,
    }
}

#[test]
fn buffers_are_used_again_when_nobody_reads_them_any_more() {
    let (program, block) = compile(&chain(20, 1000), &Limits::PROMISED).expect("a small routine");
    check(&program, &Limits::PROMISED);
    // The weight, what was made of it, two to go to and fro, and the fault's word.
    assert_eq!(program.buffers, [4000, 4000, 4000, 4000, 4]);
    assert_eq!(program.fault, 4);
    assert_eq!(program.fills.len(), 1);
    assert_eq!((program.fills[0].buffer, program.fills[0].elements), (0, 1000));
    let kept = program.once.last().and_then(|dispatch| dispatch.buffers.last()).expect("made once");
    let writes = program.calls.iter().filter_map(|dispatch| dispatch.buffers.last());
    assert!(writes.clone().all(|written| written != kept), "what was made once stays");
    assert!(writes.clone().all(|written| *written != 0), "weights stay");
    // Sizes are parameters: all links are one kernel with one set of them.
    assert_eq!(program.modules.len(), 3);
    assert_eq!(block.len() as u64, program.uniforms);
    let uniforms: BTreeSet<u64> = program.calls.iter().map(|dispatch| dispatch.uniform).collect();
    assert_eq!(uniforms.len(), 2);
}

#[test]
fn the_same_kernels_serve_other_sizes() {
    let [small, large] = [(3, 1001), (30, 4003)].map(|(links, len)| {
        let (program, _) = compile(&chain(links, len), &Limits::PROMISED).expect("a small routine");
        program.modules
    });
    assert_eq!(small, large);
}

#[test]
fn what_an_adapter_cannot_bear_is_refused_by_its_name() {
    let limits = Limits { binding_bytes: 4 * 999, ..Limits::PROMISED };
    let error = compile(&chain(1, 1000), &limits).expect_err("too large");
    assert_eq!(error.to_string(), "a weight in bytes takes 4000, and the adapter bears 3996");
    let mut routine = chain(1, 1000);
    routine.weights.clear();
    routine.once.clear();
    routine.slots[0].len = 1;
    let error = compile(&routine, &limits).expect_err("too large");
    assert!(error.to_string().starts_with("a value within the model in bytes takes 4000"), "{error}");
    let few = Limits { groups: 3, ..Limits::PROMISED };
    let (program, _) = compile(&chain(1, 64 * 4 * 5), &few).expect("spread over two dimensions");
    assert_eq!(program.calls[0].groups, [3, 2, 1]);
    let error = compile(&chain(1, 64 * 4 * 10), &few).expect_err("too many groups");
    assert!(matches!(error, GpuError::Limit { needed: 10, most: 9, .. }), "{error}");
}

#[test]
fn the_engine_is_called_by_its_kernels() {
    let engine = engine();
    let (version, digest) = engine.rsplit_once('/').expect("a digest behind the version");
    assert_eq!(version, concat!("weft@", env!("CARGO_PKG_VERSION")));
    assert!(digest.len() == 16 && digest.chars().all(|c| c.is_ascii_hexdigit()), "{digest}");
}

#[test]
fn pages_tell_their_limits_by_webgpus_names() {
    let told =
        [("maxStorageBufferBindingSize".to_owned(), 1 << 30), ("maxBufferSize".to_owned(), 1 << 31)].into();
    let limits = Limits::of_page(None, &told);
    assert_eq!(limits, Limits { binding_bytes: 1 << 30, buffer_bytes: 1 << 31, ..Limits::PROMISED });
    let software = crate::domain::Adapter { software: true, ..Default::default() };
    assert!(Limits::of_page(Some(&software), &told).software);
}
