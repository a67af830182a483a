//! How many messages and names a file is made of, told before they are decoded: a few bytes of a file can become hundreds
//! in memory, and graphs within graphs a deep stack.

use super::OnnxError;

/// Nodes, weights, names, attributes and the like in one file. A node of a language model has about twenty, so that
/// this is room for 200,000 of them; decoded they take 1.5 GB at the very worst.
pub(super) const PARTS_MAX: usize = 1 << 22;

/// Messages within each other, which is about 30 graphs. Prost decodes no more.
pub(super) const NESTED_MAX: usize = 100;

/// What a length-delimited field holds.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Port,
    Type,
    /// Text, bytes, packed numbers, or a message that holds none of the others.
    Leaf,
}

impl Kind {
    /// What its field of that number holds.
    fn field(self, number: u64) -> Self {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 11..=13) | (Self::Function, 12) => Self::Port,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            // A type is a tree of types, values and dimensions.
            (Self::Attribute, 14 | 15) | (Self::Port, 2) | (Self::Type, 1 | 2 | 4 | 5 | 8 | 9) => Self::Type,
            _ => Self::Leaf,
        }
    }
}

/// Refuses a file with more parts, or deeper ones, than can be decoded.
/// What is no protobuf is left to the decoder, which says so.
pub(super) fn check(file: &[u8]) -> Result<(), OnnxError> {
    let mut count = 0;
    let mut open = vec![(Kind::Model, file)];
    while let Some((kind, rest)) = open.last_mut() {
        let Some((number, payload)) = field(rest) else {
            open.pop();
            continue;
        };
        count += 1;
        if count > PARTS_MAX {
            return Err(OnnxError::Parts { most: PARTS_MAX });
        }
        let Some(payload) = payload else { continue };
        match kind.field(number) {
            Kind::Leaf => {}
            inner if open.len() < NESTED_MAX => open.push((inner, payload)),
            _ => return Err(OnnxError::Nested { most: NESTED_MAX }),
        }
    }
    Ok(())
}

/// Takes the next field: its number, and its bytes if it has a length. Nothing at the end, and where it is broken.
fn field<'f>(rest: &mut &'f [u8]) -> Option<(u64, Option<&'f [u8]>)> {
    let tag = varint(rest)?;
    let payload = match tag & 7 {
        0 => varint(rest).map(|_| None)?,
        1 => take(rest, 8).map(|_| None)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Some(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| None)?,
        _ => return None,
    };
    Some((tag >> 3, payload))
}

fn take<'f>(rest: &mut &'f [u8], length: usize) -> Option<&'f [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    // Ten groups of seven bits hold 64.
    for at in 0..10 {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
