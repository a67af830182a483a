fn place(batch: u32) {
}

fn get_a(row: u32, k: u32) -> f32 {
    if (row >= p.m) {
        return 0.0;
    }
    return a[row * p.k + k];
}

fn get_b(k: u32, column: u32) -> f32 {
    if (column >= p.n) {
        return 0.0;
    }
    return weight(column, k);
}

fn set_one(row: u32, column: u32, sum: f32) {
    if (row < p.m && column < p.n) {
        let x = sum{{BIAS}};
        output[row * p.n + column] = {{ACTIVATION}};
    }
}
