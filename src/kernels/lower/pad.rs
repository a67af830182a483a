//! Padding: axis by axis, something before a tensor and something behind it.

use super::{LowerError, builder::Builder, layout::given, operators::Lower, site::Site, value::Value};
use crate::{domain::Datatype, kernels::host::Host};

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    matches!((domain, operator), ("", "Pad")).then_some(pad)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

fn pad(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let mode = match site.text("mode").unwrap_or("constant") {
        "constant" => Mode::Constant,
        "edge" => Mode::Edge,
        "reflect" => Mode::Reflect,
        "wrap" => Mode::Wrap,
        other => return Err(site.refuse(format!("pads in the mode {other:?}"))),
    };
    let name = if site.opset < 2 { "paddings" } else { "pads" };
    let pads = given(builder, site, 1, name)?.ok_or_else(|| site.refuse("is told no sizes"))?;
    let axes: Vec<usize> = match site.optional(3) {
        Some(axes) => {
            let axes = builder.numbers(site, axes)?;
            axes.into_iter().map(|axis| site.axis(axis, x.rank())).collect::<Result<_, _>>()?
        }
        None => (0..x.rank()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(site.refuse(format!("pads {} axes by {pads:?}", axes.len())));
    }
    let filler = filler(builder, site, x.datatype)?;
    let mut value = x.clone();
    for (at, axis) in axes.iter().enumerate() {
        let (before, behind) = (pads[at], pads[at + axes.len()]);
        value = cut(site, &value, *axis, [before, behind])?;
        let (before, behind) = (before.max(0) as usize, behind.max(0) as usize);
        if before + behind > 0 {
            let sides = sides(site, mode, &value, &filler, *axis, [before, behind])?;
            let [first, last] = sides;
            value = builder.concat(&[first, value, last], *axis)?;
        }
    }
    Ok(vec![value])
}

/// What stands in the places of the constant mode.
fn filler(builder: &mut Builder, site: &Site<'_>, datatype: Datatype) -> Result<Value, LowerError> {
    if let Some(given) = site.optional(2) {
        return builder.reshape(given, &[]);
    }
    let value = site.real("value", 0.0);
    let host = if datatype.is_float() { Host::F32(vec![value]) } else { Host::I64(vec![value as i64]) };
    Ok(builder.constant(datatype, &[], host))
}

/// Less than nothing is cut off.
fn cut(site: &Site<'_>, value: &Value, axis: usize, pads: [i64; 2]) -> Result<Value, LowerError> {
    let [before, behind] = pads.map(|pad| pad.min(0).unsigned_abs() as usize);
    let size = value.shape[axis];
    let len = size.checked_sub(before + behind);
    let len = len.ok_or_else(|| site.refuse(format!("cuts {} off {size}", before + behind)))?;
    Ok(value.sliced(axis, before, 1, len))
}

/// What comes before a tensor and behind it along an axis.
fn sides(
    site: &Site<'_>,
    mode: Mode,
    value: &Value,
    filler: &Value,
    axis: usize,
    pads: [usize; 2],
) -> Result<[Value; 2], LowerError> {
    let size = value.shape[axis];
    let [before, behind] = pads;
    let most = pads[0].max(pads[1]);
    let enough = match mode {
        Mode::Constant => true,
        Mode::Edge => size > 0,
        Mode::Reflect => most < size,
        Mode::Wrap => most <= size,
    };
    if !enough {
        return Err(site.refuse(format!("pads {size} by {most} of its own elements")));
    }
    let repeated = |value: Value, len| {
        let mut shape = value.shape.clone();
        shape[axis] = len;
        value.expanded(&shape)
    };
    let filled = |len| {
        let mut shape = value.shape.clone();
        shape[axis] = len;
        filler.expanded(&shape)
    };
    Ok(match mode {
        Mode::Constant => [filled(before), filled(behind)],
        Mode::Edge => [
            repeated(value.sliced(axis, 0, 1, 1), before),
            repeated(value.sliced(axis, size - 1, 1, 1), behind),
        ],
        Mode::Reflect => {
            [value.sliced(axis, before, -1, before), value.sliced(axis, size.saturating_sub(2), -1, behind)]
        }
        Mode::Wrap => [value.sliced(axis, size - before, 1, before), value.sliced(axis, 0, 1, behind)],
    })
}
