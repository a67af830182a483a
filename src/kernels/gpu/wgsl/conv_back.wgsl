// Where a tap of a transposed convolution comes from; nowhere between two steps.
fn back(at: i32, tap: u32, step: u32, dilation: u32, pad: i32) -> i32 {
    let far = at + pad - i32(tap * dilation);
    if (far < 0 || far % i32(step) != 0) {
        return -1;
    }
    return far / i32(step);
}
