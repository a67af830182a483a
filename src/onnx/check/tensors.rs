//! One weight: its element type, its shape, and as many elements as that takes, here or in another file.

use super::{
    error::CheckError,
    external::{self, Outside},
};
use crate::onnx::{
    external::is_external,
    proto::{SparseTensorProto, TensorProto, element},
};

/// Where an element type keeps its elements when they are not raw.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Floats,
    Int32s,
    Int64s,
    Doubles,
    Uint64s,
    Strings,
}

/// How an element type is stored.
struct Layout {
    /// 0 for text, which has no fixed size.
    bits: u64,
    list: List,
    /// Entries of the list for so many elements, as a fraction.
    entries: (u64, u64),
}

fn layout(code: i32) -> Option<Layout> {
    let layout = |bits, list, entries| Some(Layout { bits, list, entries });
    match code {
        element::FLOAT => layout(32, List::Floats, (1, 1)),
        element::COMPLEX64 => layout(64, List::Floats, (2, 1)),
        element::DOUBLE => layout(64, List::Doubles, (1, 1)),
        element::COMPLEX128 => layout(128, List::Doubles, (2, 1)),
        element::INT64 => layout(64, List::Int64s, (1, 1)),
        element::UINT32 => layout(32, List::Uint64s, (1, 1)),
        element::UINT64 => layout(64, List::Uint64s, (1, 1)),
        element::INT32 => layout(32, List::Int32s, (1, 1)),
        element::INT16 | element::UINT16 | element::FLOAT16 | element::BFLOAT16 => {
            layout(16, List::Int32s, (1, 1))
        }
        // BOOL, the 8-bit integers, the 8-bit floats.
        element::UINT8 | element::INT8 | element::BOOL | 17..=20 | 24 => layout(8, List::Int32s, (1, 1)),
        // Packed in bytes, also where the bytes are listed.
        element::UINT4 | element::INT4 | element::FLOAT4E2M1 => layout(4, List::Int32s, (1, 2)),
        element::UINT2 | element::INT2 => layout(2, List::Int32s, (1, 4)),
        element::STRING => layout(0, List::Strings, (1, 1)),
        _ => None,
    }
}

/// Bits of one element; nothing for text and types that do not exist.
pub(in crate::onnx) fn bits(code: i32) -> Option<u64> {
    layout(code).map(|layout| layout.bits).filter(|bits| *bits > 0)
}

/// Bytes of a tensor of this element type and so many elements; nothing for text and types that do not exist.
pub(in crate::onnx) fn byte_size(code: i32, elements: u64) -> Option<u64> {
    Some(elements.checked_mul(bits(code)?)?.div_ceil(8))
}

pub(super) fn elements(dims: &[i64], tensor: &str) -> Result<u64, CheckError> {
    if let Some(size) = dims.iter().find(|size| **size < 0) {
        return Err(CheckError::Dimension { tensor: tensor.to_owned(), size: *size });
    }
    // Zero first: an empty tensor may have any other dimensions.
    if dims.contains(&0) {
        return Ok(0);
    }
    let product = dims.iter().try_fold(1u64, |product, size| product.checked_mul(size.unsigned_abs()));
    product.ok_or_else(|| CheckError::Overflow { tensor: tensor.to_owned() })
}

pub(super) fn check(
    tensor: &TensorProto,
    called: &str,
    outside: &dyn Fn(&str) -> Outside,
) -> Result<(), CheckError> {
    let code = tensor.data_type;
    let layout = layout(code).ok_or_else(|| CheckError::ElementType { tensor: called.to_owned(), code })?;
    let count = elements(&tensor.dims, called)?;
    let overflow = || CheckError::Overflow { tensor: called.to_owned() };
    let bytes = count.checked_mul(layout.bits).ok_or_else(overflow)?.div_ceil(8);
    let lists = [
        (List::Floats, "float_data", tensor.float_data.len()),
        (List::Int32s, "int32_data", tensor.int32_data.len()),
        (List::Int64s, "int64_data", tensor.int64_data.len()),
        (List::Doubles, "double_data", tensor.double_data.len()),
        (List::Uint64s, "uint64_data", tensor.uint64_data.len()),
        (List::Strings, "string_data", tensor.string_data.len()),
    ];
    let mut filled = lists.into_iter().filter(|(.., len)| *len > 0);
    let (first, raw) = (filled.next(), tensor.raw_data.len() as u64);
    let external = is_external(tensor);
    if usize::from(external) + usize::from(raw > 0) + usize::from(first.is_some()) > 1
        || filled.next().is_some()
    {
        return Err(CheckError::TwoValues { tensor: called.to_owned() });
    }
    let text = layout.list == List::Strings;
    if text && (external || raw > 0) {
        let found = if external { "bytes of another file" } else { "raw_data" };
        return Err(CheckError::ValueKind { tensor: called.to_owned(), found });
    }
    if external {
        return external::check(tensor, called, bytes, outside);
    }
    let length = |found, wanted, unit| {
        let wrong = CheckError::Length { tensor: called.to_owned(), found, wanted, unit };
        if found == wanted { Ok(()) } else { Err(wrong) }
    };
    match first {
        Some((list, found, _)) if list != layout.list => {
            Err(CheckError::ValueKind { tensor: called.to_owned(), found })
        }
        Some((_, unit, found)) => {
            let (times, over) = layout.entries;
            length(found as u64, count.checked_mul(times).ok_or_else(overflow)?.div_ceil(over), unit)
        }
        // Nothing at all is what an empty tensor has.
        None if text => length(0, count, "texts"),
        None => length(raw, bytes, "bytes"),
    }
}

pub(super) fn check_sparse(
    sparse: &SparseTensorProto,
    called: &str,
    outside: &dyn Fn(&str) -> Outside,
) -> Result<(), CheckError> {
    let wrong = |problem| CheckError::Sparse { tensor: called.to_owned(), problem };
    let values = sparse.values.as_ref().ok_or_else(|| wrong("it has no values"))?;
    check(values, called, outside)?;
    elements(&sparse.dims, called)?;
    let [count] = values.dims[..] else { return Err(wrong("its values are no list")) };
    let Some(indices) = &sparse.indices else {
        return if count == 0 { Ok(()) } else { Err(wrong("it has values without indices")) };
    };
    check(indices, called, outside)?;
    let rank = (sparse.dims.len() as u64).cast_signed();
    if indices.data_type != element::INT64 {
        return Err(wrong("its indices are not of 64 bits"));
    }
    match indices.dims[..] {
        [rows] if rows == count => Ok(()),
        [rows, columns] if rows == count && columns == rank => Ok(()),
        _ => Err(wrong("its indices do not fit its values and dimensions")),
    }
}
