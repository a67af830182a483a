//! Calls of which a thread computes an element: gathers, rotations, what is kept, pools.

use super::{Site, kind};
use crate::kernels::{
    gpu::{GpuError, kernel::Kernel},
    ir::{Element, Gather, Keep, Pool, PoolOp, Rotary, Window},
};

pub(super) fn gather(call: &Gather, site: &Site<'_>) -> Result<Kernel, GpuError> {
    let element = site.element(call.data);
    if element == Element::Bytes {
        return Err(GpuError::Call { call: "gather", why: "it reads weights of few bits" });
    }
    let mut kernel = Kernel::new("gather", include_str!("../wgsl/gather.wgsl"));
    let fours = call.inner.is_multiple_of(4);
    let inner = if fours { call.inner / 4 } else { call.inner };
    let held = if fours { format!("vec4<{}>", kind(element)) } else { kind(element).to_owned() };
    let len = call.outer * call.count * inner;
    kernel.count("len", len);
    kernel.count("inner", inner);
    kernel.count("count", call.count);
    kernel.count("axis", call.axis);
    kernel.reads("data", &held, call.data);
    kernel.reads("indices", "i32", call.indices);
    kernel.faults();
    kernel.writes("output", &held, call.output);
    kernel.threads(len, site.tuning.flat);
    Ok(kernel)
}

pub(super) fn rotary(call: &Rotary, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("rotary", include_str!("../wgsl/rotary.wgsl"));
    let len = call.batch * call.heads * call.rows * call.size;
    kernel.count("len", len);
    kernel.count("heads", call.heads);
    kernel.count("rows", call.rows);
    kernel.count("size", call.size);
    kernel.count("turned", call.turned);
    kernel.int("positions_max", call.positions_max as i64);
    kernel.view("input", &call.input);
    kernel.view("output", &call.output);
    kernel.reads("input", "f32", call.input.slot);
    kernel.reads("cosines", "f32", call.cos);
    kernel.reads("sines", "f32", call.sin);
    kernel.reads("positions", "i32", call.positions);
    kernel.faults();
    kernel.writes("output", "f32", call.output.slot);
    let one = "positions[0] + i32(row)";
    kernel.part("POSITION", if call.positions_len == 1 { one } else { "positions[one * p.rows + row]" });
    let pair = if call.interleaved {
        "    let is_first = element % 2u == 0u;
    let pair = element / 2u;
    let other = select(element - 1u, element + 1u, is_first);"
    } else {
        "    let is_first = element < half;
    let pair = element % half;
    let other = select(element - half, element + half, is_first);"
    };
    kernel.part("PAIR", pair);
    kernel.threads(len, site.tuning.flat);
    kernel
}

pub(super) fn keep(call: &Keep, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("keep", include_str!("../wgsl/keep.wgsl"));
    let len = call.batch * call.heads * call.rows * call.size;
    kernel.count("len", len);
    kernel.count("heads", call.heads);
    kernel.count("rows", call.rows);
    kernel.count("size", call.size);
    kernel.count("room", call.room);
    kernel.int("first_max", call.rows_max as i64 - call.rows as i64);
    kernel.view("input", &call.input);
    kernel.reads("input", "f32", call.input.slot);
    kernel.reads("position", "i32", call.at);
    kernel.faults();
    kernel.writes("output", "f32", call.output);
    kernel.threads(len, site.tuning.flat);
    kernel
}

pub(super) fn pool(call: &Pool, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("pool", include_str!("../wgsl/pool.wgsl"));
    let [height, width] = call.window.output;
    let len = call.planes * height * width;
    kernel.count("len", len);
    window(&mut kernel, &call.window);
    kernel.reads("input", "f32", call.input);
    kernel.writes("output", "f32", call.output);
    let (none, take, finish) = match call.op {
        PoolOp::Max => ("-infinity()", "max(found, value)", "found"),
        PoolOp::Mean => ("0.0", "found + value", "found / count"),
        PoolOp::MeanOfAll => ("0.0", "found + value", "found / f32(p.kernel_height * p.kernel_width)"),
    };
    kernel.part("NONE", none);
    kernel.part("STEP", take);
    kernel.part("FINISH", finish);
    kernel.threads(len, site.tuning.flat);
    kernel
}

/// The parameters of a window.
pub(super) fn window(kernel: &mut Kernel, window: &Window) {
    let counts = [
        ("input", window.input),
        ("output", window.output),
        ("kernel", window.kernel),
        ("stride", window.strides),
        ("dilation", window.dilations),
    ];
    for (name, [height, width]) in counts {
        kernel.count(&format!("{name}_height"), height);
        kernel.count(&format!("{name}_width"), width);
    }
    kernel.int("pad_height", window.pads[0]);
    kernel.int("pad_width", window.pads[1]);
}
