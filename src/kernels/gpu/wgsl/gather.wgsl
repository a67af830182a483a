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
    let inner = index % p.inner;
    let row = index / p.inner;
    let asked = indices[row % p.count];
    let place = select(asked, asked + i32(p.axis), asked < 0);
    if (place < 0 || place >= i32(p.axis)) {
        atomicMax(&fault[0], 1u);
        return;
    }
    output[index] = data[((row / p.count) * p.axis + u32(place)) * p.inner + inner];
}
