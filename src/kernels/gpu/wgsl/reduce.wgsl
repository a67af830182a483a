{{TYPES}}

fn none() -> {{KIND}} {
    {{NONE}}
}

fn take(before: {{KIND}}, x: {{TYPE}}, place: u32) -> {{KIND}} {
    {{TAKE}}
}

fn finish(found: {{KIND}}, len: u32) -> {{OUT}} {
    {{FINISH}}
}

{{TOGETHER}}

@compute @workgroup_size({{SIZE}})
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (at.y * groups.x + at.x) * {{TEAMS}}u + lane / {{TEAM}}u;
    let member = lane % {{TEAM}}u;
    let live = row < p.rows;
    let first = (row / p.inner) * p.len * p.inner + row % p.inner;
    let len = select(0u, p.len, live);
    var own = none();
    for (var i = member; i < len; i = i + {{TEAM}}u) {
        own = take(own, input[first + i * p.inner], i);
    }
    let found = together(own, lane);
    if (live && member == 0u) {
        output[row] = finish(found, p.len);
    }
}
