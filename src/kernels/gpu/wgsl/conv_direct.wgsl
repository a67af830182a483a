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
    let column = i32(index % p.output_width);
    let row = i32(index / p.output_width % p.output_height);
    let plane = index / p.output_width / p.output_height;
    let channel = plane % (p.groups * p.outputs);
    let group = channel / p.outputs;
    let one = plane / (p.groups * p.outputs);
    var sum = 0.0;
    for (var of_group = 0u; of_group < p.inputs; of_group = of_group + 1u) {
        let from_plane = ((one * p.groups + group) * p.inputs + of_group) * p.input_height * p.input_width;
        let taps = {{TAPS}} * p.kernel_height * p.kernel_width;
        for (var i = 0u; i < p.kernel_height; i = i + 1u) {
            let y = {{Y}};
            if (y < 0 || y >= i32(p.input_height)) {
                continue;
            }
            for (var j = 0u; j < p.kernel_width; j = j + 1u) {
                let x = {{X}};
                if (x < 0 || x >= i32(p.input_width)) {
                    continue;
                }
                let value = input[from_plane + u32(y) * p.input_width + u32(x)];
                sum = sum + value * weight[taps + i * p.kernel_width + j];
            }
        }
    }
    let x = sum{{BIAS}};
    output[index] = {{ACTIVATION}};
}
