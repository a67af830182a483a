//! Tensors into the engine and out of it.
//!
//! Inputs are looked at where they lie when their alignment allows, else copied once; outputs are copied once.

use std::{ffi::c_void, ptr, slice};

use bytes::{BufMut, Bytes, BytesMut};
use ort::{
    AsPointer,
    memory::{Allocator, MemoryInfo},
    value::{DynTensorValueType, DynValue, Tensor as OrtTensor, TensorElementType, ValueType},
};

use crate::domain::{Datatype, Failure, Tensor};

/// A value that the engine reads, together with the memory in which it lies.
pub(super) struct Input {
    // Declared first, so that it is released before its memory is.
    pub(super) value: DynValue,
    _memory: Memory,
}

/// Kept for its drop alone.
#[allow(dead_code, reason = "the engine reads the memory through a pointer")]
enum Memory {
    Shared(Bytes),
    Aligned(Vec<u64>),
    Engine,
}

pub(super) fn input(tensor: &Tensor) -> Result<Input, Failure> {
    let wrong = |problem: String| Failure::invalid(format!("input {:?}: {problem}", tensor.name));
    tensor.check().map_err(|error| wrong(error.to_string()))?;
    let shape: Vec<_> = tensor
        .shape
        .iter()
        .map(|size| i64::try_from(*size))
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    let bytes = tensor.body.contiguous();
    let Some(size) = tensor.datatype.size() else {
        let value = strings(&shape, &bytes).map_err(wrong)?;
        return Ok(Input { value, _memory: Memory::Engine });
    };
    let memory = if bytes.as_ptr().addr().is_multiple_of(size) {
        Memory::Shared(bytes)
    } else {
        Memory::Aligned(aligned(&bytes))
    };
    let data = match &memory {
        Memory::Shared(bytes) => bytes.as_ptr().cast(),
        Memory::Aligned(words) => words.as_ptr().cast(),
        Memory::Engine => unreachable!("strings were answered above"),
    };
    // SAFETY: `data` is aligned and, as checked, of the size that datatype and shape say; `Input` keeps it.
    let value = unsafe { view(data, tensor.body.len(), &shape, element_type(tensor.datatype)) };
    Ok(Input { value: value.map_err(|error| wrong(error.to_string()))?, _memory: memory })
}

/// A copy that starts at a multiple of 8, as the largest element type needs.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len().div_ceil(size_of::<u64>())];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(size_of::<u64>())) {
        let mut full = [0; size_of::<u64>()];
        full[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(full);
    }
    words
}

/// # Safety
/// `data` is aligned for `element`, holds `len` bytes, and outlives the value, which only reads it.
unsafe fn view(
    data: *const c_void,
    len: usize,
    shape: &[i64],
    element: TensorElementType,
) -> ort::Result<DynValue> {
    let memory = MemoryInfo::default();
    let mut value = ptr::null_mut();
    // SAFETY: the engine checks `len` against shape and element type; the caller vouches for the rest.
    unsafe {
        let status = (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            data.cast_mut(),
            len,
            shape.as_ptr(),
            shape.len(),
            element.into(),
            &raw mut value,
        );
        ort::Error::result_from_status(status)?;
        let value = ptr::NonNull::new(value).expect("the engine sets the value when it reports success");
        Ok(DynValue::from_ptr(value, Some(&Allocator::default())))
    }
}

fn strings(shape: &[i64], bytes: &[u8]) -> Result<DynValue, String> {
    let mut texts: Vec<String> = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (text, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        let text = std::str::from_utf8(text)
            .map_err(|error| format!("element {} is no text: {error}", texts.len()))?;
        texts.push(text.to_owned());
        rest = after;
    }
    let tensor = OrtTensor::from_string_array((shape.to_vec(), texts.as_slice()));
    Ok(tensor.map_err(|error| error.to_string())?.into_dyn())
}

pub(super) fn output(name: String, value: DynValue) -> Result<Tensor, String> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(format!("output {name:?} is a {}, not a tensor", value.dtype()));
    };
    let datatype = datatype(*ty)
        .ok_or_else(|| format!("output {name:?} has datatype {ty}, which no answer can carry"))?;
    let shape: Vec<_> = shape.iter().map(|size| u64::try_from(*size).unwrap_or(0)).collect();
    let value = value.downcast::<DynTensorValueType>().map_err(|error| error.to_string())?;
    let bytes = if datatype == Datatype::Bytes {
        let (_, texts) = value.try_extract_strings().map_err(|error| error.to_string())?;
        let mut bytes = BytesMut::new();
        for text in texts {
            bytes.put_u32_le(u32::try_from(text.len()).map_err(|error| error.to_string())?);
            bytes.put_slice(text.as_bytes());
        }
        bytes.freeze()
    } else {
        let len =
            value.size().ok_or_else(|| format!("the engine does not say how long output {name:?} is"))?;
        // SAFETY: the engine says that so many bytes are there, in the memory of the CPU, until `value` is dropped.
        let bytes =
            if len == 0 { &[] } else { unsafe { slice::from_raw_parts(value.data_ptr().cast::<u8>(), len) } };
        Bytes::copy_from_slice(bytes)
    };
    Ok(Tensor { name, datatype, shape, body: bytes.into() })
}

const ELEMENT_TYPES: [(Datatype, TensorElementType); 14] = [
    (Datatype::Bool, TensorElementType::Bool),
    (Datatype::Uint8, TensorElementType::Uint8),
    (Datatype::Uint16, TensorElementType::Uint16),
    (Datatype::Uint32, TensorElementType::Uint32),
    (Datatype::Uint64, TensorElementType::Uint64),
    (Datatype::Int8, TensorElementType::Int8),
    (Datatype::Int16, TensorElementType::Int16),
    (Datatype::Int32, TensorElementType::Int32),
    (Datatype::Int64, TensorElementType::Int64),
    (Datatype::Fp16, TensorElementType::Float16),
    (Datatype::Fp32, TensorElementType::Float32),
    (Datatype::Fp64, TensorElementType::Float64),
    (Datatype::Bf16, TensorElementType::Bfloat16),
    (Datatype::Bytes, TensorElementType::String),
];

fn element_type(datatype: Datatype) -> TensorElementType {
    let found = ELEMENT_TYPES.iter().find(|(ours, _)| *ours == datatype);
    found.map(|(_, theirs)| *theirs).expect("the table has every datatype")
}

fn datatype(element: TensorElementType) -> Option<Datatype> {
    ELEMENT_TYPES.iter().find(|(_, theirs)| *theirs == element).map(|(ours, _)| *ours)
}
