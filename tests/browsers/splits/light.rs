//! The `light_*` models of the package `onnx`, whose weights are constants, with seeded weights in their place: where all
//! weights are alike, a broken backend answers as a good one does.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use weft::domain::{Datatype, Tensor};

use crate::graphs::{FLOAT, field, number, text};

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

pub(super) fn input(name: &str, seed: u64) -> Vec<Tensor> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let elements = SHAPE.iter().product::<u64>();
    let body: Vec<u8> = (0..elements).flat_map(|_| random.random_range(-1.0..1.0f32).to_le_bytes()).collect();
    vec![Tensor { name: name.to_owned(), datatype: Datatype::Fp32, shape: SHAPE.to_vec(), body: body.into() }]
}

fn graph(graph: &[u8], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let parts = fields(graph);
    let shapes: BTreeMap<&[u8], Vec<u64>> = parts.iter().filter(|part| part.number == 5).map(shape).collect();
    let part = |part: &Field<'_>| match part.number {
        1 => match constant(part.body) {
            Some((of, name)) => field(5, &weight(name, &shapes[of], random)),
            None => part.raw.to_vec(),
        },
        _ => part.raw.to_vec(),
    };
    parts.iter().map(part).collect::<Vec<_>>().concat()
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

/// Kernels keep the size of what passes through. What has one axis is a bias, or one of a norm's four, of which the
/// variance must not be negative: around 1 they cancel each other.
fn weight(name: &str, shape: &[u64], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let inputs = shape[1..].iter().product::<u64>() as f32;
    let reach = (6.0 / inputs).sqrt();
    let range = if shape.len() > 1 { -reach..reach } else { 0.5..1.5 };
    let elements = shape.iter().product::<u64>();
    let values: Vec<u8> =
        (0..elements).flat_map(|_| random.random_range(range.clone()).to_le_bytes()).collect();
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
