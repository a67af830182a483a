/* Exponential, logarithm and their kin on vectors of four; the polynomials are fits of our own to errors below 1e-8. */

#pragma once

#include "kernels.h"

#define SPLAT(value) wasm_f32x4_splat(value)

INLINE v128_t absolute(v128_t x) { return wasm_f32x4_abs(x); }

INLINE v128_t with_sign_of(v128_t magnitude, v128_t x) {
  v128_t sign = wasm_i32x4_splat((i32)0x80000000u);
  return wasm_v128_or(magnitude, wasm_v128_and(x, sign));
}

INLINE v128_t exp4(v128_t x) {
  /* NaN stays: the comparison with it is false. */
  x = wasm_f32x4_pmin(x, SPLAT(89.0f));
  x = wasm_f32x4_pmax(x, SPLAT(-104.0f));
  /* Added to a number of less than 2^22, it leaves the nearest whole number in the low bits. */
  v128_t magic = SPLAT(12582912.0f);
  v128_t shifted = wasm_f32x4_add(wasm_f32x4_mul(x, SPLAT(1.4426950408889634f)), magic);
  v128_t n = wasm_f32x4_sub(shifted, magic);
  v128_t r = wasm_f32x4_sub(x, wasm_f32x4_mul(n, SPLAT(0.693359375f)));
  r = wasm_f32x4_sub(r, wasm_f32x4_mul(n, SPLAT(-2.12194440e-4f)));
  v128_t p = SPLAT(1.395171725e-03f);
  p = MADD(p, r, SPLAT(8.369598410e-03f));
  p = MADD(p, r, SPLAT(4.166618728e-02f));
  p = MADD(p, r, SPLAT(1.666651289e-01f));
  p = MADD(p, r, SPLAT(5.000000101e-01f));
  p = MADD(p, wasm_f32x4_mul(r, r), r);
  p = wasm_f32x4_add(p, SPLAT(1.0f));
  /* In two halves, so that neither leaves the range of exponents. */
  v128_t exponent = wasm_i32x4_sub(shifted, magic);
  v128_t half = wasm_i32x4_shr(exponent, 1);
  v128_t rest = wasm_i32x4_sub(exponent, half);
  v128_t one = wasm_i32x4_splat(127);
  p = wasm_f32x4_mul(p, wasm_i32x4_shl(wasm_i32x4_add(half, one), 23));
  return wasm_f32x4_mul(p, wasm_i32x4_shl(wasm_i32x4_add(rest, one), 23));
}

INLINE v128_t log4(v128_t x) {
  v128_t tiny = wasm_f32x4_lt(x, SPLAT(1.17549435e-38f));
  v128_t scaled = wasm_v128_bitselect(wasm_f32x4_mul(x, SPLAT(8388608.0f)), x, tiny);
  v128_t exponent = wasm_i32x4_sub(wasm_u32x4_shr(scaled, 23), wasm_i32x4_splat(127));
  exponent = wasm_i32x4_sub(exponent, wasm_v128_and(tiny, wasm_i32x4_splat(23)));
  v128_t m = wasm_v128_or(wasm_v128_and(scaled, wasm_i32x4_splat(0x7fffff)), wasm_i32x4_splat(0x3f800000));
  v128_t high = wasm_f32x4_gt(m, SPLAT(1.41421356f));
  m = wasm_v128_bitselect(wasm_f32x4_mul(m, SPLAT(0.5f)), m, high);
  v128_t e = wasm_f32x4_convert_i32x4(wasm_i32x4_sub(exponent, high));
  v128_t f = wasm_f32x4_sub(m, SPLAT(1.0f));
  v128_t p = SPLAT(6.915367982e-02f);
  p = MADD(p, f, SPLAT(-1.178980764e-01f));
  p = MADD(p, f, SPLAT(1.187297630e-01f));
  p = MADD(p, f, SPLAT(-1.238434848e-01f));
  p = MADD(p, f, SPLAT(1.421865809e-01f));
  p = MADD(p, f, SPLAT(-1.666925082e-01f));
  p = MADD(p, f, SPLAT(2.000222661e-01f));
  p = MADD(p, f, SPLAT(-2.499998660e-01f));
  p = MADD(p, f, SPLAT(3.333331044e-01f));
  v128_t square = wasm_f32x4_mul(f, f);
  v128_t tail = wasm_f32x4_mul(wasm_f32x4_mul(p, f), square);
  tail = MADD(e, SPLAT(-2.12194440e-4f), tail);
  tail = wasm_f32x4_sub(tail, wasm_f32x4_mul(square, SPLAT(0.5f)));
  v128_t log = MADD(e, SPLAT(0.693359375f), wasm_f32x4_add(f, tail));
  v128_t infinity = SPLAT(__builtin_inff());
  log = wasm_v128_bitselect(x, log, wasm_f32x4_eq(x, infinity));
  log = wasm_v128_bitselect(wasm_f32x4_neg(infinity), log, wasm_f32x4_eq(x, SPLAT(0.0f)));
  /* Where x is below 0 or no number, so is its logarithm. */
  return wasm_v128_bitselect(log, SPLAT(__builtin_nanf("")), wasm_f32x4_ge(x, SPLAT(0.0f)));
}

INLINE v128_t tanh4(v128_t x) {
  v128_t square = wasm_f32x4_mul(x, x);
  v128_t p = SPLAT(-5.670111722e-03f);
  p = MADD(p, square, SPLAT(2.061013739e-02f));
  p = MADD(p, square, SPLAT(-5.373164106e-02f));
  p = MADD(p, square, SPLAT(1.333135666e-01f));
  p = MADD(p, square, SPLAT(-3.333327928e-01f));
  v128_t small = MADD(wasm_f32x4_mul(p, square), x, x);
  v128_t one = SPLAT(1.0f);
  v128_t a = absolute(x);
  v128_t grown = wasm_f32x4_add(exp4(wasm_f32x4_add(a, a)), one);
  v128_t large = with_sign_of(wasm_f32x4_sub(one, wasm_f32x4_div(SPLAT(2.0f), grown)), x);
  return wasm_v128_bitselect(small, large, wasm_f32x4_lt(a, SPLAT(0.625f)));
}

INLINE v128_t erf4(v128_t x) {
  v128_t square = wasm_f32x4_mul(x, x);
  v128_t p = SPLAT(7.853857697e-05f);
  p = MADD(p, square, SPLAT(-8.010192517e-04f));
  p = MADD(p, square, SPLAT(5.188327560e-03f));
  p = MADD(p, square, SPLAT(-2.685381187e-02f));
  p = MADD(p, square, SPLAT(1.128358515e-01f));
  p = MADD(p, square, SPLAT(-3.761262582e-01f));
  p = MADD(p, square, SPLAT(1.128379166e+00f));
  v128_t small = wasm_f32x4_mul(p, x);
  /* The logarithm of what is left to 1; beyond 4 that rounds to nothing. */
  v128_t a = wasm_f32x4_pmin(absolute(x), SPLAT(4.0f));
  v128_t q = SPLAT(-3.850746972e-06f);
  q = MADD(q, a, SPLAT(3.214218024e-05f));
  q = MADD(q, a, SPLAT(1.191342540e-04f));
  q = MADD(q, a, SPLAT(-3.125578006e-03f));
  q = MADD(q, a, SPLAT(2.299625554e-02f));
  q = MADD(q, a, SPLAT(-1.055743182e-01f));
  q = MADD(q, a, SPLAT(-6.354613523e-01f));
  q = MADD(q, a, SPLAT(-1.128587942e+00f));
  v128_t large = wasm_f32x4_sub(SPLAT(1.0f), exp4(wasm_f32x4_mul(q, a)));
  large = with_sign_of(large, x);
  return wasm_v128_bitselect(small, large, wasm_f32x4_lt(absolute(x), SPLAT(1.0f)));
}

INLINE v128_t sigmoid4(v128_t x) {
  v128_t one = SPLAT(1.0f);
  return wasm_f32x4_div(one, wasm_f32x4_add(one, exp4(wasm_f32x4_neg(x))));
}

/* log(1 + e^x), exact where e^x is lost beside 1. */
INLINE v128_t softplus4(v128_t x) {
  v128_t one = SPLAT(1.0f);
  v128_t e = exp4(wasm_f32x4_neg(absolute(x)));
  v128_t sum = wasm_f32x4_add(one, e);
  v128_t rounded = wasm_f32x4_sub(sum, one);
  v128_t log = wasm_f32x4_div(wasm_f32x4_mul(log4(sum), e), rounded);
  log = wasm_v128_bitselect(e, log, wasm_f32x4_eq(rounded, SPLAT(0.0f)));
  return wasm_f32x4_add(wasm_f32x4_max(x, SPLAT(0.0f)), log);
}

INLINE v128_t gelu4(v128_t x) {
  v128_t half = wasm_f32x4_mul(x, SPLAT(0.5f));
  return MADD(half, erf4(wasm_f32x4_mul(x, SPLAT(0.70710678f))), half);
}

INLINE v128_t gelu_tanh4(v128_t x) {
  v128_t half = wasm_f32x4_mul(x, SPLAT(0.5f));
  v128_t cubed = wasm_f32x4_mul(wasm_f32x4_mul(x, x), x);
  v128_t inner = MADD(cubed, SPLAT(0.044715f), x);
  return MADD(half, tanh4(wasm_f32x4_mul(inner, SPLAT(0.79788456f))), half);
}
