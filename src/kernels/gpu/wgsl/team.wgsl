var<workgroup> {{NAME}}_kept: array<{{KIND}}, {{SIZE}}>;

fn {{NAME}}_join(a: {{KIND}}, b: {{KIND}}) -> {{KIND}} {
    {{JOIN}}
}

fn {{NAME}}(own: {{KIND}}, lane: u32) -> {{KIND}} {
    let member = {{MEMBER}};
    {{NAME}}_kept[lane] = own;
    workgroupBarrier();
    for (var half = {{TEAM}}u / 2u; half > 0u; half = half / 2u) {
        if (member < half) {
            {{NAME}}_kept[lane] = {{NAME}}_join({{NAME}}_kept[lane], {{NAME}}_kept[lane + half * {{APART}}u]);
        }
        workgroupBarrier();
    }
    let together = {{NAME}}_kept[lane - member * {{APART}}u];
    workgroupBarrier();
    return together;
}
