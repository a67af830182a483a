//! The elements of a tensor that a graph holds itself.

use half::{bf16, f16};

use crate::{
    domain::Datatype,
    kernels::host::Host,
    onnx::proto::TensorProto,
};

/// Nothing where it has not as many elements as its shape says, or where kernels do not compute with its type.
pub(super) fn host(tensor: &TensorProto, datatype: Datatype) -> Option<Host> {
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size).ok());
    let len = sizes.into_iter().try_fold(1usize, |product, size| product.checked_mul(size?))?;
    let host = if tensor.raw_data.is_empty() { typed(tensor, datatype)? } else { raw(&tensor.raw_data, datatype)? };
    (host.len() == len).then_some(host)
}

fn raw(bytes: &[u8], datatype: Datatype) -> Option<Host> {
    fn each<const N: usize, T>(bytes: &[u8], make: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (whole, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| whole.iter().map(|bytes| make(*bytes)).collect())
    }
    Some(match datatype {
        Datatype::Fp32 => Host::F32(each(bytes, f32::from_le_bytes)?),
        Datatype::Fp16 => Host::F32(each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())?),
        Datatype::Bf16 => Host::F32(each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())?),
        Datatype::Bool | Datatype::Uint8 => Host::I64(each(bytes, |[byte]: [u8; 1]| i64::from(byte))?),
        Datatype::Int8 => Host::I64(each(bytes, |bytes| i64::from(i8::from_le_bytes(bytes)))?),
        Datatype::Uint16 => Host::I64(each(bytes, |bytes| i64::from(u16::from_le_bytes(bytes)))?),
        Datatype::Int16 => Host::I64(each(bytes, |bytes| i64::from(i16::from_le_bytes(bytes)))?),
        Datatype::Uint32 => Host::I64(each(bytes, |bytes| i64::from(u32::from_le_bytes(bytes)))?),
        Datatype::Int32 => Host::I64(each(bytes, |bytes| i64::from(i32::from_le_bytes(bytes)))?),
        Datatype::Int64 => Host::I64(each(bytes, i64::from_le_bytes)?),
        Datatype::Uint64 | Datatype::Fp64 | Datatype::Bytes => return None,
    })
}

/// Half floats stand as whole numbers there, by their bits.
fn typed(tensor: &TensorProto, datatype: Datatype) -> Option<Host> {
    let bits = |value: &i32| u16::try_from(*value).ok();
    Some(match datatype {
        Datatype::Fp32 => Host::F32(tensor.float_data.clone()),
        Datatype::Fp16 => {
            let halves = tensor.int32_data.iter().map(|value| Some(f16::from_bits(bits(value)?).to_f32()));
            Host::F32(halves.collect::<Option<_>>()?)
        }
        Datatype::Bf16 => {
            let halves = tensor.int32_data.iter().map(|value| Some(bf16::from_bits(bits(value)?).to_f32()));
            Host::F32(halves.collect::<Option<_>>()?)
        }
        Datatype::Int64 => Host::I64(tensor.int64_data.clone()),
        Datatype::Uint32 => {
            let values = tensor.uint64_data.iter().map(|value| i64::try_from(*value).ok());
            Host::I64(values.collect::<Option<_>>()?)
        }
        Datatype::Uint64 | Datatype::Fp64 | Datatype::Bytes => return None,
        _ => Host::I64(tensor.int32_data.iter().map(|value| i64::from(*value)).collect()),
    })
}
