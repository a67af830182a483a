//! The elements of a tensor that a graph holds itself.

use half::{bf16, f16};

use crate::{domain::Datatype, kernels::host::Host, onnx::proto::TensorProto};

/// Nothing where it has not as many elements as its shape says, or where kernels do not compute with its type.
pub(super) fn host(tensor: &TensorProto, datatype: Datatype) -> Option<Host> {
    let sizes = tensor.dims.iter().map(|size| usize::try_from(*size).ok());
    let len = sizes.into_iter().try_fold(1usize, |product, size| product.checked_mul(size?))?;
    let host = if tensor.raw_data.is_empty() {
        typed(tensor, datatype)
    } else {
        Host::decode(&tensor.raw_data, datatype)
    };
    host.filter(|host| host.len() == len)
}

/// Half floats stand as whole numbers there, by their bits.
fn typed(tensor: &TensorProto, datatype: Datatype) -> Option<Host> {
    let halves = |make: fn(u16) -> f32| {
        let bits = tensor.int32_data.iter().map(|value| u16::try_from(*value).ok().map(make));
        bits.collect::<Option<_>>().map(Host::F32)
    };
    Some(match datatype {
        Datatype::Fp32 => Host::F32(tensor.float_data.clone()),
        Datatype::Fp16 => halves(|bits| f16::from_bits(bits).to_f32())?,
        Datatype::Bf16 => halves(|bits| bf16::from_bits(bits).to_f32())?,
        Datatype::Int64 => Host::I64(tensor.int64_data.clone()),
        Datatype::Uint32 | Datatype::Uint64 => {
            let values = tensor.uint64_data.iter().map(|value| i64::try_from(*value).ok());
            Host::I64(values.collect::<Option<_>>()?)
        }
        Datatype::Bool
        | Datatype::Uint8
        | Datatype::Uint16
        | Datatype::Int8
        | Datatype::Int16
        | Datatype::Int32 => Host::I64(tensor.int32_data.iter().map(|value| i64::from(*value)).collect()),
        Datatype::Fp64 | Datatype::Bytes => return None,
    })
}
