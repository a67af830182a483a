//! Values that pass between shards in half precision: whoever makes one casts it, and so does whoever reads it, so that
//! nothing within a shard is computed otherwise.

use super::Whole;
use crate::{
    domain::Passing,
    onnx::{
        precision::names::Names,
        proto::{NodeProto, TypeValue, ValueInfoProto, element},
    },
};

impl Whole {
    /// The same model, whose shards pass in half precision what they may.
    #[must_use]
    pub fn in_half(mut self) -> Self {
        let mut names = Names::of(&self.graph);
        let values = self.chain.values.iter_mut().zip(&mut self.declared);
        for (value, declared) in values.filter(|(value, declared)| may_be_half(value, declared)) {
            value.bytes /= 2.0;
            declared.name = names.fresh(&format!("{}/half", value.name));
            if let Some(TypeValue::Tensor(tensor)) = declared.r#type.as_mut().and_then(|of| of.value.as_mut())
            {
                tensor.elem_type = element::FLOAT16;
            }
        }
        self.half = true;
        self
    }

    /// Whether values pass in half precision where they may.
    pub fn is_in_half(&self) -> bool {
        self.half
    }

    /// Bytes that a shard of these units reads, whether or not its values pass in half precision.
    pub fn bytes_read(&self, units: &[usize], half: bool) -> f64 {
        let within = |unit: &u32| units.contains(&(*unit as usize));
        let values = self.chain.values.iter().zip(&self.declared);
        let read = values
            .filter(|(value, _)| value.to.iter().any(within) && !value.from.as_ref().is_some_and(within));
        let bytes = |(value, declared): (&Passing, &ValueInfoProto)| match (self.half, half) {
            (false, true) if may_be_half(value, declared) => value.bytes / 2.0,
            (true, false) if passes_as(value, declared).is_some() => value.bytes * 2.0,
            _ => value.bytes,
        };
        read.map(bytes).sum()
    }
}

/// What neither comes from the caller nor goes to it.
fn may_be_half(value: &Passing, declared: &ValueInfoProto) -> bool {
    let told = declared.r#type.as_ref().and_then(|of| of.value.as_ref());
    let single = matches!(told, Some(TypeValue::Tensor(tensor)) if tensor.elem_type == element::FLOAT);
    value.from.is_some() && !value.output && single
}

/// What a value that passes in half precision is called then.
fn passes_as<'d>(value: &Passing, declared: &'d ValueInfoProto) -> Option<&'d str> {
    (declared.name != value.name).then_some(declared.name.as_str())
}

/// The node that makes what is read of what has come.
pub(super) fn opened(value: &Passing, declared: &ValueInfoProto) -> Option<NodeProto> {
    passes_as(value, declared).map(|half| NodeProto::cast(half, &value.name, element::FLOAT))
}

/// The node that makes what goes of what was made.
pub(super) fn closed(value: &Passing, declared: &ValueInfoProto) -> Option<NodeProto> {
    passes_as(value, declared).map(|half| NodeProto::cast(&value.name, half, element::FLOAT16))
}
