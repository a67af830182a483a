//! Elements as tensors and files have them, and as kernels hold them: 32 bits wide.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::domain::Datatype;

/// Why elements cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A number does not fit 32 bits.
    Wide,
    Datatype,
}

/// The words of elements.
pub(super) fn widen(datatype: Datatype, bytes: &[u8]) -> Result<Cow<'_, [u8]>, Wrong> {
    let fits = |value: i64| i32::try_from(value).map_err(|_| Wrong::Wide);
    Ok(Cow::Owned(match datatype {
        Datatype::Fp32 | Datatype::Int32 => return Ok(Cow::Borrowed(bytes)),
        Datatype::Fp16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32().to_le_bytes()),
        Datatype::Bf16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32().to_le_bytes()),
        Datatype::Bool | Datatype::Uint8 => each(bytes, |[byte]: [u8; 1]| i32::from(byte).to_le_bytes()),
        Datatype::Int8 => each(bytes, |bytes| i32::from(i8::from_le_bytes(bytes)).to_le_bytes()),
        Datatype::Uint16 => each(bytes, |bytes| i32::from(u16::from_le_bytes(bytes)).to_le_bytes()),
        Datatype::Int16 => each(bytes, |bytes| i32::from(i16::from_le_bytes(bytes)).to_le_bytes()),
        Datatype::Uint32 => try_each(bytes, |bytes| fits(u32::from_le_bytes(bytes).into()))?,
        Datatype::Int64 => try_each(bytes, |bytes| fits(i64::from_le_bytes(bytes)))?,
        Datatype::Uint64 => {
            try_each(bytes, |bytes| fits(i64::try_from(u64::from_le_bytes(bytes)).map_err(|_| Wrong::Wide)?))?
        }
        Datatype::Fp64 | Datatype::Bytes => return Err(Wrong::Datatype),
    }))
}

/// The elements of words.
pub(super) fn narrow(datatype: Datatype, words: &[u8]) -> Vec<u8> {
    let int = i32::from_le_bytes;
    match datatype {
        Datatype::Fp16 => each(words, |word| f16::from_f32(f32::from_le_bytes(word)).to_le_bytes()),
        Datatype::Bf16 => each(words, |word| bf16::from_f32(f32::from_le_bytes(word)).to_le_bytes()),
        Datatype::Bool => each(words, |word| [u8::from(int(word) != 0)]),
        Datatype::Uint8 | Datatype::Int8 => each(words, |[low, _, _, _]: [u8; 4]| [low]),
        Datatype::Uint16 | Datatype::Int16 => each(words, |[low, high, _, _]: [u8; 4]| [low, high]),
        Datatype::Uint64 | Datatype::Int64 => each(words, |word| i64::from(int(word)).to_le_bytes()),
        Datatype::Fp32 | Datatype::Int32 | Datatype::Uint32 | Datatype::Fp64 | Datatype::Bytes => {
            words.to_vec()
        }
    }
}

fn each<const N: usize, const M: usize>(bytes: &[u8], make: impl Fn([u8; N]) -> [u8; M]) -> Vec<u8> {
    bytes.as_chunks::<N>().0.iter().flat_map(|element| make(*element)).collect()
}

fn try_each<const N: usize>(
    bytes: &[u8],
    make: impl Fn([u8; N]) -> Result<i32, Wrong>,
) -> Result<Vec<u8>, Wrong> {
    let mut words = Vec::with_capacity(bytes.len() / N * 4);
    for element in bytes.as_chunks::<N>().0 {
        words.extend_from_slice(&make(*element)?.to_le_bytes());
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_become_words_and_words_elements() {
        let cases: [(Datatype, &[u8], &[i32]); 9] = [
            (Datatype::Bool, &[0, 1], &[0, 1]),
            (Datatype::Uint8, &[0, 255], &[0, 255]),
            (Datatype::Int8, &[128, 127], &[-128, 127]),
            (Datatype::Uint16, &[255, 255], &[65535]),
            (Datatype::Int16, &[255, 255], &[-1]),
            (Datatype::Int32, &[1, 0, 0, 128], &[i32::MIN + 1]),
            (Datatype::Uint32, &[255, 255, 255, 127], &[i32::MAX]),
            (Datatype::Int64, &[255; 8], &[-1]),
            (Datatype::Uint64, &[7, 0, 0, 0, 0, 0, 0, 0], &[7]),
        ];
        for (datatype, bytes, wanted) in cases {
            let words: Vec<u8> = wanted.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(widen(datatype, bytes).as_deref(), Ok(&words[..]), "{datatype}");
            assert_eq!(narrow(datatype, &words), bytes, "{datatype}");
        }
        let halves: [(Datatype, [u8; 2], f32); 3] = [
            (Datatype::Fp16, [0, 0x3c], 1.0),
            (Datatype::Fp16, [0, 0xfc], f32::NEG_INFINITY),
            (Datatype::Bf16, [0x49, 0xc0], -3.140_625),
        ];
        for (datatype, bytes, value) in halves {
            assert_eq!(widen(datatype, &bytes).as_deref(), Ok(&value.to_le_bytes()[..]), "{datatype}");
            assert_eq!(narrow(datatype, &value.to_le_bytes()), bytes, "{datatype}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let wide: [(Datatype, Vec<u8>); 4] = [
            (Datatype::Int64, (i64::from(i32::MAX) + 1).to_le_bytes().to_vec()),
            (Datatype::Int64, (i64::from(i32::MIN) - 1).to_le_bytes().to_vec()),
            (Datatype::Uint64, u64::MAX.to_le_bytes().to_vec()),
            (Datatype::Uint32, u32::MAX.to_le_bytes().to_vec()),
        ];
        for (datatype, bytes) in wide {
            assert_eq!(widen(datatype, &bytes), Err(Wrong::Wide), "{datatype}");
        }
        assert_eq!(widen(Datatype::Fp64, &[0; 8]), Err(Wrong::Datatype));
    }
}
