//! Inputs for a model that came without any: the same for the same seed, within the ranges that its graph implies.

use std::collections::BTreeSet;

use half::{bf16, f16};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::{
    domain::{Body, Datatype, Dim, Port, Signature, Tensor},
    onnx::{InputRange, Values},
};

/// Sizes to try for a dimension that the model leaves open: usual ones for text, audio and images, small ones first.
const SIZES: [u64; 8] = [16, 64, 128, 256, 512, 1, 4, 1024];

/// Elements of the largest input worth trying: 64 MiB of fp32.
const ELEMENTS_MAX: u64 = 1 << 24;

/// Open dimensions that are varied one by one; more than this and only common sizes are tried.
const OPEN_MAX: usize = 8;

/// How often a flag is set: a mask that hides everything would hide the model too.
const FLAG_SET: f64 = 7.0 / 8.0;

/// `sets` inputs with the given shapes, one per input of the signature.
///
/// Noise alone looks the same to many models, so the sets alternate between noise, waves, a narrow band and sparse values.
pub fn seeded(
    signature: &Signature,
    ranges: &[InputRange],
    shapes: &[Vec<u64>],
    seed: u64,
    sets: usize,
) -> Vec<Vec<Tensor>> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut set = |at: usize| {
        let ports = signature.inputs.iter().zip(shapes);
        ports
            .map(|(port, shape)| {
                let elements = elements(shape).unwrap_or(0);
                let values = ranges.iter().find(|range| range.name == port.name).map(|range| &range.values);
                let mut texture = Texture::new(at, &mut random);
                let mut bytes = Vec::new();
                for element in 0..elements {
                    push(&mut bytes, port.datatype, values, texture.next(element, &mut random));
                }
                Tensor {
                    name: port.name.clone(),
                    datatype: port.datatype,
                    shape: shape.clone(),
                    body: Body::from(bytes),
                }
            })
            .collect()
    };
    (0..sets).map(&mut set).collect()
}

/// How the elements of one tensor follow each other, as numbers from 0 to 1.
enum Texture {
    Noise,
    Wave { phase: f64, step: f64 },
    Band { from: f64 },
    Sparse { ground: f64 },
}

impl Texture {
    fn new(set: usize, random: &mut Xoshiro256PlusPlus) -> Self {
        match set % 4 {
            0 => Self::Noise,
            1 => Self::Wave { phase: random.random_range(0.0..6.0), step: random.random_range(0.02..0.5) },
            2 => Self::Band { from: random.random_range(0.0..0.875) },
            _ => Self::Sparse { ground: random.random() },
        }
    }

    fn next(&mut self, element: u64, random: &mut Xoshiro256PlusPlus) -> f64 {
        let noise: f64 = random.random();
        match self {
            Self::Noise => noise,
            Self::Wave { phase, step } => {
                0.5 + 0.45 * (*phase + *step * element as f64).sin() + 0.1 * (noise - 0.5)
            }
            Self::Band { from } => *from + 0.125 * noise,
            Self::Sparse { ground } => {
                if random.random_ratio(1, 16) {
                    noise
                } else {
                    *ground
                }
            }
        }
    }
}

fn push(bytes: &mut Vec<u8>, datatype: Datatype, values: Option<&Values>, unit: f64) {
    if datatype == Datatype::Bytes {
        return push_word(bytes, unit);
    }
    match values {
        Some(Values::Integers { low: 0, high: 1 }) => {
            push_number(bytes, datatype, f64::from(unit < FLAG_SET));
        }
        Some(Values::Integers { low, high }) => {
            let count = (high - low) as f64 + 1.0;
            push_number(bytes, datatype, (*low as f64 + (unit * count).floor()).min(*high as f64));
        }
        Some(Values::OneOf(choices)) if !choices.is_empty() => {
            let at = ((unit * choices.len() as f64) as usize).min(choices.len() - 1);
            push_number(bytes, datatype, choices[at] as f64);
        }
        Some(Values::Reals { low, high }) => push_number(bytes, datatype, low + unit * (high - low)),
        _ => push_number(bytes, datatype, unit.round()),
    }
}

fn push_number(bytes: &mut Vec<u8>, datatype: Datatype, value: f64) {
    match datatype {
        Datatype::Bool | Datatype::Uint8 => bytes.push(value as u8),
        Datatype::Int8 => bytes.extend((value as i8).to_le_bytes()),
        Datatype::Uint16 => bytes.extend((value as u16).to_le_bytes()),
        Datatype::Int16 => bytes.extend((value as i16).to_le_bytes()),
        Datatype::Uint32 => bytes.extend((value as u32).to_le_bytes()),
        Datatype::Int32 => bytes.extend((value as i32).to_le_bytes()),
        Datatype::Uint64 => bytes.extend((value as u64).to_le_bytes()),
        Datatype::Int64 => bytes.extend((value as i64).to_le_bytes()),
        Datatype::Fp16 => bytes.extend(f16::from_f64(value).to_le_bytes()),
        Datatype::Bf16 => bytes.extend(bf16::from_f64(value).to_le_bytes()),
        Datatype::Fp32 => bytes.extend((value as f32).to_le_bytes()),
        Datatype::Fp64 => bytes.extend(value.to_le_bytes()),
        Datatype::Bytes => unreachable!("texts are written as words"),
    }
}

/// One letter, repeated: both differ from text to text as numbers would.
fn push_word(bytes: &mut Vec<u8>, unit: f64) {
    let letter = b'a' + (unit * 25.0) as u8;
    let length = 1 + (unit * 16.0) as u32;
    bytes.extend(length.to_le_bytes());
    bytes.extend(std::iter::repeat_n(letter, length as usize));
}

/// Shapes to try natively, in this order, until one runs: one shape per input of the signature.
/// Empty when an input is larger than what is worth trying.
///
/// Batches are of one. Other open dimensions get a common size, and then one of them that size and the others 1.
pub fn shape_candidates(signature: &Signature) -> Vec<Vec<Vec<u64>>> {
    let open = open_dimensions(signature);
    let mut candidates = Vec::new();
    match open.len() {
        0 => candidates.push(shapes(signature, &|_| 1)),
        _ => candidates.extend(SIZES.iter().map(|size| shapes(signature, &|_| *size))),
    }
    if open.len() > 1 {
        for size in SIZES {
            let alone = |wanted| shapes(signature, &|found| if found == wanted { size } else { 1 });
            candidates.extend(open.iter().take(OPEN_MAX).map(alone));
        }
    }
    candidates.retain(|shapes| {
        shapes.iter().all(|shape| elements(shape).is_some_and(|count| count <= ELEMENTS_MAX))
    });
    candidates
}

fn elements(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size))
}

/// An open dimension: all that share a symbol are one, a nameless one is its place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Open {
    Symbol(String),
    Place(String, usize),
}

fn open(signature: &Signature, port: &Port, axis: usize) -> Option<Open> {
    match &port.shape[axis] {
        Dim::Symbol(symbol) if !is_batch_symbol(signature, symbol) => Some(Open::Symbol(symbol.clone())),
        Dim::Free(_) if !is_batch(port, axis) => Some(Open::Place(port.name.clone(), axis)),
        _ => None,
    }
}

/// The first dimension of several is taken as the batch.
fn is_batch(port: &Port, axis: usize) -> bool {
    axis == 0 && port.shape.len() > 1
}

fn is_batch_symbol(signature: &Signature, symbol: &str) -> bool {
    let first =
        |port: &Port| is_batch(port, 0) && matches!(&port.shape[0], Dim::Symbol(found) if found == symbol);
    symbol.to_lowercase().contains("batch") || signature.inputs.iter().any(first)
}

fn open_dimensions(signature: &Signature) -> BTreeSet<Open> {
    signature
        .inputs
        .iter()
        .flat_map(|port| (0..port.shape.len()).filter_map(|axis| open(signature, port, axis)))
        .collect()
}

fn shapes(signature: &Signature, size: &dyn Fn(&Open) -> u64) -> Vec<Vec<u64>> {
    let shape = |port: &Port| {
        let dims = port.shape.iter().enumerate();
        dims.map(|(axis, dim)| match dim {
            Dim::Fixed(size) => *size,
            _ => open(signature, port, axis).map_or(1, |open| size(&open)),
        })
        .collect()
    };
    signature.inputs.iter().map(shape).collect()
}
