{{MOST}}

{{TOTAL}}

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
    var own = -3.4028234e38;
    for (var i = member; i < len; i = i + {{TEAM}}u) {
        own = max(own, input[first + i * p.inner]);
    }
    let top = most(own, lane);
    var sum = 0.0;
    for (var i = member; i < len; i = i + {{TEAM}}u) {
        sum = sum + exp_down(input[first + i * p.inner] - top);
    }
    let whole = total(sum, lane);
    for (var i = member; i < len; i = i + {{TEAM}}u) {
        let x = input[first + i * p.inner] - top;
        output[first + i * p.inner] = {{VALUE}};
    }
}
