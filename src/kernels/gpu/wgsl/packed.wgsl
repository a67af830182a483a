fn {{NAME}}_byte(at: u32) -> u32 {
    return ({{NAME}}[at / 4u] >> (at % 4u * 8u)) & 255u;
}

// The number at a place of those that are packed from a byte on; what is beside them lies at the other.
fn {{NAME}}_number(first: u32, other: u32, at: u32) -> f32 {
    return f32({{NUMBER}});
}
