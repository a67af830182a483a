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
    let asked = indices[index / p.k];
    let row = select(asked, asked + p.rows, asked < 0);
    if (row < 0 || row >= p.rows) {
        atomicMax(&fault[0], 1u);
        return;
    }
    output[index] = weight(u32(row), index % p.k);
}
