//! Other sizes of an image: along each axis, weighted sums of the elements next to a place.

use super::{
    LowerError, builder::Builder, elementwise::mapped, layout::repeated, operators::Lower, site::Site,
    value::Value,
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Call, Gather},
    },
};

pub(super) fn of((domain, operator): (&str, &str)) -> Option<Lower> {
    let lower: Lower = match (domain, operator) {
        ("", "Resize") => resize,
        ("", "Upsample") => upsample,
        _ => return None,
    };
    Some(lower)
}

/// How one axis changes.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
}

/// How places are found, and what is between elements.
struct Manner<'s> {
    coordinates: &'s str,
    mode: &'s str,
    nearest: &'s str,
    cubic: f64,
}

/// Elements next to each place of the output: where they are, and how much each counts.
type Taps = Vec<(Vec<i64>, Vec<f32>)>;

fn resize(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let manner = Manner {
        coordinates: site.text("coordinate_transformation_mode").unwrap_or("half_pixel"),
        mode: site.text("mode").unwrap_or("nearest"),
        nearest: site.text("nearest_mode").unwrap_or("round_prefer_floor"),
        cubic: f64::from(site.real("cubic_coeff_a", -0.75)),
    };
    let plain = ["antialias", "exclude_outside"].iter().all(|name| site.number(name, 0) == 0);
    let known = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
    if !plain || !known.contains(&manner.coordinates) {
        return Err(site.refuse(format!("takes places by {:?}, or weighs them anew", manner.coordinates)));
    }
    let (scales, sizes) = if site.opset < 11 { (1, 3) } else { (2, 3) };
    let axes: Vec<usize> = match site.numbers("axes") {
        Some(axes) => axes.iter().map(|axis| site.axis(*axis, x.rank())).collect::<Result<_, _>>()?,
        None => (0..x.rank()).collect(),
    };
    let scales = match site.optional(scales) {
        Some(scales) => builder.reals(site, scales)?,
        None => Vec::new(),
    };
    let sizes = match site.optional(sizes) {
        Some(sizes) => builder.numbers(site, sizes)?,
        None => Vec::new(),
    };
    let aspect = site.text("keep_aspect_ratio_policy").unwrap_or("stretch");
    if !sizes.is_empty() && aspect != "stretch" {
        return Err(site.refuse(format!("keeps ratios by {aspect:?}")));
    }
    if scales.len().max(sizes.len()) != axes.len() {
        return Err(site.refuse(format!("resizes {} axes by {scales:?} to {sizes:?}", axes.len())));
    }
    let mut value = x.clone();
    for (at, axis) in axes.into_iter().enumerate() {
        let from = value.shape[axis];
        let change = match sizes.get(at) {
            Some(size) => {
                let to = site.size(*size)?;
                Axis { from, to, scale: to as f64 / from as f64 }
            }
            None => {
                let scale = f64::from(scales[at]);
                Axis { from, to: (from as f64 * scale).floor() as usize, scale }
            }
        };
        value = along(builder, site, &value, axis, &change, &manner)?;
    }
    Ok(vec![value])
}

fn upsample(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    let scales = match site.optional(1) {
        Some(scales) => builder.reals(site, scales)?,
        None => site.reals("scales").unwrap_or_default().to_vec(),
    };
    let mode = match site.text("mode").unwrap_or("nearest") {
        "bilinear" | "linear" => "linear",
        mode => mode,
    };
    let manner = Manner { coordinates: "asymmetric", mode, nearest: "floor", cubic: 0.0 };
    if scales.len() != x.rank() {
        return Err(site.refuse(format!("resizes {} axes by {scales:?}", x.rank())));
    }
    let mut value = x.clone();
    for (axis, scale) in scales.into_iter().enumerate() {
        let from = value.shape[axis];
        let scale = f64::from(scale);
        let change = Axis { from, to: (from as f64 * scale).floor() as usize, scale };
        value = along(builder, site, &value, axis, &change, &manner)?;
    }
    Ok(vec![value])
}

/// Changes one axis.
fn along(
    builder: &mut Builder,
    site: &Site<'_>,
    value: &Value,
    axis: usize,
    change: &Axis,
    manner: &Manner<'_>,
) -> Result<Value, LowerError> {
    if change.from == change.to && (change.scale - 1.0).abs() < f64::EPSILON {
        return Ok(value.clone());
    }
    if change.from == 0 || change.to == 0 {
        return Err(site.refuse(format!("makes {} of {}", change.to, change.from)));
    }
    let taps = taps(site, change, manner)?;
    let times = change.to / change.from;
    let each = |(to, from): (usize, &i64)| to / times.max(1) == *from as usize;
    if let [(places, _)] = taps.as_slice()
        && times * change.from == change.to
        && places.iter().enumerate().all(each)
    {
        let mut repeats = vec![1; value.rank()];
        repeats[axis] = times;
        return repeated(builder, value, &repeats, true);
    }
    if !value.is_float() && taps.len() > 1 {
        return Err(site.refuse(format!("takes {} between elements", value.datatype)));
    }
    let value = builder.dense(value)?;
    let mut sum: Option<Value> = None;
    for (places, weights) in taps {
        let part = gathered(builder, &value, axis, places)?;
        let mut shape = vec![1; value.rank()];
        shape[axis] = weights.len();
        let weights = builder.floats(&shape, weights);
        sum = Some(match sum {
            None if manner.mode == "nearest" => part,
            None => mapped(builder, site, &[&part, &weights], value.datatype, |parts| {
                parts.into_iter().reduce(|part, weight| part * weight).expect("two were given")
            })?,
            Some(sum) => mapped(builder, site, &[&part, &weights, &sum], value.datatype, |parts| {
                let [part, weight, sum]: [_; 3] = parts.try_into().expect("three were given");
                sum + part * weight
            })?,
        });
    }
    Ok(sum.expect("there is a tap at least"))
}

fn gathered(
    builder: &mut Builder,
    value: &Value,
    axis: usize,
    places: Vec<i64>,
) -> Result<Value, LowerError> {
    let mut shape = value.shape.clone();
    shape[axis] = places.len();
    let output = builder.fresh(value.datatype, &shape)?;
    if output.len() > 0 {
        let indices = builder.constant(Datatype::Int64, &[places.len()], Host::I64(places));
        let call = Gather {
            data: value.slot,
            indices: indices.slot,
            output: output.slot,
            outer: shape[..axis].iter().product(),
            axis: value.shape[axis],
            count: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        };
        builder.emit(vec![Call::Gather(call)], &output);
        return Ok(output);
    }
    builder.empty(value.datatype, &shape)
}

fn taps(site: &Site<'_>, change: &Axis, manner: &Manner<'_>) -> Result<Taps, LowerError> {
    let last = change.from as i64 - 1;
    let places: Vec<f64> = (0..change.to).map(|at| place(at as f64, change, manner.coordinates)).collect();
    let held = |at: f64| (at as i64).clamp(0, last);
    let tap = |at: &dyn Fn(f64) -> f64, weight: &dyn Fn(f64) -> f64| -> (Vec<i64>, Vec<f32>) {
        let found = places.iter().map(|place| held(at(*place))).collect();
        (found, places.iter().map(|place| weight(*place) as f32).collect())
    };
    match manner.mode {
        "nearest" => {
            let round: fn(f64) -> f64 = match manner.nearest {
                "floor" => f64::floor,
                "ceil" => f64::ceil,
                "round_prefer_ceil" => |place| (place + 0.5).floor(),
                _ => |place| (place - 0.5).ceil(),
            };
            Ok(vec![tap(&round, &|_| 1.0)])
        }
        "linear" => {
            let held = |place: f64| place.clamp(0.0, last as f64);
            let part = |place: f64| held(place) - held(place).floor();
            Ok(vec![
                tap(&|place| held(place).floor(), &|place| 1.0 - part(place)),
                tap(&|place| held(place).floor() + 1.0, &part),
            ])
        }
        "cubic" => {
            let weight = |step: f64, place: f64| {
                let away = (place - place.floor() - step).abs();
                let a = manner.cubic;
                if away <= 1.0 {
                    ((a + 2.0) * away - (a + 3.0)) * away * away + 1.0
                } else {
                    ((a * away - 5.0 * a) * away + 8.0 * a) * away - 4.0 * a
                }
            };
            let steps = [-1.0, 0.0, 1.0, 2.0];
            Ok(steps.map(|step| tap(&|place| place.floor() + step, &|place| weight(step, place))).to_vec())
        }
        other => Err(site.refuse(format!("resizes in the mode {other:?}"))),
    }
}

/// Where an element of the output lies in the input.
fn place(at: f64, change: &Axis, coordinates: &str) -> f64 {
    let Axis { from, to, scale } = *change;
    let single = to == 1;
    let (from, to) = (from as f64, to as f64);
    match coordinates {
        "asymmetric" => at / scale,
        "align_corners" | "pytorch_half_pixel" if single => 0.0,
        "align_corners" => at * (from - 1.0) / (to - 1.0),
        "half_pixel_symmetric" => {
            let offset = from / 2.0 * (1.0 - to / (scale * from));
            offset + (at + 0.5) / scale - 0.5
        }
        _ => (at + 0.5) / scale - 0.5,
    }
}
