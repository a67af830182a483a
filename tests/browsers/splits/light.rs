//! The `light_*` models of the package `onnx`, whose weights are constants, with seeded weights in their place: where all
//! weights are alike, a broken backend answers as a good one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use weft::domain::{Datatype, Tensor};

use crate::graphs::{FLOAT, field, number, text};

/// Values of a vector that is added, and of one that is multiplied with.
const AROUND_NOTHING: Range<f32> = -0.1..0.1;
const AROUND_ONE: Range<f32> = 0.5..1.5;

/// What all of them read.
const SHAPE: [u64; 4] = [1, 3, 224, 224];

/// A field of a protobuf message.
struct Field<'m> {
    number: u64,
    /// With its key.
    raw: &'m [u8],
    body: &'m [u8],
}

/// The model with weights of its own: what `ConstantOfShape` made becomes an initializer of noise.
pub(super) fn seeded(model: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let part = |part: Field<'_>| match part.number {
        7 => field(7, &graph(part.body, &mut random)),
        _ => part.raw.to_vec(),
    };
    fields(model).into_iter().map(part).collect::<Vec<_>>().concat()
}

/// Waves under noise, of another length and in another order of colours for each seed: after what such networks average,
/// noise alone is always the same.
pub(super) fn input(name: &str, seed: u64) -> Vec<Tensor> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let [_, colours, rows, columns] = SHAPE;
    let mut body = Vec::new();
    for (colour, row, column) in (0..colours).flat_map(|colour| {
        (0..rows).flat_map(move |row| (0..columns).map(move |column| (colour, row, column)))
    }) {
        let phase = (column * (seed + 1) + row * (2 * seed + 1)) as f32 / 20.0 + (colour * seed) as f32;
        body.extend((2.0 * phase.sin() + random.random_range(-1.0..1.0f32)).to_le_bytes());
    }
    vec![Tensor { name: name.to_owned(), datatype: Datatype::Fp32, shape: SHAPE.to_vec(), body: body.into() }]
}

fn graph(graph: &[u8], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let parts = fields(graph);
    let shapes: BTreeMap<&[u8], Vec<u64>> = parts.iter().filter(|part| part.number == 5).map(shape).collect();
    let nodes = || parts.iter().filter(|part| part.number == 1).map(|node| node.body);
    let spread: BTreeMap<&[u8], &[u8]> = nodes().filter_map(spread).collect();
    let added: BTreeSet<&[u8]> = nodes().filter(|node| is(node, &["Add", "Sum"])).flat_map(inputs).collect();
    let sums = added.iter().filter_map(|name| spread.get(name).copied());
    let mut vectors: BTreeMap<&[u8], Range<f32>> =
        nodes().filter_map(bias).chain(sums).map(|name| (name, AROUND_NOTHING)).collect();
    vectors.extend(nodes().flat_map(|node| norm(node, &added)));
    let part = |part: &Field<'_>| match part.number {
        1 => match constant(part.body) {
            Some((of, name)) => {
                let vector = vectors.get(name.as_bytes()).cloned().unwrap_or(AROUND_ONE);
                field(5, &weight(name, &shapes[of], vector, random))
            }
            None => part.raw.to_vec(),
        },
        _ => part.raw.to_vec(),
    };
    parts.iter().map(part).collect::<Vec<_>>().concat()
}

fn is(node: &[u8], operators: &[&str]) -> bool {
    only(node, 4).is_some_and(|operator| operators.iter().any(|name| name.as_bytes() == operator))
}

fn inputs(node: &[u8]) -> impl Iterator<Item = &[u8]> {
    fields(node).into_iter().filter(|field| field.number == 1).map(|field| field.body)
}

/// What a convolution or a product adds.
fn bias(node: &[u8]) -> Option<&[u8]> {
    inputs(node).nth(2).filter(|_| is(node, &["Conv", "Gemm"]))
}

/// Of a node that gives a vector more axes: what it makes, and of what.
fn spread(node: &[u8]) -> Option<(&[u8], &[u8])> {
    is(node, &["Unsqueeze"]).then(|| (only(node, 2).unwrap(), only(node, 1).unwrap()))
}

/// A norm's four vectors: scale, bias, mean and variance. What is added to a residual must be small beside it, or each of
/// them doubles what the one before made.
fn norm<'m>(node: &'m [u8], added: &BTreeSet<&[u8]>) -> Vec<(&'m [u8], Range<f32>)> {
    if !is(node, &["BatchNormalization"]) {
        return Vec::new();
    }
    let scale = if added.contains(only(node, 2).unwrap()) { 0.2..0.4 } else { AROUND_ONE };
    inputs(node).skip(1).zip([scale, -0.5..0.5, -0.5..0.5, AROUND_ONE]).collect()
}

/// An initializer's name, and its elements as sizes.
fn shape<'m>(initializer: &Field<'m>) -> (&'m [u8], Vec<u64>) {
    let raw = only(initializer.body, 9).unwrap_or_default();
    (
        only(initializer.body, 8).unwrap(),
        raw.as_chunks().0.iter().map(|size| u64::from_le_bytes(*size)).collect(),
    )
}

/// Of a node that makes a constant: the names of its shape and its own.
fn constant(node: &[u8]) -> Option<(&[u8], &str)> {
    let name = (only(node, 4) == Some(b"ConstantOfShape")).then(|| only(node, 2).unwrap())?;
    Some((only(node, 1).unwrap(), std::str::from_utf8(name).unwrap()))
}

/// A vector of these values, or kernels that keep the size of what passes through.
///
/// Each kernel sums up to nothing: what all channels have in common after a `Relu`, whatever the input, would otherwise
/// grow from layer to layer beside what the input makes of them, until a softmax is the same for all inputs.
fn weight(name: &str, shape: &[u64], vector: Range<f32>, random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let elements = shape.iter().product::<u64>() as usize;
    let mut draw = |range: Range<f32>| -> Vec<f32> {
        (0..elements).map(|_| random.random_range(range.clone())).collect()
    };
    let values = match shape {
        [_] => draw(vector),
        [kernels, ..] => {
            let size = elements / *kernels as usize;
            let reach = (6.0 / size as f32).sqrt();
            let mut values = draw(-reach..reach);
            for kernel in values.chunks_mut(size) {
                let mean = kernel.iter().sum::<f32>() / size as f32;
                for value in kernel {
                    *value -= mean;
                }
            }
            values
        }
        [] => unreachable!("no model has a constant of one element"),
    };
    let values: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    let dims: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    [dims, number(2, FLOAT), text(8, name), field(9, &values)].concat()
}

/// The body of the message's first field of this number.
fn only(message: &[u8], number: u64) -> Option<&[u8]> {
    fields(message).into_iter().find(|field| field.number == number).map(|field| field.body)
}

fn fields(mut message: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (key, mut end) = varint(message);
        let (from, bytes) = match key & 7 {
            0 => (end, varint(&message[end..]).1),
            1 => (end, 8),
            5 => (end, 4),
            _ => {
                let (bytes, after) = varint(&message[end..]);
                (end + after, bytes as usize)
            }
        };
        end = from + bytes;
        fields.push(Field { number: key >> 3, raw: &message[..end], body: &message[from..end] });
        message = &message[end..];
    }
    fields
}

/// A number and how many bytes it took.
fn varint(bytes: &[u8]) -> (u64, usize) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let number = bytes[..length].iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
    (number, length)
}
