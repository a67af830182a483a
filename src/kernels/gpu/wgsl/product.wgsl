var<private> a_at: i32;
var<private> b_at: i32;
var<private> output_at: i32;
{{BIAS_AT}}

fn place(batch: u32) {
    a_at = p.a_offset;
    b_at = p.b_offset;
    output_at = p.output_offset;
{{BATCH}}
}

{{ACCESS}}

fn finish(sum: f32, row: u32, column: u32) -> f32 {
    let x = sum * p.alpha{{BIAS}};
    return {{ACTIVATION}};
}

fn set_one(row: u32, column: u32, sum: f32) {
    if (row < p.m && column < p.n) {
        let to = output_at + i32(row) * p.output_row + i32(column) * p.output_column;
        output[u32(to)] = finish(sum, row, column);
    }
}
