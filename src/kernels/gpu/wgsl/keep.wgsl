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
    let first = position[0];
    if (first < 0 || first > p.first_max) {
        atomicMax(&fault[0], 1u);
        return;
    }
    let element = index % p.size;
    let row = (index / p.size) % p.rows;
    let outer = index / p.size / p.rows;
    let start = p.input_offset + i32(outer / p.heads) * p.input_s0 + i32(outer % p.heads) * p.input_s1;
    let x = input[u32(start + i32(row) * p.input_s2 + i32(element) * p.input_s3)];
    output[(outer * p.room + u32(first) + row) * p.size + element] = x;
}
