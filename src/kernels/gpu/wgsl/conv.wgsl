var<private> group_at: u32;
var<private> plane_at: u32;

fn place(batch: u32) {
    group_at = batch % p.groups;
    plane_at = batch;
}

fn get_a(row: u32, k: u32) -> f32 {
    if (row >= p.m) {
        return 0.0;
    }
    return weight[(group_at * p.m + row) * p.k + k];
}

fn taps(k: u32, column: u32) -> vec4<f32> {
    let tap = k % (p.kernel_height * p.kernel_width);
    let plane = (plane_at * p.inputs + k / (p.kernel_height * p.kernel_width)) * p.input_height * p.input_width;
    let dy = i32(tap / p.kernel_width * p.dilation_height) - p.pad_height;
    let dx = i32(tap % p.kernel_width * p.dilation_width) - p.pad_width;
    return vec4<f32>(
        pixel(plane, dy, dx, column),
        pixel(plane, dy, dx, column + 1u),
        pixel(plane, dy, dx, column + 2u),
        pixel(plane, dy, dx, column + 3u),
    );
}

fn pixel(plane: u32, dy: i32, dx: i32, column: u32) -> f32 {
    let y = i32(column / p.output_width * p.stride_height) + dy;
    let x = i32(column % p.output_width * p.stride_width) + dx;
    if (column >= p.n || y < 0 || y >= i32(p.input_height) || x < 0 || x >= i32(p.input_width)) {
        return 0.0;
    }
    return input[plane + u32(y) * p.input_width + u32(x)];
}

fn set_one(row: u32, column: u32, sum: f32) {
    if (row < p.m && column < p.n) {
        let channel = group_at * p.m + row;
        let x = sum{{BIAS}};
        output[(plane_at * p.m + row) * p.n + column] = {{ACTIVATION}};
    }
}
