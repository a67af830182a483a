//! A graph's weights: described while the graph is built, brought as `f32` when it is written, one at a time.

use std::{io::Write, ops::Range};

use bytes::Bytes;
use half::{bf16, f16};

use crate::onnx::{
    convert::{
        ConvertError,
        checkpoint::{Checkpoint, Element},
    },
    proto::element,
};

/// Converted at a time: large against a call, small against memory.
const CHUNK_ELEMENTS: usize = 64 * 1024;

/// Rows of a transposed weight that are gathered in one pass over what is stored: as many floats as a cache line holds.
const STRIP_ROWS: usize = 16;

pub(in crate::onnx::convert) struct Weight {
    pub(super) name: String,
    pub(super) dims: Vec<u64>,
    pub(super) source: Source,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// No tensor of the checkpoint's: a shape, a scale, a table.
    Literal {
        data_type: i32,
        bytes: Bytes,
    },
    Stored {
        tensor: String,
    },
    /// A matrix with its rows as columns.
    Transposed {
        tensor: String,
    },
    /// Some rows of a matrix, any of them several times.
    Rows {
        tensor: String,
        rows: Vec<u32>,
    },
    /// The cosine or sine of every position's angle at each frequency, of which the bits are kept.
    Angles {
        frequencies: Vec<u32>,
        sine: bool,
    },
    /// `direction` scaled until its norm over all axes but the last is `magnitude`.
    Normed {
        magnitude: String,
        direction: String,
    },
}

impl Weight {
    pub(in crate::onnx::convert) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::onnx::convert) fn dims(&self) -> &[u64] {
        &self.dims
    }

    pub(in crate::onnx::convert) fn data_type(&self) -> i32 {
        match self.source {
            Source::Literal { data_type, .. } => data_type,
            _ => element::FLOAT,
        }
    }

    pub(in crate::onnx::convert) fn byte_count(&self) -> u64 {
        match &self.source {
            Source::Literal { bytes, .. } => bytes.len() as u64,
            _ => self.dims.iter().fold(size_of::<f32>() as u64, |bytes, size| bytes.saturating_mul(*size)),
        }
    }

    /// The tensors of the checkpoint that it is made of.
    pub(in crate::onnx::convert) fn tensors(&self) -> Vec<&str> {
        match &self.source {
            Source::Literal { .. } | Source::Angles { .. } => Vec::new(),
            Source::Stored { tensor } | Source::Transposed { tensor } | Source::Rows { tensor, .. } => {
                vec![tensor]
            }
            Source::Normed { magnitude, direction } => vec![magnitude, direction],
        }
    }

    pub(in crate::onnx::convert) fn write(
        &self,
        checkpoint: &dyn Checkpoint,
        out: &mut dyn Write,
    ) -> Result<(), ConvertError> {
        match &self.source {
            Source::Literal { bytes, .. } => out.write_all(bytes).map_err(written),
            Source::Stored { tensor } => {
                let stored = Floats::open(checkpoint, tensor)?;
                stored.copy(0..stored.len, out)
            }
            Source::Transposed { tensor } => {
                Floats::open(checkpoint, tensor)?.transpose(self.dims[0] as usize, out)
            }
            Source::Rows { tensor, rows } => {
                let stored = Floats::open(checkpoint, tensor)?;
                let width = self.dims[1] as usize;
                rows.iter().try_for_each(|row| {
                    let from = *row as usize * width;
                    stored.copy(from..from + width, out)
                })
            }
            Source::Angles { frequencies, sine } => angles(self.dims[0], frequencies, *sine, out),
            Source::Normed { magnitude, direction } => {
                let magnitude = Floats::open(checkpoint, magnitude)?;
                Floats::open(checkpoint, direction)?.normed(&magnitude, out)
            }
        }
    }
}

fn written(source: std::io::Error) -> ConvertError {
    ConvertError::Write { source }
}

/// One stored tensor, read as floats.
struct Floats {
    element: Element,
    bytes: Bytes,
    len: usize,
}

impl Floats {
    fn open(checkpoint: &dyn Checkpoint, tensor: &str) -> Result<Self, ConvertError> {
        let name = || tensor.to_owned();
        let stored =
            checkpoint.tensors().get(tensor).ok_or_else(|| ConvertError::NoTensor { name: name() })?;
        let width = match stored.element {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
            element => return Err(ConvertError::NotFloat { tensor: name(), element }),
        };
        let bytes = checkpoint.bytes(tensor)?;
        let elements = stored.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
        let len = elements.and_then(|elements| usize::try_from(elements).ok());
        match len {
            Some(len) if len.checked_mul(width) == Some(bytes.len()) => {
                Ok(Self { element: stored.element, bytes, len })
            }
            _ => Err(ConvertError::Bytes {
                tensor: name(),
                shape: stored.shape.clone(),
                found: bytes.len() as u64,
            }),
        }
    }

    fn get(&self, at: usize) -> f32 {
        let two = || self.bytes.as_chunks::<2>().0[at];
        match self.element {
            Element::F16 => f16::from_le_bytes(two()).to_f32(),
            Element::Bf16 => bf16::from_le_bytes(two()).to_f32(),
            Element::F64 => f64::from_le_bytes(self.bytes.as_chunks::<8>().0[at]) as f32,
            _ => f32::from_le_bytes(self.bytes.as_chunks::<4>().0[at]),
        }
    }

    fn copy(&self, range: Range<usize>, out: &mut dyn Write) -> Result<(), ConvertError> {
        if self.element == Element::F32 {
            return out.write_all(&self.bytes[range.start * 4..range.end * 4]).map_err(written);
        }
        write_floats(range.map(|at| self.get(at)), out)
    }

    /// `columns` are those of the stored matrix, and so the rows of what is written.
    fn transpose(&self, columns: usize, out: &mut dyn Write) -> Result<(), ConvertError> {
        let rows = self.len / columns.max(1);
        let mut strip = vec![0f32; STRIP_ROWS.min(columns) * rows];
        for from in (0..columns).step_by(STRIP_ROWS) {
            let wide = STRIP_ROWS.min(columns - from);
            for row in 0..rows {
                for column in 0..wide {
                    strip[column * rows + row] = self.get(row * columns + from + column);
                }
            }
            write_floats(strip[..wide * rows].iter().copied(), out)?;
        }
        Ok(())
    }

    fn normed(&self, magnitude: &Self, out: &mut dyn Write) -> Result<(), ConvertError> {
        let last = magnitude.len;
        let mut squares = vec![0f64; last];
        for at in 0..self.len {
            squares[at % last] += f64::from(self.get(at)).powi(2);
        }
        let scales: Vec<_> =
            squares.iter().enumerate().map(|(at, sum)| f64::from(magnitude.get(at)) / sum.sqrt()).collect();
        write_floats((0..self.len).map(|at| (f64::from(self.get(at)) * scales[at % last]) as f32), out)
    }
}

/// Angles are rounded to `f32` as in the original, and what is taken of them is exact.
fn angles(positions: u64, frequencies: &[u32], sine: bool, out: &mut dyn Write) -> Result<(), ConvertError> {
    let turn = |position: u64, frequency: u32| {
        let angle = f64::from(position as f32 * f32::from_bits(frequency));
        (if sine { angle.sin() } else { angle.cos() }) as f32
    };
    let row = |position| frequencies.iter().map(move |frequency| turn(position, *frequency));
    write_floats((0..positions).flat_map(row), out)
}

fn write_floats(values: impl Iterator<Item = f32>, out: &mut dyn Write) -> Result<(), ConvertError> {
    let mut chunk = Vec::with_capacity(CHUNK_ELEMENTS * size_of::<f32>());
    for value in values {
        chunk.extend_from_slice(&value.to_le_bytes());
        if chunk.len() == chunk.capacity() {
            out.write_all(&chunk).map_err(written)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk).map_err(written)
}
