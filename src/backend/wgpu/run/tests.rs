//! Every call on an adapter that this machine has, against the reference.

use std::collections::BTreeMap;

use super::{Device, GpuHostError, Loaded, Weights};
use crate::{
    domain::{Datatype, Tensor},
    kernels::{
        gpu::{
            Limits, compile,
            tests::cases::{Case, all, faults},
        },
        host::Host,
        ir::{Call, Element, Expr, Map, Port, Routine, Slot, SlotInfo, Source, Unary, View, Weight},
        reference,
    },
};

/// The adapter that is preferred. Its absence is a skip; in CI, which brings one, it is a failure.
#[allow(clippy::print_stderr, reason = "a skip is said")]
fn device() -> Option<Device> {
    if let Some(info) = Device::list().first() {
        return Some(Device::open(info).expect("a listed adapter opens"));
    }
    let message = "skipped: no adapter; Debian's mesa-vulkan-drivers brings one";
    assert!(std::env::var_os("CI").is_none(), "{message}");
    eprintln!("{message}");
    None
}

fn tensors(inputs: &BTreeMap<String, Host>, ports: &[Port]) -> Vec<Tensor> {
    let tensor = |port: &Port| Tensor {
        name: port.name.clone(),
        datatype: port.datatype,
        shape: port.shape.iter().map(|size| *size as u64).collect(),
        body: inputs[&port.name].encode(port.datatype).expect("the case's own numbers").into(),
    };
    ports.iter().map(tensor).collect()
}

fn load(device: &Device, routine: &Routine) -> Loaded {
    let (program, block) = compile(routine, &device.limits()).expect("a program");
    let no_file = |_: &str, _, _| Err(std::io::ErrorKind::NotFound.into());
    device.load(&program, &block, &no_file, &mut Weights::default()).expect("a program that loads")
}

/// How far a number is off, in parts of what it may be.
fn off(found: f32, wanted: f32, tolerance: f32) -> f32 {
    if found.to_bits() == wanted.to_bits() || (found.is_nan() && wanted.is_nan()) {
        return 0.0;
    }
    let off = (found - wanted).abs() / (tolerance * (1.0 + wanted.abs()));
    if off.is_nan() { f32::INFINITY } else { off }
}

fn problem(device: &Device, case: &Case, limits: &Limits) -> Option<String> {
    let (program, block) = match compile(&case.routine, limits) {
        Ok(made) => made,
        Err(error) => return Some(error.to_string()),
    };
    let no_file = |_: &str, _, _| Err(std::io::ErrorKind::NotFound.into());
    let loaded = device.load(&program, &block, &no_file, &mut Weights::default());
    let inputs = tensors(&case.inputs, &case.routine.inputs);
    let found = loaded.and_then(|mut loaded| device.run(&mut loaded, &inputs, &[]));
    let found = match found {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let wanted =
        reference::run_all(&case.routine, &case.inputs, &|_, _, _| None).expect("the case's own numbers");
    for tensor in found {
        let host = Host::decode(&tensor.body.contiguous(), tensor.datatype).expect("what kernels make");
        let wanted = &wanted[&tensor.name];
        match (&host, wanted) {
            (Host::F32(found), Host::F32(wanted)) => {
                let offs =
                    found.iter().zip(wanted).map(|(found, wanted)| off(*found, *wanted, case.tolerance));
                let (at, worst) = offs
                    .enumerate()
                    .fold((0, 0.0), |worst, next| if next.1 > worst.1 { next } else { worst });
                if worst > 1.0 {
                    return Some(format!(
                        "{at} is {} instead of {}: {worst} times too far",
                        found[at], wanted[at]
                    ));
                }
            }
            _ if host == *wanted => {}
            _ => return Some(format!("{host:?} instead of {wanted:?}")),
        }
    }
    None
}

#[test]
fn every_call_computes_what_the_reference_does() {
    let Some(device) = device() else { return };
    // Kernels for either class of adapter run on any.
    for software in [true, false] {
        let limits = Limits { software, ..Limits::PROMISED };
        let wrong: Vec<String> = all()
            .iter()
            .filter_map(|case| Some(format!("{}: {}", case.name, problem(&device, case, &limits)?)))
            .collect();
        assert!(wrong.is_empty(), "software {software}: {} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn indices_out_of_range_fail_the_step_and_not_the_next_one() {
    let Some(device) = device() else { return };
    for case in faults() {
        let mut loaded = load(&device, &case.routine);
        let inputs = tensors(&case.inputs, &case.routine.inputs);
        let error = device.run(&mut loaded, &inputs, &[]).expect_err(&case.name);
        assert!(matches!(error, GpuHostError::Fault { .. }), "{}: {error}", case.name);
        assert_eq!(error.to_string(), "an index is out of range", "{}", case.name);
        let good: BTreeMap<String, Host> = case
            .inputs
            .iter()
            .map(|(name, host)| match host {
                Host::I64(values) => (name.clone(), Host::I64(vec![0; values.len()])),
                host => (name.clone(), host.clone()),
            })
            .collect();
        device.run(&mut loaded, &tensors(&good, &case.routine.inputs), &[]).expect(&case.name);
    }
    assert_eq!(device.lost(), None);
}

fn view(slot: u32) -> View {
    View { slot: Slot(slot), offset: 0, strides: vec![1] }
}

fn port(name: &str, datatype: Datatype, len: usize, slot: u32) -> Port {
    Port { name: name.to_owned(), datatype, shape: vec![len], slot: Some(Slot(slot)) }
}

/// `y = |w| · x` with halves in a file, `z = |w|`, `i` as it came.
fn with_weights(len: usize) -> Routine {
    let floats = SlotInfo { element: Element::F32, len };
    let map = |shape: usize, inputs: Vec<View>, output, expr| {
        Call::Map(Map { shape: vec![shape], inputs, output: view(output), expr })
    };
    let input = |at| Box::new(Expr::Input(at));
    let product = Expr::Binary(crate::kernels::ir::Binary::Mul, input(0), input(1));
    Routine {
        slots: vec![floats, floats, floats, floats, SlotInfo { element: Element::I32, len: 3 }],
        inputs: vec![port("x", Datatype::Fp16, len, 2), port("i", Datatype::Int64, 3, 4)],
        outputs: vec![
            port("y", Datatype::Fp32, len, 3),
            port("z", Datatype::Bf16, len, 1),
            port("i", Datatype::Int64, 3, 4),
        ],
        weights: vec![Weight {
            slot: Slot(0),
            datatype: Datatype::Fp16,
            source: Source::File { name: "w".to_owned(), offset: 5 },
        }],
        states: Vec::new(),
        once: vec![map(len, vec![view(0)], 1, Expr::Unary(Unary::Abs, input(0)))],
        calls: vec![map(len, vec![view(1), view(2)], 3, product)],
    }
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
}

fn tensor(name: &str, datatype: Datatype, len: usize, bytes: Vec<u8>) -> Tensor {
    Tensor { name: name.to_owned(), datatype, shape: vec![len as u64], body: bytes.into() }
}

#[test]
fn weights_come_from_files_and_programs_share_them() {
    let Some(device) = device() else { return };
    let routine = with_weights(17);
    let (program, block) = compile(&routine, &device.limits()).expect("a program");
    let weight: Vec<f32> = (0..17).map(|at| 0.5 * at as f32 - 4.0).collect();
    let asked = std::cell::Cell::new(0);
    let file = |name: &str, offset: u64, bytes: usize| {
        assert_eq!((name, offset, bytes), ("w", 5, 34));
        asked.set(asked.get() + 1);
        Ok(halves(&weight))
    };
    let mut weights = Weights::default();
    let mut loaded = [(); 2].map(|()| device.load(&program, &block, &file, &mut weights).expect("it loads"));
    assert_eq!(asked.get(), 1, "the second program has the first one's weights");
    assert_eq!(weights.bytes(), 17 * 4);
    let ids = || [-1i64, i64::from(i32::MAX), 7].iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    let inputs =
        [tensor("x", Datatype::Fp16, 17, halves(&[2.0; 17])), tensor("i", Datatype::Int64, 3, ids())];
    for loaded in &mut loaded {
        let found = device.run(loaded, &inputs, &[]).expect("a step");
        let y: Vec<u8> = weight.iter().flat_map(|weight| (weight.abs() * 2.0).to_le_bytes()).collect();
        let z: Vec<u8> =
            weight.iter().flat_map(|weight| half::bf16::from_f32(weight.abs()).to_le_bytes()).collect();
        assert_eq!(found[0], tensor("y", Datatype::Fp32, 17, y.clone()));
        assert_eq!(found[1], tensor("z", Datatype::Bf16, 17, z));
        assert_eq!(found[2], tensor("i", Datatype::Int64, 3, ids()));
        let found = device.run(loaded, &inputs, &["y".to_owned()]).expect("a step");
        assert_eq!(found, [tensor("y", Datatype::Fp32, 17, y)]);
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let Some(device) = device() else { return };
    let routine = with_weights(4);
    let (program, block) = compile(&routine, &device.limits()).expect("a program");
    let gone = |_: &str, _, _| Err(std::io::Error::new(std::io::ErrorKind::NotFound, "gone"));
    let mut weights = Weights::default();
    let error = device.load(&program, &block, &gone, &mut weights).err().expect("no file");
    assert_eq!(error.to_string(), "weights at 5 of the file w: gone");
    assert_eq!(weights.bytes(), 0, "nothing is kept of what failed");
    let file = |_: &str, _, bytes| Ok(vec![0; bytes]);
    let mut loaded = device.load(&program, &block, &file, &mut weights).expect("it loads");
    let x = || tensor("x", Datatype::Fp16, 4, halves(&[1.0; 4]));
    let ids = |id: i64| tensor("i", Datatype::Int64, 3, id.to_le_bytes().repeat(3));
    let cases: [(Vec<Tensor>, &[String], &str); 4] = [
        (vec![x(), ids(1 << 31)], &[], "\"i\" holds a number that is wider than the 32 bits"),
        (vec![x()], &[], "the program is made for another input \"i\""),
        (
            vec![tensor("x", Datatype::Fp16, 3, vec![0; 6]), ids(1)],
            &[],
            "the program is made for another input \"x\"",
        ),
        (vec![x(), ids(1)], &["q".to_owned()], "the model has no output \"q\""),
    ];
    for (inputs, wanted, says) in cases {
        let error = device.run(&mut loaded, &inputs, wanted).expect_err(says);
        assert!(error.to_string().starts_with(says), "{error}");
    }
    device.run(&mut loaded, &[x(), ids(1)], &[]).expect("the device goes on");
}

#[test]
fn a_kernel_that_is_none_and_a_lost_device_are_errors_with_names() {
    let Some(device) = device() else { return };
    let (mut program, block) = compile(&with_weights(4), &device.limits()).expect("a program");
    let file = |_: &str, _, bytes| Ok(vec![0; bytes]);
    let good = program.modules[0].clone();
    program.modules[0] = good.replace("return", "retrun");
    let error = device.load(&program, &block, &file, &mut Weights::default()).err().expect("no WGSL");
    assert!(error.to_string().starts_with("the GPU refuses a kernel:"), "{error}");
    program.modules[0] = good;
    let mut loaded = device.load(&program, &block, &file, &mut Weights::default()).expect("it loads");
    assert_eq!(device.lost(), None);
    device.handle.destroy();
    let inputs =
        [tensor("x", Datatype::Fp16, 4, halves(&[1.0; 4])), tensor("i", Datatype::Int64, 3, vec![0; 24])];
    let error = device.run(&mut loaded, &inputs, &[]).expect_err("a destroyed device");
    assert!(matches!(error, GpuHostError::Lost { .. }), "{error}");
    assert!(device.lost().is_some());
    let error = device.run(&mut loaded, &inputs, &[]).expect_err("it stays lost");
    assert!(matches!(error, GpuHostError::Lost { .. }), "{error}");
}
