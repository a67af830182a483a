var<workgroup> asked: array<{{KIND}}, {{DIM}}>;
var<workgroup> shares: array<{{KIND}}, {{SIZE}}>;

{{MOST}}

{{TOTAL}}

// Rows are a head's queries, those of the heads that share keys one after the other.
fn query_of(one: u32, key_head: u32, row: u32, element: u32) -> f32 {
    if (row >= p.rows) {
        return 0.0;
    }
    let head = key_head * p.share + row / p.queries;
    let at = p.q_offset + i32(one) * p.q_s0 + i32(head) * p.q_s1 + i32(row % p.queries) * p.q_s2;
    return q[u32(at + i32(element) * p.q_s3)] * p.scale;
}

// The key that stands where the query does.
fn own_key(row: u32, kept: u32) -> i32 {
    return i32(min(row, p.rows - 1u) % p.queries + kept) - i32(p.queries);
}

{{MASK}}

fn set_one(one: u32, key_head: u32, row: u32, column: u32, made: f32, sum: f32) {
    if (row < p.rows) {
        let head = key_head * p.share + row / p.queries;
        let to = p.output_offset + i32(one) * p.output_s0 + i32(head) * p.output_s1;
        let place = to + i32(row % p.queries) * p.output_s2 + i32(column) * p.output_s3;
        output[u32(place)] = select(0.0, made / sum, sum > 0.0);
    }
}

@compute @workgroup_size({{SIZE}})
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = at.y * groups.x + at.x;
    if (group >= p.groups) {
        return;
    }
    let row = (group % p.blocks) * {{ROWS}}u;
    let key_head = group / p.blocks % p.key_heads;
    let one = group / p.blocks / p.key_heads;
    let kept = {{KEPT}};
    for (var i = lane; i < {{DIM}}u; i = i + {{SIZE}}u) {
        asked[i] = {{ASKED}};
    }
    let own = {{OWN}};
    let first = {{FIRST}};
    let last = {{LAST}};
    let k_at = p.k_offset + i32(one) * p.k_s0 + i32(key_head) * p.k_s1;
    let v_at = p.v_offset + i32(one) * p.v_s0 + i32(key_head) * p.v_s1;
    var best = {{KIND}}(-3.4028234e38);
    var sum = {{KIND}}();
{{ZERO}}
    workgroupBarrier();
    for (var key0 = first; key0 < last; key0 = key0 + {{SIZE}}u) {
        let key = key0 + lane;
        var score = {{KIND}}(-3.4028234e38);
        var seen = {{FLAGS}}();
        if (key < last) {
            let k_row = k_at + i32(key) * p.k_s2;
            var x = {{KIND}}();
{{DOT}}
{{CAP}}
{{ADD_MASK}}
            seen = {{SEEN}};
            score = select(score, x, seen);
        }
        let top = max(best, most(score, lane));
        let left = {{LEFT}};
        best = top;
        let own_share = select({{KIND}}(), {{SHARE}}, seen);
        shares[lane] = own_share;
        sum = sum * left + own_share;
        workgroupBarrier();
        let count = min({{SIZE}}u, last - key0);
{{VALUES}}
        workgroupBarrier();
    }
    let whole = total(sum, lane);
{{SET}}
}
