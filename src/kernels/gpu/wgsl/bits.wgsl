{{NUMBERS}}

{{ZEROS}}

fn weight(row: u32, k: u32) -> f32 {
    let block = k / p.block;
    let first = row * p.row_bytes + block * p.block_bytes;
    let number = numbers_number(first, first + p.block / 4u, k % p.block);
    return (number - {{ZERO}}) * scales[row * p.blocks + block];
}
