//! Which records compute a call of a routine.

use super::{
    WasmError, expr,
    making::Making,
    record::{Function, RANK, Record, Word},
};
use crate::kernels::ir::{
    Attention, Call, Conv, Element, Expr, Gather, Keep, Map, MatMul, Norm, Pool, Reduce, Rotary, Softmax,
    View, Window,
};

/// As `abi.h` has them.
const MAP_BLOCK: usize = 256;
const LANE_BLOCK: usize = 64;
const TILE_ROWS: usize = 64;
const TILE_COLUMNS: usize = 64;
const WIDTH_MAX: usize = 512;
const ATTENTION_QUERIES: usize = 4;
const ATTENTION_SIZE: usize = 1024;

pub(super) fn lower(call: &Call, making: &mut Making<'_>) -> Result<(), WasmError> {
    match call {
        Call::Map(call) => {
            let record = map(call, making)?;
            making.push(record);
        }
        Call::Gather(call) => making.push(gather(call)),
        Call::Reduce(call) => {
            let integers = making.element(call.input) == Element::I32;
            making.push(reduce(call, integers));
        }
        Call::Softmax(call) => making.push(softmax(call)),
        Call::Norm(call) => making.push(norm(call)),
        Call::MatMul(call) => making.push(matmul(call)?),
        Call::MatMulBits(call) => super::bits::matmul(call, making)?,
        Call::GatherBits(call) => super::bits::gather(call, making)?,
        Call::Attention(call) => making.push(attention(call)?),
        Call::Rotary(call) => making.push(rotary(call)),
        Call::Keep(call) => making.push(keep(call)),
        Call::Conv(call) => conv(call, making)?,
        Call::Pool(call) => making.push(pool(call)),
    }
    Ok(())
}

/// Strides of what is walked over, with zeros for the dimensions that there are not.
fn padded(strides: &[i64]) -> impl Iterator<Item = i64> {
    strides.iter().copied().chain(std::iter::repeat(0)).take(RANK)
}

/// The dimensions of more than one element, or one of one: how something lies does not depend on the others.
fn walked(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).filter(|at| shape[*at] != 1).collect()
}

pub(super) fn map(call: &Map, making: &Making<'_>) -> Result<Record, WasmError> {
    let elements: Vec<Element> = call.inputs.iter().map(|view| making.element(view.slot)).collect();
    let made = expr::instructions(&call.expr, &elements)?;
    let kept = walked(&call.shape);
    if kept.len() > RANK {
        return Err(WasmError::Call { call: "map", why: "it walks over too many dimensions" });
    }
    let strides = |view: &View| -> Vec<i64> {
        let own: Vec<i64> = kept.iter().map(|at| view.strides[*at]).collect();
        padded(if own.is_empty() { &[1] } else { &own }).collect()
    };
    let shape: Vec<i64> = kept.iter().map(|at| call.shape[*at] as i64).collect();
    let count: usize = call.shape.iter().product();
    let mut record = Record::new(Function::Map, count.div_ceil(MAP_BLOCK))
        .write_at("output", Some((call.output.slot, call.output.offset)))
        .whole("rank", kept.len().max(1))
        .signed("shape", padded(if shape.is_empty() { &[1] } else { &shape }))
        .signed("strides", strides(&call.output))
        .whole("inputs", call.inputs.len())
        .whole("constants", made.constants.len())
        .whole("instructions", made.steps.len())
        .whole("result", made.result);
    for input in &call.inputs {
        record = record.read_view(["data", "strides"], Some(input), strides, RANK);
    }
    let constants = made.constants.iter().map(|bits| Word::Whole((*bits).into()));
    let steps = made.steps.iter().flat_map(|(op, places)| {
        [Word::Whole((*op).into()), Word::Whole(u32::from_le_bytes(*places).into())]
    });
    Ok(record.words("instructions", constants.chain(steps).collect()))
}

pub(super) fn gather(call: &Gather) -> Record {
    Record::new(Function::Gather, call.outer * call.count)
        .read("data", call.data)
        .read("indices", call.indices)
        .write("output", call.output)
        .whole("axis", call.axis)
        .whole("count", call.count)
        .whole("inner", call.inner)
}

pub(super) fn reduce(call: &Reduce, integers: bool) -> Record {
    Record::new(Function::Reduce, call.outer * call.inner.div_ceil(LANE_BLOCK))
        .whole("op", call.op as usize)
        .flag("integers", integers)
        .read("input", call.input)
        .write("output", call.output)
        .whole("len", call.len)
        .whole("inner", call.inner)
}

pub(super) fn softmax(call: &Softmax) -> Record {
    Record::new(Function::Softmax, call.outer * call.inner.div_ceil(LANE_BLOCK))
        .flag("log", call.log)
        .read("input", call.input)
        .write("output", call.output)
        .whole("len", call.len)
        .whole("inner", call.inner)
}

pub(super) fn norm(call: &Norm) -> Record {
    Record::new(Function::Norm, call.rows)
        .whole("kind", call.kind as usize)
        .read("input", call.input)
        .read("skip", call.skip)
        .read("scale", call.scale)
        .read("bias", call.bias)
        .write("output", call.output)
        .write("sum", call.sum)
        .whole("len", call.len)
        .float("epsilon", call.epsilon)
}

/// Products of a batch that share the right side, one below the other, are one of more rows.
fn joined(call: &MatMul) -> MatMul {
    let mut call = call.clone();
    while let Some(size) = call.batch.last().copied() {
        let at = call.batch.len() - 1;
        // One row's own stride says nothing.
        let below = |view: &View| call.m == 1 || view.strides[at] == view.strides[at + 1] * call.m as i64;
        let alike = size == 1
            || (call.b.strides[at] == 0
                && below(&call.a)
                && below(&call.output)
                && call.bias.as_ref().is_none_or(below));
        if !alike {
            break;
        }
        if call.m == 1 && size > 1 {
            let views = [Some(&mut call.a), Some(&mut call.output), call.bias.as_mut()];
            views.into_iter().flatten().for_each(|view| view.strides[at + 1] = view.strides[at]);
        }
        call.m *= size;
        call.batch.pop();
        let views = [Some(&mut call.a), Some(&mut call.b), Some(&mut call.output), call.bias.as_mut()];
        views.into_iter().flatten().for_each(|view| {
            view.strides.remove(at);
        });
    }
    call
}

pub(super) fn matmul(call: &MatMul) -> Result<Record, WasmError> {
    let call = &joined(call);
    let rank = call.batch.len();
    if rank > RANK {
        return Err(WasmError::Call { call: "matmul", why: "its batch has too many dimensions" });
    }
    let width = if call.m == 1 && call.b.strides[rank + 1] == 1 { WIDTH_MAX } else { TILE_COLUMNS };
    let strides = |view: &View| -> Vec<i64> {
        padded(&view.strides[..rank]).chain(view.strides[rank..].iter().copied()).collect()
    };
    let units = call.batch.iter().product::<usize>() * call.m.div_ceil(TILE_ROWS) * call.n.div_ceil(width);
    let batch: Vec<i64> = call.batch.iter().map(|size| *size as i64).collect();
    Ok(Record::new(Function::Matmul, units)
        .whole("rank", rank)
        .signed("shape", padded(&batch))
        .whole("m", call.m)
        .whole("k", call.k)
        .whole("n", call.n)
        .whole("width", width)
        .read_view(["a", "a_strides"], Some(&call.a), strides, RANK + 2)
        .read_view(["b", "b_strides"], Some(&call.b), strides, RANK + 2)
        .read_view(["bias", "bias_strides"], call.bias.as_ref(), strides, RANK + 2)
        .write_view(["output", "output_strides"], &call.output, strides(&call.output))
        .float("alpha", call.alpha)
        .activation(call.activation))
}

pub(super) fn attention(call: &Attention) -> Result<Record, WasmError> {
    if call.size.max(call.value_size) > ATTENTION_SIZE {
        return Err(WasmError::Call { call: "attention", why: "a head is wider than 1024" });
    }
    let own = |view: &View| view.strides.clone();
    Ok(Record::new(Function::Attention, call.batch * call.heads * call.queries.div_ceil(ATTENTION_QUERIES))
        .whole("heads", call.heads)
        .whole("key_heads", call.key_heads)
        .whole("queries", call.queries)
        .whole("keys", call.keys)
        .whole("size", call.size)
        .whole("value_size", call.value_size)
        .read_view(["q", "q_strides"], Some(&call.q), own, 4)
        .read_view(["k", "k_strides"], Some(&call.k), own, 4)
        .read_view(["v", "v_strides"], Some(&call.v), own, 4)
        .read_view(["mask", "mask_strides"], call.mask.as_ref(), own, 4)
        .read("lengths", call.lengths)
        .flag("causal", call.causal)
        .signed("window", [call.window.map_or(-1, |window| window as i64)])
        .float("scale", call.scale)
        .float("softcap", call.softcap.unwrap_or(0.0))
        .write_view(["output", "output_strides"], &call.output, own(&call.output)))
}

pub(super) fn keep(call: &Keep) -> Record {
    Record::new(Function::Keep, call.batch * call.heads * call.rows)
        .whole("heads", call.heads)
        .whole("rows", call.rows)
        .whole("size", call.size)
        .read_view(["input", "input_strides"], Some(&call.input), |view| view.strides.clone(), 4)
        .read("position", call.at)
        .whole("rows_max", call.rows_max)
        .write("output", call.output)
        .whole("room", call.room)
}

pub(super) fn rotary(call: &Rotary) -> Record {
    Record::new(Function::Rotary, call.batch * call.heads * call.rows)
        .whole("heads", call.heads)
        .whole("rows", call.rows)
        .whole("size", call.size)
        .whole("turned", call.turned)
        .read_view(["input", "input_strides"], Some(&call.input), |view| view.strides.clone(), 4)
        .write_view(["output", "output_strides"], &call.output, call.output.strides.clone())
        .read("cos", call.cos)
        .read("sin", call.sin)
        .whole("positions_max", call.positions_max)
        .read("positions", call.positions)
        .whole("positions_len", call.positions_len)
        .flag("interleaved", call.interleaved)
}

/// A transposed one's weights are turned first, so that each output's lie in a row.
fn conv(call: &Conv, making: &mut Making<'_>) -> Result<(), WasmError> {
    let mut call = call.clone();
    if call.transposed {
        let (groups, kernel) = (call.groups, call.window.kernel.iter().product::<usize>());
        let (inputs, outputs) = (call.inputs / groups, call.outputs / groups);
        let turned = making.fresh(Element::F32, making.len(call.weight));
        let shape = [groups, outputs, inputs, kernel];
        let strides = |sizes: [usize; 4]| sizes.map(|size| size as i64).to_vec();
        let turn = Map {
            shape: shape.to_vec(),
            inputs: vec![View {
                slot: call.weight,
                offset: 0,
                strides: strides([inputs * outputs * kernel, kernel, outputs * kernel, 1]),
            }],
            output: View {
                slot: turned,
                offset: 0,
                strides: strides([outputs * inputs * kernel, inputs * kernel, kernel, 1]),
            },
            expr: Expr::Input(0),
        };
        let record = map(&turn, making)?;
        making.push_derived(call.weight, record);
        call.weight = turned;
    }
    making.push(convolution(&call));
    Ok(())
}

pub(super) fn convolution(call: &Conv) -> Record {
    let plane: usize = call.window.output.iter().product();
    let blocks = (call.outputs / call.groups).div_ceil(TILE_ROWS) * plane.div_ceil(TILE_COLUMNS);
    Record::new(Function::Conv, call.batch * call.groups * blocks)
        .read("input", call.input)
        .read("weight", call.weight)
        .read("bias", call.bias)
        .write("output", call.output)
        .whole("inputs", call.inputs)
        .whole("outputs", call.outputs)
        .whole("groups", call.groups)
        .signed("window", window(&call.window))
        .flag("transposed", call.transposed)
        .activation(call.activation)
}

pub(super) fn pool(call: &Pool) -> Record {
    Record::new(Function::Pool, call.planes)
        .whole("op", call.op as usize)
        .read("input", call.input)
        .write("output", call.output)
        .signed("window", window(&call.window))
}

fn window(window: &Window) -> Vec<i64> {
    let sizes = [window.input, window.output, window.kernel, window.strides, window.dilations];
    sizes.iter().flatten().map(|size| *size as i64).chain(window.pads).collect()
}
