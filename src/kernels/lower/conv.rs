//! Convolutions and pooling along one dimension or two.

use super::{LowerError, builder::Builder, operators::Lower, site::Site, value::Value};
use crate::kernels::ir::{Call, Conv, Pool, PoolOp, Reduce, ReduceOp, Window};

pub(super) fn of(key: (&str, &str)) -> Option<Lower> {
    Some(match key {
        ("", "Conv") => |builder, site| conv(builder, site, false),
        ("", "ConvTranspose") => |builder, site| conv(builder, site, true),
        ("", "MaxPool") => |builder, site| pool(builder, site, true),
        ("", "AveragePool") => |builder, site| pool(builder, site, false),
        ("", "GlobalAveragePool") => |builder, site| whole(builder, site, ReduceOp::Mean),
        ("", "GlobalMaxPool") => |builder, site| whole(builder, site, ReduceOp::Max),
        _ => return None,
    })
}

/// What a node says along one axis.
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Before the first element and behind the last.
    pads: [i64; 2],
    auto: Auto,
}

#[derive(Clone, Copy, PartialEq)]
enum Auto {
    No,
    Valid,
    /// What is too much stands behind.
    Upper,
    Lower,
}

fn auto(site: &Site<'_>) -> Result<Auto, LowerError> {
    match site.text("auto_pad") {
        None | Some("NOTSET" | "") => Ok(Auto::No),
        Some("VALID") => Ok(Auto::Valid),
        Some("SAME_UPPER") => Ok(Auto::Upper),
        Some("SAME_LOWER") => Ok(Auto::Lower),
        Some(other) => Err(site.refuse(format!("has auto_pad {other:?}"))),
    }
}

/// The axes behind batch and channels, one or two.
fn axes(site: &Site<'_>, x: &Value, kernel: &[usize]) -> Result<Vec<Axis>, LowerError> {
    let rank = x.rank().saturating_sub(2);
    if !(1..=2).contains(&rank) || kernel.len() != rank {
        return Err(site.refuse(format!("goes over {rank} dimensions; kernels over one or two")));
    }
    if !x.is_float() {
        return Err(site.refuse(format!("takes {}; kernels take floats", x.datatype)));
    }
    let list = |name: &str, len: usize| {
        let given = site.numbers(name).filter(|given| !given.is_empty());
        match given {
            Some(given) if given.len() != len => {
                Err(site.refuse(format!("has {name} {given:?} for {rank} dimensions")))
            }
            given => Ok(given),
        }
    };
    let (strides, dilations, pads) =
        (list("strides", rank)?, list("dilations", rank)?, list("pads", 2 * rank)?);
    let auto = auto(site)?;
    let axis = |at: usize| {
        let step = |list: Option<&[i64]>| match site.size(list.map_or(1, |list| list[at]))? {
            0 => Err(site.refuse("has steps of 0")),
            step => Ok(step),
        };
        Ok(Axis {
            input: x.shape[at + 2],
            kernel: kernel[at],
            stride: step(strides)?,
            dilation: step(dilations)?,
            pads: pads.filter(|_| auto == Auto::No).map_or([0, 0], |pads| [pads[at], pads[at + rank]]),
            auto,
        })
    };
    (0..rank).map(axis).collect()
}

impl Axis {
    /// What the kernel covers.
    fn span(&self) -> i64 {
        (self.dilation * (self.kernel - 1) + 1) as i64
    }

    fn split(&self, all: i64) -> [i64; 2] {
        let less = all / 2;
        if self.auto == Auto::Lower { [all - less, less] } else { [less, all - less] }
    }

    /// How many places the window has, and what stands before the first element.
    fn forward(&self, ceil: bool) -> (i64, i64) {
        let (input, stride) = (self.input as i64, self.stride as i64);
        if matches!(self.auto, Auto::Upper | Auto::Lower) {
            let output = (input + stride - 1) / stride;
            let all = ((output - 1) * stride + self.span() - input).max(0);
            return (output, self.split(all)[0]);
        }
        let room = input + self.pads[0] + self.pads[1] - self.span();
        if room < 0 {
            return (0, self.pads[0]);
        }
        let mut output = room / stride + 1;
        // A window may reach over the end, but does not begin there.
        if ceil && room % stride != 0 && output * stride < input + self.pads[0] {
            output += 1;
        }
        (output, self.pads[0])
    }

    /// The same of a transposed one; `more` is what its output has beyond what the window reaches, `wanted` its size.
    fn backward(&self, more: i64, wanted: Option<i64>) -> (i64, i64) {
        let (input, stride) = (self.input as i64, self.stride as i64);
        let reach = stride * (input - 1) + more + self.span();
        let same = matches!(self.auto, Auto::Upper | Auto::Lower);
        match wanted.or(same.then_some(input * stride)) {
            Some(wanted) => {
                let all = (reach - wanted).max(0);
                // Here what is too much stands before, unless it is asked for behind.
                let less = all / 2;
                (wanted, if self.auto == Auto::Upper { less } else { all - less })
            }
            None => (reach - self.pads[0] - self.pads[1], self.pads[0]),
        }
    }
}

/// With one axis the height is 1.
fn window(axes: &[Axis], placed: &[(i64, i64)]) -> Window {
    let one = Window {
        input: [1; 2],
        output: [1; 2],
        kernel: [1; 2],
        strides: [1; 2],
        dilations: [1; 2],
        pads: [0; 2],
    };
    let ahead = 2 - axes.len();
    axes.iter().zip(placed).enumerate().fold(one, |mut window, (at, (axis, (output, pad)))| {
        let at = at + ahead;
        window.input[at] = axis.input;
        window.output[at] = usize::try_from(*output).unwrap_or(0);
        window.kernel[at] = axis.kernel;
        window.strides[at] = axis.stride;
        window.dilations[at] = axis.dilation;
        window.pads[at] = *pad;
        window
    })
}

fn conv(builder: &mut Builder, site: &Site<'_>, transposed: bool) -> Result<Vec<Value>, LowerError> {
    let (x, weight) = (site.input(0)?, site.input(1)?);
    let groups = site.size(site.number("group", 1))?;
    if weight.rank() < 3 || x.rank() != weight.rank() || groups == 0 || weight.len() == 0 {
        return Err(site.refuse(format!("folds {:?} with {:?} in {groups} groups", x.shape, weight.shape)));
    }
    let (inputs, outputs) = if transposed {
        (weight.shape[0], weight.shape[1] * groups)
    } else {
        (weight.shape[1] * groups, weight.shape[0])
    };
    if x.shape[1] != inputs || !outputs.is_multiple_of(groups) || !inputs.is_multiple_of(groups) {
        return Err(site.refuse(format!("folds {:?} with {:?} in {groups} groups", x.shape, weight.shape)));
    }
    let axes = axes(site, x, &weight.shape[2..])?;
    let listed = |name: &str, at: usize| site.numbers(name).and_then(|list| list.get(at)).copied();
    let placed = axes.iter().enumerate().map(|(at, axis)| {
        if transposed {
            // A shape of the output may stand with batch and channels ahead.
            let ahead =
                site.numbers("output_shape").map_or(0, |shape| shape.len().saturating_sub(axes.len()));
            axis.backward(listed("output_padding", at).unwrap_or(0), listed("output_shape", at + ahead))
        } else {
            axis.forward(false)
        }
    });
    let placed: Vec<(i64, i64)> = placed.collect();
    if placed.iter().any(|(output, _)| *output < 0) {
        return Err(site.refuse(format!("folds {:?} into less than nothing", x.shape)));
    }
    let sizes = placed.iter().map(|(output, _)| *output as usize);
    let shape: Vec<usize> = [x.shape[0], outputs].into_iter().chain(sizes).collect();
    let bias = match site.optional(2) {
        Some(bias) if bias.shape != [outputs] => {
            return Err(site.refuse(format!("adds a bias of {:?} to {outputs} channels", bias.shape)));
        }
        Some(bias) => Some(builder.dense(bias)?.slot),
        None => None,
    };
    if shape.contains(&0) {
        return builder.empty(x.datatype, &shape).map(|empty| vec![empty]);
    }
    if x.len() == 0 {
        return Err(site.refuse(format!("folds {:?}, which is empty, into something", x.shape)));
    }
    let (input, weight) = (builder.dense(x)?, builder.dense(weight)?);
    let output = builder.fresh(x.datatype, &shape)?;
    let call = Conv {
        input: input.slot,
        weight: weight.slot,
        bias,
        output: output.slot,
        batch: x.shape[0],
        inputs,
        outputs,
        groups,
        window: window(&axes, &placed),
        transposed,
        activation: None,
    };
    builder.emit(vec![Call::Conv(call)], &output);
    Ok(vec![output])
}

fn pool(builder: &mut Builder, site: &Site<'_>, max: bool) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    if site.wants(1) {
        return Err(site.refuse("is asked for the places of the greatest"));
    }
    let kernel = site.numbers("kernel_shape").unwrap_or_default();
    let kernel: Vec<usize> = kernel.iter().map(|size| site.size(*size)).collect::<Result<_, _>>()?;
    if kernel.contains(&0) {
        return Err(site.refuse("has a kernel without elements"));
    }
    let axes = axes(site, x, &kernel)?;
    let ceil = site.number("ceil_mode", 0) != 0;
    let placed: Vec<(i64, i64)> = axes.iter().map(|axis| axis.forward(ceil)).collect();
    let sizes = placed.iter().map(|(output, _)| *output as usize);
    let shape: Vec<usize> = x.shape[..2].iter().copied().chain(sizes).collect();
    if shape.contains(&0) {
        return builder.empty(x.datatype, &shape).map(|empty| vec![empty]);
    }
    let counted = site.number("count_include_pad", 0) != 0;
    let over = |(axis, (output, pad)): (&Axis, &(i64, i64))| {
        axis.auto == Auto::No
            && (output - 1) * axis.stride as i64 + axis.span() > axis.input as i64 + pad + axis.pads[1]
    };
    if counted && axes.iter().zip(&placed).any(over) {
        return Err(site.refuse("counts what lies beyond the padding"));
    }
    let op = match (max, counted) {
        (true, _) => PoolOp::Max,
        (false, false) => PoolOp::Mean,
        (false, true) => PoolOp::MeanOfAll,
    };
    let input = builder.dense(x)?;
    let output = builder.fresh(x.datatype, &shape)?;
    let call = Pool {
        op,
        input: input.slot,
        output: output.slot,
        planes: x.shape[0] * x.shape[1],
        window: window(&axes, &placed),
    };
    builder.emit(vec![Call::Pool(call)], &output);
    Ok(vec![output])
}

/// Over all behind batch and channels.
fn whole(builder: &mut Builder, site: &Site<'_>, op: ReduceOp) -> Result<Vec<Value>, LowerError> {
    let x = site.input(0)?;
    if x.rank() < 3 || x.len() == 0 || !x.is_float() {
        return Err(site.refuse(format!("takes {} of {:?}", x.datatype, x.shape)));
    }
    let mut shape = x.shape.clone();
    shape[2..].fill(1);
    let input = builder.dense(x)?;
    let output = builder.fresh(x.datatype, &shape)?;
    let outer = x.shape[0] * x.shape[1];
    let call = Reduce { op, input: input.slot, output: output.slot, outer, len: x.len() / outer, inner: 1 };
    builder.emit(vec![Call::Reduce(call)], &output);
    Ok(vec![output])
}
