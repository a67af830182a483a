//! Graphs by our own kernels' plain interpreter, and how far answers are off.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::collections::BTreeMap;

use bytes::Bytes;
use weft::{
    domain::Tensor,
    kernels::{
        host::Host,
        ir::{Port, Routine},
        lower::{LowerError, Model, Tailor},
        reference::{self, States},
    },
};

/// What a model's own file is called in its routines.
pub(crate) const FILE: &str = "model";

/// The routine for inputs of these sizes.
pub(crate) fn lower(file: &Bytes, inputs: &[Tensor]) -> Result<Routine, LowerError> {
    let model = Model::read(file, FILE)?;
    model.check()?;
    Tailor::new(model).lower(inputs, None).map(|(_, routine)| routine)
}

/// What the interpreter makes of a routine; `beside` are the files that weights lie in.
pub(crate) fn computed(
    routine: &Routine,
    file: &Bytes,
    beside: &BTreeMap<String, Bytes>,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, String> {
    kept(routine, file, beside, inputs, &mut States::new())
}

/// The same, with what earlier steps have left.
pub(crate) fn kept(
    routine: &Routine,
    file: &Bytes,
    beside: &BTreeMap<String, Bytes>,
    inputs: &[Tensor],
    states: &mut States,
) -> Result<Vec<Tensor>, String> {
    let decoded = inputs.iter().map(|input| {
        let host = Host::decode(&input.body.contiguous(), input.datatype);
        (input.name.clone(), host.expect("elements that kernels have"))
    });
    let read = |name: &str, offset: u64, len: usize| {
        let file = if name == FILE { file } else { beside.get(name)? };
        let from = usize::try_from(offset).ok()?;
        (from + len <= file.len()).then(|| file.slice(from..from + len))
    };
    let made = reference::run_kept(routine, &decoded.collect(), &read, states);
    let made = made.map_err(|fault| fault.to_string())?;
    let tensor = |Port { name, datatype, shape, .. }: &Port| {
        let bytes =
            made[name].encode(*datatype).ok_or_else(|| format!("{name} holds what {datatype} does not"))?;
        let shape = shape.iter().map(|size| *size as u64).collect();
        Ok(Tensor { name: name.clone(), datatype: *datatype, shape, body: bytes.into() })
    };
    routine.outputs.iter().map(tensor).collect()
}

/// A tensor's elements, whatever they are. Of wide whole numbers not all digits.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    match Host::decode(&tensor.body.contiguous(), tensor.datatype) {
        Some(Host::F32(values)) => values.into_iter().map(f64::from).collect(),
        Some(Host::I64(values)) => values.into_iter().map(|value| value as f64).collect(),
        _ => panic!("{} is of {}", tensor.name, tensor.datatype),
    }
}

/// What is wrong with an answer, if anything: each element may be off by `absolute + relative · |wanted|`.
pub(crate) fn wrong(found: &Tensor, wanted: &Tensor, relative: f64, absolute: f64) -> Option<String> {
    if (found.datatype, &found.shape) != (wanted.datatype, &wanted.shape) {
        let (found, wanted) = ((found.datatype, &found.shape), (wanted.datatype, &wanted.shape));
        return Some(format!("{found:?} for {wanted:?}"));
    }
    let (found, wanted) = (numbers(found), numbers(wanted));
    let off = |(found, wanted): (&f64, &f64)| {
        if !found.is_finite() || !wanted.is_finite() {
            return found.to_bits() != wanted.to_bits() && !(found.is_nan() && wanted.is_nan());
        }
        (found - wanted).abs() > absolute + relative * wanted.abs()
    };
    let at = found.iter().zip(&wanted).position(off)?;
    Some(format!("{} for {} at {at} of {}", found[at], wanted[at], found.len()))
}
