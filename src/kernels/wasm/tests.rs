use std::collections::BTreeMap;

use super::{
    SOURCES, bits, calls, compile,
    making::Making,
    program::Setup,
    record::{Function, Record},
};
use crate::{
    domain::Datatype,
    kernels::ir::{
        Attention, Binary, Bits, Call, Conv, Element, Expr, Gather, GatherBits, Keep, Map, MatMul,
        MatMulBits, Norm, NormKind, Packing, Pool, PoolOp, Port, Reduce, ReduceOp, Rotary, Routine, Slot,
        SlotInfo, Softmax, Source, Unary, View, Weight, Window,
    },
};

const ABI: &str = include_str!("../../../web-harness/kernels/abi.h");
const IR: &str = include_str!("../ir.rs");

/// A struct's fields of `abi.h` with their words.
fn fields(name: &str) -> Vec<(String, usize)> {
    let body =
        ABI.split_once(&format!("\nstruct {name} {{\n")).expect(name).1.split_once("\n};").expect(name).0;
    let code: String = body.split("/*").map(|part| part.rsplit("*/").next().unwrap_or(part)).collect();
    code.split(';').map(str::trim).filter(|line| !line.is_empty()).flat_map(declared).collect()
}

fn declared(line: &str) -> Vec<(String, usize)> {
    let line = line.trim_start_matches("const ").trim_start_matches("struct ");
    let (kind, names) = line.split_once(' ').expect("a type and names");
    let each = if kind == "window" { fields("window").iter().map(|(_, words)| words).sum() } else { 1 };
    let one = |name: &str| {
        let name = name.trim().trim_start_matches('*');
        let (name, count) = name.split_once('[').unwrap_or((name, "1]"));
        let count = match count.trim_end_matches(']') {
            "RANK" => 6,
            "RANK + 2" => 8,
            other => other.parse().expect("a number"),
        };
        (name.to_owned(), each * count)
    };
    names.split(',').map(one).collect()
}

fn view(slot: u32, strides: &[i64]) -> View {
    View { slot: Slot(slot), offset: 0, strides: strides.to_vec() }
}

fn window() -> Window {
    Window { input: [4, 4], output: [4, 4], kernel: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0, 0] }
}

fn bits_of(packing: Packing) -> Bits {
    Bits { packing, block: 32, numbers: Slot(1), scales: Slot(2), zeros: Some(Slot(3)) }
}

/// A routine of ten slots of floats, four of them weights in a file.
fn routine(calls: Vec<Call>) -> Routine {
    let slots = (0..10).map(|at| SlotInfo {
        element: if at == 1 || at == 3 { Element::Bytes } else { Element::F32 },
        len: 1024,
    });
    let port = |name: &str, slot| Port {
        name: name.to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![1024],
        slot: Some(Slot(slot)),
    };
    let weight = |slot| {
        let source = Source::File { name: "weights".to_owned(), offset: 0 };
        Weight {
            slot: Slot(slot),
            datatype: if slot == 2 { Datatype::Fp32 } else { Datatype::Uint8 },
            source,
        }
    };
    Routine {
        slots: slots.collect(),
        inputs: vec![port("x", 0)],
        outputs: vec![port("y", 9)],
        weights: [1, 2, 3].map(weight).to_vec(),
        states: Vec::new(),
        once: Vec::new(),
        calls,
    }
}

fn samples() -> Vec<Call> {
    [of_rows(), of_products(), of_planes()].concat()
}

fn of_rows() -> Vec<Call> {
    vec![
        Call::Gather(Gather {
            data: Slot(0),
            indices: Slot(4),
            output: Slot(9),
            outer: 1,
            axis: 1,
            count: 1,
            inner: 1,
        }),
        Call::Reduce(Reduce {
            op: ReduceOp::Sum,
            input: Slot(0),
            output: Slot(9),
            outer: 1,
            len: 1,
            inner: 1,
        }),
        Call::Softmax(Softmax { input: Slot(0), output: Slot(9), outer: 1, len: 1, inner: 1, log: true }),
        Call::Norm(Norm {
            kind: NormKind::Rms,
            input: Slot(0),
            skip: None,
            scale: Some(Slot(2)),
            bias: None,
            output: Slot(9),
            sum: None,
            rows: 1,
            len: 1,
            epsilon: 1e-5,
        }),
    ]
}

fn of_products() -> Vec<Call> {
    vec![
        Call::MatMul(MatMul {
            batch: vec![2],
            m: 2,
            k: 2,
            n: 2,
            a: view(0, &[4, 2, 1]),
            b: view(2, &[4, 2, 1]),
            bias: None,
            output: view(9, &[4, 2, 1]),
            alpha: 1.0,
            activation: Some(Unary::Relu),
        }),
        Call::MatMulBits(MatMulBits {
            a: Slot(0),
            weights: bits_of(Packing::Three),
            bias: None,
            output: Slot(9),
            m: 1,
            k: 32,
            n: 8,
            activation: None,
        }),
        Call::GatherBits(GatherBits {
            weights: bits_of(Packing::Four),
            indices: Slot(4),
            output: Slot(9),
            rows: 8,
            count: 1,
            k: 32,
        }),
    ]
}

fn of_planes() -> Vec<Call> {
    let four = [0, 0, 1, 1];
    vec![
        Call::Attention(Attention {
            batch: 1,
            heads: 1,
            key_heads: 1,
            queries: 1,
            keys: 1,
            size: 1,
            value_size: 1,
            q: view(0, &four),
            k: view(2, &four),
            v: view(4, &four),
            mask: None,
            lengths: None,
            causal: false,
            window: None,
            scale: 1.0,
            softcap: None,
            output: view(9, &four),
        }),
        Call::Rotary(Rotary {
            batch: 1,
            heads: 1,
            rows: 1,
            size: 4,
            turned: 4,
            input: view(0, &four),
            output: view(9, &four),
            cos: Slot(2),
            sin: Slot(4),
            positions_max: 1,
            positions: Slot(5),
            positions_len: 1,
            interleaved: false,
        }),
        Call::Keep(Keep {
            batch: 1,
            heads: 1,
            rows: 1,
            size: 4,
            input: view(0, &four),
            at: Slot(5),
            rows_max: 8,
            output: Slot(9),
            room: 9,
        }),
        Call::Conv(Conv {
            input: Slot(0),
            weight: Slot(2),
            bias: None,
            output: Slot(9),
            batch: 1,
            inputs: 1,
            outputs: 1,
            groups: 1,
            window: window(),
            transposed: false,
            activation: None,
        }),
        Call::Pool(Pool { op: PoolOp::Max, input: Slot(0), output: Slot(9), planes: 1, window: window() }),
    ]
}

fn records(call: &Call) -> Vec<Record> {
    let routine = routine(vec![call.clone()]);
    let mut making = Making::new(&routine);
    making.once = false;
    calls::lower(call, &mut making).expect("a call that there are kernels for");
    making.records.into_iter().map(|(_, record)| record).collect()
}

fn map() -> Call {
    let sum = Expr::Binary(Binary::Add, Box::new(Expr::Input(0)), Box::new(Expr::Float(1.0)));
    Call::Map(Map { shape: vec![4], inputs: vec![view(0, &[1])], output: view(9, &[1]), expr: sum })
}

fn struct_of(function: Function) -> String {
    snake(&format!("{function:?}"))
}

fn snake(name: &str) -> String {
    name.chars().enumerate().fold(String::new(), |mut text, (at, letter)| {
        if letter.is_uppercase() && at > 0 {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
        text
    })
}

#[test]
fn records_have_the_fields_that_the_kernels_read() {
    let mut seen = std::collections::BTreeSet::new();
    for record in samples().iter().flat_map(records) {
        let name = struct_of(record.function);
        let written: Vec<(String, usize)> =
            record.fields.iter().map(|(name, words)| ((*name).to_owned(), words.len())).collect();
        assert_eq!(written, fields(&name), "{name}");
        seen.insert(name);
    }
    let map = &records(&map())[0];
    let own = fields("map");
    let written: Vec<(String, usize)> =
        map.fields.iter().map(|(name, words)| ((*name).to_owned(), words.len())).collect();
    assert_eq!(written[..own.len()], own);
    let input: Vec<(String, usize)> = written[own.len()..][..2].to_vec();
    assert_eq!(input, fields("map_input"));
    // One constant, and one instruction of two words.
    assert_eq!(written.last(), Some(&("instructions".to_owned(), 3)));
    seen.insert("map".to_owned());
    let functions: Vec<String> = enumerated("function").iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), {
        let mut functions = functions.clone();
        functions.sort();
        functions
    });
    for (at, name) in functions.iter().enumerate() {
        let record = samples()
            .iter()
            .chain([&map_call()])
            .flat_map(records)
            .find(|record| struct_of(record.function) == *name);
        assert_eq!(record.expect("one of each").function as usize, at, "{name}");
    }
}

fn map_call() -> Call {
    map()
}

/// What an enum of `abi.h` lists, without what they all begin with.
fn enumerated(name: &str) -> Vec<String> {
    let body = ABI.split_once(&format!("\nenum {name} {{")).expect(name).1.split_once("};").expect(name).0;
    let names: Vec<&str> = body
        .split(',')
        .map(|line| line.rsplit("*/").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty())
        .collect();
    let ahead = names[0].find('_').expect("names begin with their kind") + 1;
    names.iter().map(|name| name[ahead..].to_owned()).collect()
}

/// The variants of an enum of `ir.rs` in their order.
fn variants(name: &str) -> Vec<String> {
    let body =
        IR.split_once(&format!("pub enum {name} {{\n")).expect(name).1.split_once("\n}").expect(name).0;
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.is_empty());
    lines.map(|line| snake(line.trim_end_matches(',')).to_uppercase()).collect()
}

#[test]
fn operations_are_numbered_as_the_kernels_number_them() {
    for (ours, theirs) in [
        ("Unary", "unary"),
        ("Binary", "binary"),
        ("ReduceOp", "reduce_op"),
        ("NormKind", "norm_kind"),
        ("PoolOp", "pool_op"),
    ] {
        let plain =
            |names: Vec<String>| names.into_iter().map(|name| name.replace('_', "")).collect::<Vec<_>>();
        assert_eq!(plain(variants(ours)), plain(enumerated(theirs)), "{ours}");
    }
}

#[test]
fn every_source_of_the_module_counts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web-harness/kernels");
    let files = std::fs::read_dir(folder).expect("the kernels").flatten().map(|entry| entry.path());
    let sources = files.filter(|path| path.extension().is_some_and(|kind| kind == "c" || kind == "h"));
    let mut sources: Vec<String> =
        sources.map(|path| std::fs::read_to_string(path).expect("a source")).collect();
    sources.sort();
    let mut counted: Vec<String> = SOURCES.iter().map(|source| (*source).to_owned()).collect();
    counted.sort();
    assert!(sources == counted, "{} sources, {} of which count", sources.len(), counted.len());
}

#[test]
fn what_is_repacked_makes_room_when_it_has_been_read() {
    let call = samples().into_iter().find(|call| matches!(call, Call::MatMulBits(_))).expect("one");
    let (program, _) = compile(&routine(vec![call])).expect("a program");
    let runs = |setups: &[Setup]| setups.iter().filter(|setup| matches!(setup, Setup::Run(_))).count();
    assert_eq!((runs(&program.shared), runs(&program.own), program.calls.count), (2, 0, 2));
    let mut addresses = BTreeMap::new();
    for setup in &program.shared {
        if let Setup::Fill(fill) = setup {
            *addresses.entry(fill.address).or_insert(0) += 1;
        }
    }
    // The numbers and the zeros in the file go to the same place, one after the other; the scales stay.
    assert_eq!(addresses.values().copied().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn slots_share_places_that_are_free() {
    let map = |from: u32, to: u32| {
        let expr = Expr::Unary(Unary::Neg, Box::new(Expr::Input(0)));
        Call::Map(Map { shape: vec![1024], inputs: vec![view(from, &[1])], output: view(to, &[1]), expr })
    };
    let (program, block) =
        compile(&routine(vec![map(0, 4), map(4, 5), map(5, 6), map(6, 9)])).expect("a program");
    // Two places are enough for a chain.
    let arena = program.memory - program.records.address - program.records.bytes;
    assert!((2 * 4096..2 * 4096 + 128).contains(&arena), "{arena}");
    assert_eq!(block.len() as u64, program.records.bytes);
    assert!(program.shared.is_empty() && program.own.is_empty());
}

#[test]
fn what_there_is_no_kernel_for_is_an_error() {
    let mut wide = samples().into_iter().find(|call| matches!(call, Call::Attention(_))).expect("one");
    if let Call::Attention(attention) = &mut wide {
        attention.size = 2000;
    }
    let problem = compile(&routine(vec![wide])).expect_err("it is too wide");
    assert_eq!(problem.to_string(), "attention: a head is wider than 1024");
    let mut huge = routine(vec![map()]);
    huge.slots[9].len = 1 << 31;
    let problem = compile(&huge).expect_err("it is too large");
    assert!(problem.to_string().contains("bytes of memory, and WebAssembly has 4294967296"), "{problem}");
    let numbers = bits::Numbers { rows: 1, blocks: 1, block: 32, count: 32, row_bytes: 12 };
    assert_eq!(bits::repack(Slot(1), Slot(3), Packing::Three, 4, &numbers).units, 1);
}
