{{TOTAL}}

{{ZEROS}}

{{A}}

fn set_one(row: u32, column: u32, sum: f32) {
    if (column < p.n) {
        let x = sum{{BIAS}};
        output[row * p.n + column] = {{ACTIVATION}};
    }
}

// Whole numbers below 2^23 as floats: put into the lower bits of 2^23, which is then taken off again with the zero.
fn floats(numbers: vec4<u32>, zero: f32) -> vec4<f32> {
    return bitcast<vec4<f32>>(numbers | vec4<u32>(0x4b000000u)) - vec4<f32>(8388608.0 + zero);
}

@compute @workgroup_size({{SIZE}})
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let team = (at.y * groups.x + at.x) * {{TEAMS}}u + lane / {{TEAM}}u;
    let member = lane % {{TEAM}}u;
    let column = team * {{COLUMNS}}u;
{{ROWS}}
    for (var unit = member; unit < p.units; unit = unit + {{TEAM}}u) {
{{ADD}}
    }
{{SET}}
}
