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
    let element = index % p.size;
    let row = (index / p.size) % p.rows;
    let head = (index / p.size / p.rows) % p.heads;
    let one = index / p.size / p.rows / p.heads;
    let from_row = p.input_offset + i32(one) * p.input_s0 + i32(head) * p.input_s1 + i32(row) * p.input_s2;
    let to_row = p.output_offset + i32(one) * p.output_s0 + i32(head) * p.output_s1 + i32(row) * p.output_s2;
    let x = input[u32(from_row + i32(element) * p.input_s3)];
    let to = u32(to_row + i32(element) * p.output_s3);
    if (element >= p.turned) {
        output[to] = x;
        return;
    }
    let place = {{POSITION}};
    if (place < 0 || place >= p.positions_max) {
        atomicMax(&fault[0], 1u);
        return;
    }
    let half = p.turned / 2u;
{{PAIR}}
    let y = input[u32(from_row + i32(other) * p.input_s3)];
    let angle = u32(place) * half + pair;
    output[to] = x * cosines[angle] + select(y, -y, is_first) * sines[angle];
}
