@compute @workgroup_size({{SIZE}})
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (at.y * groups.x + at.x) * {{SIZE}}u + lane;
    if (index >= p.len) {
        return;
    }
    let column = i32(index % p.output_width * p.stride_width) - p.pad_width;
    let row = i32(index / p.output_width % p.output_height * p.stride_height) - p.pad_height;
    let plane = index / p.output_width / p.output_height * p.input_height * p.input_width;
    var found = {{NONE}};
    var count = 0.0;
    for (var i = 0u; i < p.kernel_height; i = i + 1u) {
        let y = row + i32(i * p.dilation_height);
        if (y < 0 || y >= i32(p.input_height)) {
            continue;
        }
        for (var j = 0u; j < p.kernel_width; j = j + 1u) {
            let x = column + i32(j * p.dilation_width);
            if (x < 0 || x >= i32(p.input_width)) {
                continue;
            }
            let value = input[plane + u32(y) * p.input_width + u32(x)];
            found = {{STEP}};
            count = count + 1.0;
        }
    }
    output[index] = {{FINISH}};
}
