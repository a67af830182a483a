{{TOTAL}}

fn element(i: u32) -> f32 {
    return {{ELEMENT}};
}

@compute @workgroup_size({{SIZE}})
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (at.y * groups.x + at.x) * {{TEAMS}}u + lane / {{TEAM}}u;
    let member = lane % {{TEAM}}u;
    let first = row * p.len;
    let len = select(0u, p.len, row < p.rows);
{{MEAN}}
    var squares = 0.0;
    for (var i = member; i < len; i = i + {{TEAM}}u) {
        let away = element(first + i) - mean;
        squares = squares + away * away;
    }
    let size = inverseSqrt(total(squares, lane) / f32(p.len) + p.epsilon);
    for (var i = member; i < len; i = i + {{TEAM}}u) {
        let x = element(first + i);
{{KEEP}}
        output[first + i] = (x - mean) * size{{SCALE}}{{BIAS}};
    }
}
