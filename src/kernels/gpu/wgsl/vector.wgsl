{{OPERANDS}}

{{TOTAL}}

@compute @workgroup_size({{SIZE}})
fn main(
    @builtin(workgroup_id) at: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = (at.y * groups.x + at.x) * {{TEAMS}}u + {{OWN}};
    let member = {{MEMBER}};
    let live = own < p.columns;
    let column = own % p.columns_each * {{WIDTH}}u;
    place(own / p.columns_each);
    let end = select(0u, p.k, live);
    var sum = {{KIND}}();
    for (var k = member * {{UNIT}}u; k < end; k = k + {{STRIDE}}u) {
{{ADD}}
    }
    let whole = total(sum, lane);
    if (live && member == 0u) {
{{SET}}
    }
}
