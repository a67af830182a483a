//! A GGUF file's header: what is said about the model, and which tensor lies where.

use std::{collections::BTreeMap, str};

use super::{GgufError, blocks::Kind};

/// Published files have some tens, most about the tokens.
const ENTRIES_MAX: u64 = 1 << 16;

/// The largest models have some two thousand.
const TENSORS_MAX: u64 = 100_000;

/// Lists within lists; files have one level.
const DEPTH_MAX: usize = 4;

/// The format's own limit.
const RANK_MAX: u32 = 4;

/// What tensors are aligned to where the file does not say.
const ALIGNMENT: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'f> {
    Whole(i128),
    Fraction(f32),
    Flag(bool),
    Text(&'f str),
    /// Lists are the vocabulary and merges of a tokenizer, which weights do not need.
    List,
}

#[derive(Debug)]
pub(super) struct Entry<'f> {
    pub(super) name: &'f str,
    /// Outermost first, as everywhere but in the file.
    pub(super) shape: Vec<u64>,
    pub(super) kind: Kind,
    pub(super) from: usize,
    pub(super) to: usize,
}

#[derive(Debug)]
pub(super) struct Header<'f> {
    pub(super) said: BTreeMap<&'f str, Value<'f>>,
    pub(super) tensors: Vec<Entry<'f>>,
}

pub(super) fn read(file: &[u8]) -> Result<Header<'_>, GgufError> {
    let mut cursor = Cursor { file, at: 0 };
    if cursor.take(4).ok() != Some(b"GGUF") {
        return Err(GgufError::NotGguf);
    }
    match cursor.u32()? {
        2 | 3 => {}
        version => return Err(GgufError::Version { version }),
    }
    let (tensors, entries) = (cursor.u64()?, cursor.u64()?);
    if tensors > TENSORS_MAX || entries > ENTRIES_MAX {
        return Err(GgufError::Counts { tensors, entries });
    }
    let mut said = BTreeMap::new();
    for _ in 0..entries {
        let key = cursor.text()?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind, DEPTH_MAX)?;
        if said.insert(key, value).is_some() {
            return Err(GgufError::Twice { name: shown(key) });
        }
    }
    let mut found = Vec::new();
    for _ in 0..tensors {
        found.push(cursor.tensor()?);
    }
    let base = aligned(&cursor, &said)?;
    let tensors =
        found.into_iter().map(|tensor| tensor.placed(base, file.len())).collect::<Result<_, _>>()?;
    Ok(Header { said, tensors })
}

/// Where tensors begin.
fn aligned(cursor: &Cursor<'_>, said: &BTreeMap<&str, Value<'_>>) -> Result<u64, GgufError> {
    let alignment = match said.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::Whole(alignment)) if (1..=1 << 20).contains(alignment) => *alignment as u64,
        Some(_) => return Err(GgufError::Setting { key: "general.alignment".to_owned() }),
    };
    Ok((cursor.at as u64).next_multiple_of(alignment))
}

/// A name for an error's text: it may be as long as the file.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

struct Unplaced<'f> {
    name: &'f str,
    shape: Vec<u64>,
    kind: Kind,
    offset: u64,
}

impl<'f> Unplaced<'f> {
    fn placed(self, base: u64, file: usize) -> Result<Entry<'f>, GgufError> {
        let Self { name, shape, kind, offset } = self;
        let (elements, bytes) = kind.block();
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(elements as u64) {
            return Err(GgufError::Row { tensor: shown(name), row, block: elements });
        }
        // In whatever order somebody multiplies the sizes, the product is a number.
        let most = shape.iter().try_fold(1u64, |product, size| product.checked_mul((*size).max(1)));
        let count = most.map(|most| if shape.contains(&0) { 0 } else { most });
        let size = count.and_then(|count| (count / elements as u64).checked_mul(bytes as u64));
        let from = base.checked_add(offset);
        let range = from.zip(from.zip(size).and_then(|(from, size)| from.checked_add(size)));
        match range {
            Some((from, to)) if to <= file as u64 => {
                Ok(Entry { name, shape, kind, from: from as usize, to: to as usize })
            }
            _ => Err(GgufError::Bounds { tensor: shown(name) }),
        }
    }
}

struct Cursor<'f> {
    file: &'f [u8],
    at: usize,
}

impl<'f> Cursor<'f> {
    fn take(&mut self, bytes: u64) -> Result<&'f [u8], GgufError> {
        let rest = &self.file[self.at..];
        let taken = usize::try_from(bytes).ok().and_then(|bytes| rest.get(..bytes)).ok_or(GgufError::Cut)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.take(N as u64).map(|taken| taken.try_into().expect("as many as were taken"))
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'f str, GgufError> {
        let bytes = self.u64()?;
        let at = self.at;
        str::from_utf8(self.take(bytes)?).map_err(|_| GgufError::Text { at })
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value<'f>, GgufError> {
        Ok(match kind {
            0 => Value::Whole(u8::from_le_bytes(self.array()?).into()),
            1 => Value::Whole(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Whole(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Whole(self.u32()?.into()),
            5 => Value::Whole(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Fraction(f32::from_le_bytes(self.array()?)),
            7 => Value::Flag(self.array::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => {
                self.skip_list(depth)?;
                Value::List
            }
            10 => Value::Whole(self.u64()?.into()),
            11 => Value::Whole(i64::from_le_bytes(self.array()?).into()),
            12 => Value::Fraction(f64::from_le_bytes(self.array()?) as f32),
            kind => return Err(GgufError::ValueKind { kind, at: self.at }),
        })
    }

    fn skip_list(&mut self, depth: usize) -> Result<(), GgufError> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if depth == 0 {
            return Err(GgufError::Deep);
        }
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            // Each takes some bytes of the file, which ends before a wrong count does.
            _ => {
                for _ in 0..count {
                    self.value(kind, depth - 1)?;
                }
                return Ok(());
            }
        };
        self.take(count.checked_mul(width).ok_or(GgufError::Cut)?)?;
        Ok(())
    }

    fn tensor(&mut self) -> Result<Unplaced<'f>, GgufError> {
        let name = self.text()?;
        let rank = self.u32()?;
        if rank > RANK_MAX {
            return Err(GgufError::Rank { tensor: shown(name), rank });
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.u64()?);
        }
        shape.reverse();
        let number = self.u32()?;
        let kind = Kind::numbered(number).ok_or_else(|| GgufError::Kind { tensor: shown(name), number })?;
        Ok(Unplaced { name, shape, kind, offset: self.u64()? })
    }
}
