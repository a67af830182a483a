//! Convolutions: as products where they are such, by tiles over the taps, or element by element.

use super::{
    Site,
    product::{self, Matrix, Product},
    simple::window,
    tile::{self, Operands},
};
use crate::kernels::{
    gpu::{expr, kernel::Kernel, text},
    ir::Conv,
};

/// Outputs of a group from which a tile of them is worth its while.
const TILED_FROM: usize = 5;

const BIAS: &str = " + bias[channel]";

pub(super) fn conv(call: &Conv, site: &Site<'_>) -> Kernel {
    let window = &call.window;
    let plain = window.kernel == [1, 1] && window.strides == [1, 1] && window.pads == [0, 0];
    if call.transposed || call.outputs / call.groups < TILED_FROM {
        direct(call, site)
    } else if plain && window.input == window.output {
        product::kernel(pointwise(call), site)
    } else {
        tiled(call, site)
    }
}

/// Weights times channels.
fn pointwise(call: &Conv) -> Product {
    let plane = call.window.input[0] * call.window.input[1];
    let (inputs, outputs) = (call.inputs / call.groups, call.outputs / call.groups);
    let matrix = |slot, [one, group]: [usize; 2], row: usize, column: usize| Matrix {
        slot,
        offset: 0,
        row: row as i64,
        column: column as i64,
        batch: vec![one as i64, group as i64],
    };
    Product {
        batch: vec![call.batch, call.groups],
        m: outputs,
        k: inputs,
        n: plane,
        a: matrix(call.weight, [0, outputs * inputs], inputs, 1),
        b: matrix(call.input, [call.inputs * plane, inputs * plane], plane, 1),
        bias: call.bias.map(|bias| matrix(bias, [0, outputs], 1, 0)),
        output: matrix(call.output, [call.outputs * plane, outputs * plane], plane, 1),
        alpha: 1.0,
        activation: call.activation,
    }
}

fn bind(kernel: &mut Kernel, call: &Conv) {
    kernel.reads("input", "f32", call.input);
    kernel.reads("weight", "f32", call.weight);
    if let Some(bias) = call.bias {
        kernel.reads("bias", "f32", bias);
    }
    kernel.writes("output", "f32", call.output);
}

fn tiled(call: &Conv, site: &Site<'_>) -> Kernel {
    let parts = [
        ("BIAS", if call.bias.is_some() { BIAS } else { "" }),
        ("ACTIVATION", &expr::activation(call.activation)),
    ];
    let source = text::fill(include_str!("../wgsl/conv.wgsl"), &parts);
    let operands = Operands { source, four_b: "taps(k, column)", along: [true, false] };
    let (m, n) = (call.outputs / call.groups, call.window.output[0] * call.window.output[1]);
    let sizes = [m, n, call.batch * call.groups];
    let tile = site.tuning.tile(m, n, sizes[2]);
    let mut kernel = tile::kernel("convolution by tiles", operands, tile, sizes);
    let inputs = call.inputs / call.groups;
    kernel.count("m", m);
    kernel.count("k", inputs * call.window.kernel[0] * call.window.kernel[1]);
    kernel.count("n", n);
    kernel.count("inputs", inputs);
    kernel.count("groups", call.groups);
    window(&mut kernel, &call.window);
    bind(&mut kernel, call);
    kernel
}

fn direct(call: &Conv, site: &Site<'_>) -> Kernel {
    let template = if call.transposed {
        concat!(include_str!("../wgsl/conv_back.wgsl"), "\n", include_str!("../wgsl/conv_direct.wgsl"))
    } else {
        include_str!("../wgsl/conv_direct.wgsl")
    };
    let mut kernel = Kernel::new("convolution", template);
    let len = call.batch * call.outputs * call.window.output[0] * call.window.output[1];
    kernel.count("len", len);
    kernel.count("groups", call.groups);
    kernel.count("inputs", call.inputs / call.groups);
    kernel.count("outputs", call.outputs / call.groups);
    window(&mut kernel, &call.window);
    bind(&mut kernel, call);
    let (taps, [y, x]) = if call.transposed {
        let back = [("row", "i", "height"), ("column", "j", "width")].map(|(at, tap, along)| {
            format!("back({at}, {tap}, p.stride_{along}, p.dilation_{along}, p.pad_{along})")
        });
        ("((group * p.inputs + of_group) * p.outputs + channel % p.outputs)", back)
    } else {
        let there = [("row", "i", "height"), ("column", "j", "width")].map(|(at, tap, along)| {
            format!("{at} * i32(p.stride_{along}) + i32({tap} * p.dilation_{along}) - p.pad_{along}")
        });
        ("(channel * p.inputs + of_group)", there)
    };
    kernel.part("TAPS", taps);
    kernel.part("Y", y);
    kernel.part("X", x);
    kernel.part("BIAS", if call.bias.is_some() { BIAS } else { "" });
    kernel.part("ACTIVATION", expr::activation(call.activation));
    kernel.threads(len, site.tuning.flat);
    kernel
}
