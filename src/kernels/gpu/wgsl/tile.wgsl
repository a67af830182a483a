var<workgroup> tile_a: array<vec4<f32>, {{LEN_A}}>;
var<workgroup> tile_b: array<vec4<f32>, {{LEN_B}}>;

{{OPERANDS}}

fn load_a(row: u32, k: u32) -> vec4<f32> {
    if (k >= p.k) {
        return vec4<f32>();
    }
    return vec4<f32>(get_a(row, k), get_a(row + 1u, k), get_a(row + 2u, k), get_a(row + 3u, k));
}

fn load_b(k: u32, column: u32) -> vec4<f32> {
    if (k >= p.k) {
        return vec4<f32>();
    }
    return {{FOUR_B}};
}

fn store(row: u32, column: u32, sums: vec4<f32>) {
    set_one(row, column, sums.x);
    set_one(row, column + 1u, sums.y);
    set_one(row, column + 2u, sums.z);
    set_one(row, column + 3u, sums.w);
}

@compute @workgroup_size({{THREADS}})
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = at.y * groups.x + at.x;
    if (tile >= p.tiles) {
        return;
    }
    let column0 = (tile % p.tiles_n) * {{COLUMNS}}u;
    let row0 = (tile / p.tiles_n % p.tiles_m) * {{ROWS}}u;
    place(tile / p.tiles_n / p.tiles_m);
    let tx = lane % {{ACROSS}}u;
    let ty = lane / {{ACROSS}}u;
{{ZERO}}
    for (var k0 = 0u; k0 < p.k; k0 = k0 + {{DEPTH}}u) {
        for (var e = lane; e < {{FOURS_A}}u; e = e + {{THREADS}}u) {
            let k = {{A_K}};
            let row = {{A_ROW}};
            tile_a[k * {{PITCH_A}}u + row] = load_a(row0 + row * 4u, k0 + k);
        }
        for (var e = lane; e < {{FOURS_B}}u; e = e + {{THREADS}}u) {
            let k = {{B_K}};
            let column = {{B_COLUMN}};
            tile_b[k * {{PITCH_B}}u + column] = load_b(k0 + k, column0 + column * 4u);
        }
        workgroupBarrier();
        for (var k = 0u; k < {{DEPTH}}u; k = k + 1u) {
{{MULTIPLY}}
        }
        workgroupBarrier();
    }
{{STORE}}
}
