//! Maps, and what brings elements to other places.

use super::{
    LowerError,
    builder::Builder,
    site::Site,
    value::{self, Value, broadcast},
};
use crate::{
    domain::Datatype,
    kernels::ir::{Call, Element, Expr, MAP_INPUTS_MAX, Map, RANK_MAX, To, View},
};

impl Builder {
    /// The tensor row by row in a slot of its own.
    pub(super) fn dense(&mut self, value: &Value) -> Result<Value, LowerError> {
        if self.is_whole(value) {
            return Ok(value.clone());
        }
        self.map(&value.shape, std::slice::from_ref(value), value.datatype, Expr::Input(0))
    }

    /// The same elements under another shape of as many.
    pub(super) fn reshape(&mut self, value: &Value, shape: &[usize]) -> Result<Value, LowerError> {
        if let Some(reshaped) = value.reshaped(shape) {
            return Ok(reshaped);
        }
        Ok(self.dense(value)?.reshaped(shape).expect("what is dense can be seen in any shape"))
    }

    /// How the tensor lies in its slot when it is repeated to a shape; both must fit.
    pub(super) fn view(value: &Value, shape: &[usize]) -> View {
        let Value { slot, offset, strides, .. } = value.expanded(shape);
        View { slot, offset, strides }
    }

    /// A map over a shape that the inputs are repeated to.
    pub(super) fn map(
        &mut self,
        shape: &[usize],
        inputs: &[Value],
        datatype: Datatype,
        expr: Expr,
    ) -> Result<Value, LowerError> {
        let output = self.fresh(datatype, shape)?;
        let call = Self::mapping(shape, inputs, &output, expr)?;
        self.emit(call.into_iter().collect(), &output);
        Ok(output)
    }

    /// The same into a place that is there; nothing where there are no elements.
    pub(super) fn mapping(
        shape: &[usize],
        inputs: &[Value],
        output: &Value,
        expr: Expr,
    ) -> Result<Option<Call>, LowerError> {
        if shape.contains(&0) {
            return Ok(None);
        }
        debug_assert!(inputs.len() <= MAP_INPUTS_MAX, "operators take fewer");
        let views = inputs.iter().map(|input| Self::view(input, shape)).collect();
        let mut map = Map { shape: shape.to_vec(), inputs: views, output: Self::view(output, shape), expr };
        merge(&mut map);
        if map.shape.len() > RANK_MAX {
            return Err(LowerError::Dimensions { dimensions: map.shape.len() });
        }
        Ok(Some(Call::Map(map)))
    }

    /// The values behind each other along an axis; their other sizes are equal.
    pub(super) fn concat(&mut self, values: &[Value], axis: usize) -> Result<Value, LowerError> {
        let filled: Vec<&Value> = values.iter().filter(|value| value.shape[axis] > 0).collect();
        if let ([past, new], 2) = (filled.as_slice(), axis)
            && self.cached(past).is_some()
        {
            return self.kept(past, new);
        }
        if let [only] = filled.as_slice() {
            return Ok((*only).clone());
        }
        let mut shape = values[0].shape.clone();
        shape[axis] = filled.iter().map(|value| value.shape[axis]).sum();
        let output = self.fresh(values[0].datatype, &shape)?;
        let mut calls = Vec::with_capacity(filled.len());
        let mut from = 0;
        for value in filled {
            let len = value.shape[axis];
            let part = output.sliced(axis, from, 1, len);
            calls.extend(Self::mapping(&value.shape, std::slice::from_ref(value), &part, Expr::Input(0))?);
            from += len;
        }
        self.emit(calls, &output);
        Ok(output)
    }

    /// The elements as another type has them.
    pub(super) fn cast(&mut self, value: &Value, to: Datatype) -> Result<Value, LowerError> {
        let target = value::element(to).ok_or(LowerError::Computed { datatype: to })?;
        let from = value.datatype;
        let x = Expr::Input(0);
        let expr = match (self.element(value), target) {
            (Element::F32, Element::F32) => return Ok(value.typed(to)),
            _ if from == to || to != Datatype::Bool && within(from, to) => return Ok(value.typed(to)),
            (_, Element::F32) => x.cast(To::Float),
            _ if to == Datatype::Bool => x.cast(To::Flag),
            (Element::F32, _) => x.cast(To::Int).wrapped(to),
            _ => x.wrapped(to),
        };
        self.map(&value.shape, std::slice::from_ref(value), to, expr)
    }
}

/// Whether whole numbers of one type need nothing done to be those of another. What is wider than 32 bits is not told
/// apart.
fn within(from: Datatype, to: Datatype) -> bool {
    let bits = |datatype| match datatype {
        Datatype::Bool => Some((1, false)),
        Datatype::Uint8 => Some((8, false)),
        Datatype::Int8 => Some((8, true)),
        Datatype::Uint16 => Some((16, false)),
        Datatype::Int16 => Some((16, true)),
        Datatype::Uint32 | Datatype::Uint64 | Datatype::Int32 | Datatype::Int64 => Some((32, true)),
        _ => None,
    };
    match (bits(from), bits(to)) {
        (Some((narrow, false)), Some((wide, true))) => narrow < wide,
        (Some((narrow, signed)), Some((wide, to_signed))) => narrow <= wide && signed == to_signed,
        _ => false,
    }
}

/// Makes one dimension of neighbours that lie behind each other in every view.
pub(in crate::kernels) fn merge(map: &mut Map) {
    let Map { shape, inputs, output, .. } = map;
    let mut views: Vec<&mut View> = inputs.iter_mut().chain([output]).collect();
    let mut at = 0;
    while at < shape.len() {
        if shape[at] == 1 {
            shape.remove(at);
            for view in &mut views {
                view.strides.remove(at);
            }
        } else if at > 0
            && views.iter().all(|view| view.strides[at - 1] == view.strides[at] * shape[at] as i64)
        {
            shape[at - 1] *= shape.remove(at);
            for view in &mut views {
                view.strides.remove(at - 1);
            }
        } else {
            at += 1;
        }
    }
}

/// The shape that all of these fit by repeating.
pub(super) fn common(site: &Site<'_>, values: &[&Value]) -> Result<Vec<usize>, LowerError> {
    values.iter().try_fold(Vec::new(), |shape, value| {
        let both = broadcast(&shape, &value.shape);
        both.ok_or_else(|| site.refuse(format!("takes {shape:?} and {:?}, which do not fit", value.shape)))
    })
}
