//! Rotation by position.

use super::{LowerError, attention::split, builder::Builder, site::Site, value::Value};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Call, Rotary},
    },
};

/// By what rows are turned.
pub(super) struct Turn<'v> {
    /// A row for every position.
    pub(super) cos: &'v Value,
    pub(super) sin: &'v Value,
    /// One for each row of each of the batch, or the first row's alone.
    pub(super) positions: &'v Value,
    pub(super) interleaved: bool,
}

/// `[batch, heads, rows, size]`, turned into a place that is there.
pub(super) fn turn(
    builder: &mut Builder,
    site: &Site<'_>,
    input: &Value,
    Turn { cos, sin, positions, interleaved }: &Turn<'_>,
    output: &Value,
) -> Result<(), LowerError> {
    let [batch, heads, rows, size] = input.shape[..] else { unreachable!("four dimensions") };
    let fits = cos.rank() == 2 && cos.shape == sin.shape && 2 * cos.shape[1] <= size;
    if !fits || ![1, batch * rows].contains(&positions.len()) || positions.is_float() || !input.is_float() {
        return Err(site.refuse(format!(
            "turns {:?} by {:?} at positions of {:?}",
            input.shape, cos.shape, positions.shape
        )));
    }
    if output.len() == 0 {
        return Ok(());
    }
    let (cos, sin) = (builder.dense(cos)?, builder.dense(sin)?);
    let positions = builder.cast(positions, Datatype::Int32)?;
    let positions = builder.dense(&positions)?;
    let call = Rotary {
        batch,
        heads,
        rows,
        size,
        turned: 2 * cos.shape[1],
        input: Builder::view(input, &input.shape),
        output: Builder::view(output, &output.shape),
        cos: cos.slot,
        sin: sin.slot,
        positions_max: cos.shape[0],
        positions: positions.slot,
        positions_len: positions.len(),
        interleaved: *interleaved,
    };
    builder.emit(vec![Call::Rotary(call)], output);
    Ok(())
}

/// In the shape that it came in.
fn turned(
    builder: &mut Builder,
    site: &Site<'_>,
    heads: usize,
    by: &Turn<'_>,
) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let input = split(builder, site, x, heads)?;
    if x.rank() == 4 {
        let output = builder.fresh(x.datatype, &x.shape)?;
        turn(builder, site, &input, by, &output)?;
        return Ok(vec![output]);
    }
    let [batch, heads, rows, size] = input.shape[..] else { unreachable!("four dimensions") };
    let apart = builder.fresh(x.datatype, &[batch, rows, heads, size])?;
    turn(builder, site, &input, by, &apart.transposed(&[0, 2, 1, 3]))?;
    Ok(vec![builder.reshape(&apart, &x.shape)?])
}

pub(super) fn microsoft(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    if site.number("is_packed_batching", 0) != 0 || site.real("scale", 1.0).to_bits() != 1f32.to_bits() {
        return Err(site.refuse("has is_packed_batching or a scale"));
    }
    let (x, positions, cos) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let given = site.size(site.number("num_heads", 0))?;
    // Without a part that is turned all of a head is, which says how wide it is.
    let heads = match (site.number("rotary_embedding_dim", 0), x.shape.last(), cos.shape.last()) {
        (0, Some(width), Some(half)) if *half > 0 => width / (2 * half),
        _ => given,
    };
    let interleaved = site.number("interleaved", 0) != 0;
    turned(builder, site, heads, &Turn { cos, sin: site.input(3)?, positions, interleaved })
}

pub(super) fn standard(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (cos, sin) = (site.input(1)?, site.input(2)?);
    let heads = site.size(site.number("num_heads", 0))?;
    let interleaved = site.number("interleaved", 0) != 0;
    let turned_size = site.number("rotary_embedding_dim", 0);
    if turned_size != 0 && cos.shape.last().is_some_and(|half| 2 * *half as i64 != turned_size) {
        return Err(site.refuse(format!("turns {turned_size} by {:?}", cos.shape)));
    }
    if let Some(positions) = site.optional(3) {
        return turned(builder, site, heads, &Turn { cos, sin, positions, interleaved });
    }
    let ([batch, rows, half], true) = (&cos.shape[..], cos.shape == sin.shape) else {
        return Err(site.refuse(format!("turns by {:?} and {:?} without positions", cos.shape, sin.shape)));
    };
    // Each row of each of the batch has its own, in order.
    let table = [batch * rows, *half];
    let counted = Host::I64((0..(batch * rows) as i64).collect());
    let positions = builder.constant(Datatype::Int64, &[*batch, *rows], counted);
    let (cos, sin) = (builder.reshape(cos, &table)?, builder.reshape(sin, &table)?);
    turned(builder, site, heads, &Turn { cos: &cos, sin: &sin, positions: &positions, interleaved })
}
