fn zero_of(row: u32, block: u32) -> f32 {
    let first = row * p.zero_bytes;
    return zeros_number(first, first + p.zero_other, block);
}
