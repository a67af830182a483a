fn compute({{TAKES}}) -> {{TYPE}} {
    return {{VALUE}};
}

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
{{PLACES}}
{{READS}}
    output[{{OUTPUT}}] = {{MADE}};
}
