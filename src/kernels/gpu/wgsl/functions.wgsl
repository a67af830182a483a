// Functions that kernels call, each taken along where something calls it. A blank line ends each.

fn not_a_number() -> f32 {
    var bits = 0x7fc00000u;
    return bitcast<f32>(bits);
}

fn infinity() -> f32 {
    var bits = 0x7f800000u;
    return bitcast<f32>(bits);
}

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_inf(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u;
}

fn relu_of(x: f32) -> f32 {
    return select(max(x, 0.0), x, is_nan(x));
}

fn min_of(a: f32, b: f32) -> f32 {
    return select(select(min(a, b), b, is_nan(b)), a, is_nan(a));
}

fn max_of(a: f32, b: f32) -> f32 {
    return select(select(max(a, b), b, is_nan(b)), a, is_nan(a));
}

fn exp_down(x: f32) -> f32 {
    return select(exp(x), 0.0, x < -87.0);
}

fn exp_down4(x: vec4<f32>) -> vec4<f32> {
    return select(exp(x), vec4<f32>(), x < vec4<f32>(-87.0));
}

fn log1p_of(x: f32) -> f32 {
    if (abs(x) < 0.05) {
        return x * (1.0 + x * (-0.5 + x * (0.33333333 + x * (-0.25 + x * (0.2 - x * 0.16666667)))));
    }
    return log(1.0 + x);
}

fn sigmoid_of(x: f32) -> f32 {
    let e = exp_down(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn silu_of(x: f32) -> f32 {
    return x * sigmoid_of(x);
}

fn softplus_of(x: f32) -> f32 {
    return max(x, 0.0) + log1p_of(exp_down(-abs(x)));
}

// Beyond 10 it is 1, and some drivers overflow there.
fn tanh_of(x: f32) -> f32 {
    let a = min(abs(x), 10.0);
    if (a < 0.3) {
        let s = x * x;
        return x * (1.0 + s * (-0.33333333 + s * (0.13333333 + s * (-0.053968254 + s * 0.021869489))));
    }
    let e = exp(-2.0 * a);
    return sign(x) * (1.0 - e) / (1.0 + e);
}

fn sinh_of(x: f32) -> f32 {
    if (abs(x) < 1.0) {
        let s = x * x;
        return x * (1.0 + s / 6.0 * (1.0 + s / 20.0 * (1.0 + s / 42.0 * (1.0 + s / 72.0))));
    }
    return 0.5 * (exp(x) - exp(-x));
}

fn cosh_of(x: f32) -> f32 {
    return 0.5 * (exp(x) + exp(-x));
}

fn asinh_of(x: f32) -> f32 {
    let a = abs(x);
    if (a > 1e9) {
        return sign(x) * (log(a) + 0.69314718);
    }
    return sign(x) * log1p_of(a + a * a / (1.0 + sqrt(a * a + 1.0)));
}

fn acosh_of(x: f32) -> f32 {
    let t = x - 1.0;
    if (t > 1e9) {
        return log(x) + 0.69314718;
    }
    if (t < 0.0) {
        return not_a_number();
    }
    return log1p_of(t + sqrt(2.0 * t + t * t));
}

fn atanh_of(x: f32) -> f32 {
    let a = abs(x);
    if (a > 1.0) {
        return not_a_number();
    }
    if (a == 1.0) {
        return sign(x) * infinity();
    }
    return sign(x) * 0.5 * log1p_of(2.0 * a / (1.0 - a));
}

// By Abramowitz and Stegun, 7.1.26; small arguments by the series, whose relative error is small too.
fn erf_of(x: f32) -> f32 {
    let a = abs(x);
    if (a < 0.5) {
        let s = x * x;
        let series = 1.0 + s * (-0.33333333 + s * (0.1 + s * (-0.023809524 + s * (0.0046296296 - s * 0.00075757576))));
        return 1.1283792 * x * series;
    }
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - sum * exp_down(-a * a));
}

fn gelu_of(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf_of(x * 0.70710678));
}

fn gelu_tanh_of(x: f32) -> f32 {
    return 0.5 * x * (1.0 + tanh_of(0.79788456 * (x + 0.044715 * x * x * x)));
}

// The sine of x and so many quarter turns, by what is left of x after its own quarter turns.
fn sin_turned(x: f32, turns: i32) -> f32 {
    let quarters = round(x * 0.63661977);
    let r = ((x - quarters * 1.5703125) - quarters * 0.00048375129699707) - quarters * 7.5497899548918822e-8;
    let z = r * r;
    let turned = (i32(quarters) + turns) & 3;
    let sine = r + r * z * (-0.16666655 + z * (0.0083321609 - z * 0.00019515296));
    let cosine = 1.0 - 0.5 * z + z * z * (0.041666646 + z * (-0.0013887316 + z * 0.000024433157));
    let size = select(sine, cosine, (turned & 1) == 1);
    return select(size, -size, turned > 1);
}

fn sin_of(x: f32) -> f32 {
    return sin_turned(x, 0);
}

fn cos_of(x: f32) -> f32 {
    return sin_turned(x, 1);
}

fn tan_of(x: f32) -> f32 {
    return sin_turned(x, 0) / sin_turned(x, 1);
}

fn atan_of(x: f32) -> f32 {
    let a = abs(x);
    var base = 0.0;
    var r = a;
    if (a > 2.4142136) {
        base = 1.5707963;
        r = -1.0 / a;
    } else if (a > 0.41421356) {
        base = 0.78539816;
        r = (a - 1.0) / (a + 1.0);
    }
    let z = r * r;
    let part = z * (-0.33332950 + z * (0.19977711 + z * (-0.13877686 + z * 0.080537446)));
    return sign(x) * (base + (r + r * part));
}

fn asin_part(x: f32) -> f32 {
    let z = x * x;
    let sum = 0.16666752 + z * (0.074953003 + z * (0.045470026 + z * (0.024181311 + z * 0.042163199)));
    return x + x * z * sum;
}

fn asin_of(x: f32) -> f32 {
    let a = abs(x);
    if (a > 1.0) {
        return not_a_number();
    }
    if (a > 0.5) {
        return sign(x) * (1.5707963 - 2.0 * asin_part(sqrt(0.5 * (1.0 - a))));
    }
    return asin_part(x);
}

fn acos_of(x: f32) -> f32 {
    let a = abs(x);
    if (a > 1.0) {
        return not_a_number();
    }
    if (a > 0.5) {
        let near = 2.0 * asin_part(sqrt(0.5 * (1.0 - a)));
        return select(near, 3.1415927 - near, x < 0.0);
    }
    return 1.5707963 - asin_part(x);
}

fn square_of(x: f32) -> f32 {
    return x * x;
}

fn pow_of(x: f32, y: f32) -> f32 {
    let whole = y == trunc(y);
    if (whole && abs(y) <= 64.0) {
        var left = u32(abs(y));
        var base = x;
        var product = 1.0;
        while (left > 0u) {
            if ((left & 1u) == 1u) {
                product = product * base;
            }
            base = base * base;
            left = left >> 1u;
        }
        return select(product, 1.0 / product, y < 0.0);
    }
    if (x == 0.0) {
        return select(0.0, infinity(), y < 0.0);
    }
    let size = exp2(y * log2(abs(x)));
    if (x > 0.0) {
        return size;
    }
    if (!whole) {
        return not_a_number();
    }
    return select(size, -size, fract(abs(y) * 0.5) != 0.0);
}

// Adjusted once, since the quotient may be rounded up.
fn fmod_of(a: f32, b: f32) -> f32 {
    let size = abs(b);
    let dividend = abs(a);
    var left = dividend - size * floor(dividend / size);
    left = select(left, left + size, left < 0.0);
    left = select(left, left - size, left >= size);
    return select(left, -left, a < 0.0);
}

fn mod_of(a: f32, b: f32) -> f32 {
    return a - b * floor(a / b);
}

fn div_int(a: i32, b: i32) -> i32 {
    let by = select(b, 1, b == 0);
    return select(a / by, 0, b == 0);
}

fn rem_int(a: i32, b: i32) -> i32 {
    let by = select(b, 1, b == 0);
    return select(a - (a / by) * by, 0, b == 0);
}

fn mod_int(a: i32, b: i32) -> i32 {
    let left = rem_int(a, b);
    return select(left, left + b, left != 0 && ((left < 0) != (b < 0)));
}

fn pow_int(x: i32, y: i32) -> i32 {
    if (y < 0) {
        let odd = (y & 1) == 1;
        return select(select(0, select(1, -1, odd), x == -1), 1, x == 1);
    }
    var left = u32(y);
    var base = x;
    var product = 1;
    while (left > 0u) {
        if ((left & 1u) == 1u) {
            product = product * base;
        }
        base = base * base;
        left = left >> 1u;
    }
    return product;
}

fn digit_of(byte: u32, at: u32) -> u32 {
    var left = byte;
    for (var i = 0u; i < at; i = i + 1u) {
        left = left / 3u;
    }
    return left % 3u;
}
