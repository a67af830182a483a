//! How GGUF stores elements: as they are, or in blocks that share scales. Blocks are turned into `f32`.

use half::f16;

use crate::onnx::convert::checkpoint::Element;

/// One way of storing elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Elements of a block whose scales have scales of their own.
const SUPERBLOCK: usize = 256;
/// Those two halves of a byte make are half a block apart.
const BLOCK: usize = 32;

impl Kind {
    /// By the number that the format gives it.
    pub(super) fn numbered(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Elements of a block and the bytes that hold them.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (BLOCK, 2 + 16),
            Self::Q4_1 => (BLOCK, 4 + 16),
            Self::Q5_0 => (BLOCK, 2 + 4 + 16),
            Self::Q5_1 => (BLOCK, 4 + 4 + 16),
            Self::Q8_0 => (BLOCK, 2 + 32),
            Self::Q4K => (SUPERBLOCK, 4 + 12 + 128),
            Self::Q5K => (SUPERBLOCK, 4 + 12 + 32 + 128),
            Self::Q6K => (SUPERBLOCK, 128 + 64 + 16 + 2),
        }
    }

    /// What its elements are read as.
    pub(super) fn element(self) -> Element {
        match self {
            Self::F16 => Element::F16,
            Self::Bf16 => Element::Bf16,
            _ => Element::F32,
        }
    }

    pub(super) fn is_plain(self) -> bool {
        self.block().0 == 1
    }

    /// The elements of whole blocks, as little-endian `f32`.
    pub(super) fn dequantise(self, stored: &[u8]) -> Vec<u8> {
        let (elements, bytes) = self.block();
        let mut values = [0f32; SUPERBLOCK];
        let values = &mut values[..elements];
        let mut read = Vec::with_capacity(stored.len() / bytes * elements * 4);
        for block in stored.chunks_exact(bytes) {
            match self {
                Self::F32 | Self::F16 | Self::Bf16 => unreachable!("plain elements are read as they lie"),
                Self::Q4_0 => nibbles(block, 2, values, |d, _, q| d * (q - 8.0)),
                Self::Q4_1 => nibbles(block, 4, values, |d, m, q| d * q + m),
                Self::Q5_0 => fives(block, 2, values, |d, _, q| d * (q - 16.0)),
                Self::Q5_1 => fives(block, 4, values, |d, m, q| d * q + m),
                Self::Q8_0 => q8_0(block, values),
                Self::Q4K | Self::Q5K => q45k(self == Self::Q5K, block, values),
                Self::Q6K => q6k(block, values),
            }
            read.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        read
    }
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Four bits an element, behind a scale and perhaps a minimum, which take `head` bytes.
fn nibbles(block: &[u8], head: usize, values: &mut [f32], value: impl Fn(f32, f32, f32) -> f32) {
    let (d, m) = (half(block, 0), half(block, head - 2));
    for (at, byte) in block[head..].iter().enumerate() {
        values[at] = value(d, m, (byte & 15).into());
        values[at + BLOCK / 2] = value(d, m, (byte >> 4).into());
    }
}

/// Five bits an element: the fifth ones of all stand before the others.
fn fives(block: &[u8], head: usize, values: &mut [f32], value: impl Fn(f32, f32, f32) -> f32) {
    let (d, m) = (half(block, 0), half(block, head - 2));
    let (fifths, fours) = block[head..].split_at(4);
    let fifth = |at: usize| (fifths[at / 8] >> (at % 8) & 1) << 4;
    for (at, byte) in fours.iter().enumerate() {
        values[at] = value(d, m, (byte & 15 | fifth(at)).into());
        values[at + BLOCK / 2] = value(d, m, (byte >> 4 | fifth(at + BLOCK / 2)).into());
    }
}

fn q8_0(block: &[u8], values: &mut [f32]) {
    let d = half(block, 0);
    for (value, byte) in values.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(byte.cast_signed());
    }
}

/// Eight blocks of 32 elements, each with a scale and a minimum of six bits. Two of them share their bytes' halves.
fn q45k(five: bool, block: &[u8], values: &mut [f32]) {
    let (d, minimum) = (half(block, 0), half(block, 2));
    let (scales, rest) = block[4..].split_at(12);
    let (fifths, fours) = rest.split_at(if five { 32 } else { 0 });
    for (at, value) in values.iter_mut().enumerate() {
        let (part, within) = (at / 32, at % 32);
        let (scale, least) = scale(scales, part);
        let byte = fours[part / 2 * 32 + within];
        let four = if part % 2 == 0 { byte & 15 } else { byte >> 4 };
        let fifth = if five { (fifths[within] >> part & 1) << 4 } else { 0 };
        *value = d * scale * f32::from(four | fifth) - minimum * least;
    }
}

/// Scale and minimum of one of eight parts, of six bits each: the first four stand in whole bytes, whose uppermost bits
/// complete the other four.
fn scale(scales: &[u8], part: usize) -> (f32, f32) {
    let (scale, least) = match part {
        0..4 => (scales[part] & 63, scales[part + 4] & 63),
        _ => {
            let low = scales[part + 4];
            (low & 15 | scales[part - 4] >> 6 << 4, low >> 4 | scales[part] >> 6 << 4)
        }
    };
    (scale.into(), least.into())
}

/// Sixteen blocks of 16 elements, each with a scale of eight bits; four bits of an element and two lie apart.
fn q6k(block: &[u8], values: &mut [f32]) {
    let (fours, rest) = block.split_at(128);
    let (twos, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = half(d, 0);
    for (at, value) in values.iter_mut().enumerate() {
        let (hundred, row, within) = (at / 128, at % 128 / 32, at % 32);
        let byte = fours[hundred * 64 + row % 2 * 32 + within];
        let four = if row < 2 { byte & 15 } else { byte >> 4 };
        let two = twos[hundred * 32 + within] >> (row * 2) & 3;
        let scale = scales[hundred * 8 + row * 2 + within / 16].cast_signed();
        *value = d * f32::from(scale) * f32::from((four | two << 4).cast_signed() - 32);
    }
}
