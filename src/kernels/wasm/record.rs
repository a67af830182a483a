//! A call as the module reads it: words by the names of its struct's fields in `web-harness/kernels/abi.h`.

use super::WasmError;
use crate::kernels::ir::{Slot, Unary, View};

/// Dimensions that a view has room for.
pub(super) const RANK: usize = 6;

/// An activation that is none.
const NO_ACTIVATION: i64 = 255;

/// In the order of `enum function`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Map,
    Gather,
    Reduce,
    Softmax,
    Norm,
    Matmul,
    MatmulBits,
    GatherBits,
    Attention,
    Rotary,
    Keep,
    Conv,
    Pool,
    Quantise,
    Repack,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    /// A slot's address, and bytes from there.
    Address(Slot, i64),
    Whole(i64),
    Float(f32),
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) function: Function,
    pub(super) units: usize,
    pub(super) fields: Vec<(&'static str, Vec<Word>)>,
    pub(super) reads: Vec<Slot>,
    pub(super) writes: Vec<Slot>,
}

/// Words ahead of a call's own.
const HEAD: usize = 3;

impl Record {
    pub(super) fn new(function: Function, units: usize) -> Self {
        Self { function, units, fields: Vec::new(), reads: Vec::new(), writes: Vec::new() }
    }

    fn field(mut self, name: &'static str, words: Vec<Word>) -> Self {
        self.fields.push((name, words));
        self
    }

    pub(super) fn whole(self, name: &'static str, value: usize) -> Self {
        self.wholes(name, [value])
    }

    pub(super) fn flag(self, name: &'static str, value: bool) -> Self {
        self.whole(name, value.into())
    }

    pub(super) fn wholes(self, name: &'static str, values: impl IntoIterator<Item = usize>) -> Self {
        self.signed(name, values.into_iter().map(|value| i64::try_from(value).unwrap_or(i64::MAX)))
    }

    pub(super) fn signed(self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.field(name, values.into_iter().map(Word::Whole).collect())
    }

    pub(super) fn float(self, name: &'static str, value: f32) -> Self {
        self.field(name, vec![Word::Float(value)])
    }

    pub(super) fn words(self, name: &'static str, words: Vec<Word>) -> Self {
        self.field(name, words)
    }

    pub(super) fn activation(self, activation: Option<Unary>) -> Self {
        self.signed("activation", [activation.map_or(NO_ACTIVATION, |op| op as i64)])
    }

    pub(super) fn read(self, name: &'static str, slot: impl Into<Option<Slot>>) -> Self {
        self.read_at(name, slot.into().map(|slot| (slot, 0)))
    }

    fn read_at(mut self, name: &'static str, place: Option<(Slot, usize)>) -> Self {
        self.reads.extend(place.map(|(slot, _)| slot));
        let word = place.map_or(Word::Whole(0), |(slot, offset)| Word::Address(slot, offset as i64 * 4));
        self.field(name, vec![word])
    }

    pub(super) fn write(self, name: &'static str, slot: impl Into<Option<Slot>>) -> Self {
        self.write_at(name, slot.into().map(|slot| (slot, 0)))
    }

    pub(super) fn write_at(mut self, name: &'static str, place: Option<(Slot, usize)>) -> Self {
        self.writes.extend(place.map(|(slot, _)| slot));
        let word = place.map_or(Word::Whole(0), |(slot, offset)| Word::Address(slot, offset as i64 * 4));
        self.field(name, vec![word])
    }

    /// A view's address and strides, or zeros for none.
    pub(super) fn read_view(
        self,
        names: [&'static str; 2],
        view: Option<&View>,
        strides: impl FnOnce(&View) -> Vec<i64>,
        rank: usize,
    ) -> Self {
        let lies = view.map_or_else(|| vec![0; rank], strides);
        self.read_at(names[0], view.map(|view| (view.slot, view.offset))).signed(names[1], lies)
    }

    pub(super) fn write_view(self, names: [&'static str; 2], view: &View, strides: Vec<i64>) -> Self {
        self.write_at(names[0], Some((view.slot, view.offset))).signed(names[1], strides)
    }

    /// Bytes of the record with its head.
    pub(super) fn bytes(&self) -> usize {
        (HEAD + self.len()) * 4
    }

    fn len(&self) -> usize {
        self.fields.iter().map(|(_, words)| words.len()).sum()
    }

    pub(super) fn encode(&self, address: &dyn Fn(Slot) -> u64, bytes: &mut Vec<u8>) -> Result<(), WasmError> {
        let head = [self.function as usize, self.len(), self.units];
        for value in head {
            bytes.extend(word(i64::try_from(value).unwrap_or(i64::MAX))?);
        }
        for one in self.fields.iter().flat_map(|(_, words)| words) {
            bytes.extend(match one {
                Word::Address(slot, from) => word(address(*slot) as i64 + from)?,
                Word::Whole(value) => word(*value)?,
                Word::Float(value) => value.to_le_bytes(),
            });
        }
        Ok(())
    }
}

/// A number of either sign that 32 bits hold.
fn word(value: i64) -> Result<[u8; 4], WasmError> {
    let narrow = i32::try_from(value).map(i32::to_le_bytes).ok();
    narrow.or_else(|| u32::try_from(value).map(u32::to_le_bytes).ok()).ok_or(WasmError::Wide { value })
}
