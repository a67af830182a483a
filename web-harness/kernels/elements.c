#include "functions.h"
#include "scalar.h"

/* For each vector of a block: `x` of its first operand. */
#define EACH(result)                               \
  for (u32 i = 0; i < count; i += 4) {             \
    v128_t x = wasm_v128_load(a + i);              \
    wasm_v128_store(out + i, result);              \
  }                                                \
  return

#define PAIRS(result)                              \
  for (u32 i = 0; i < count; i += 4) {             \
    v128_t x = wasm_v128_load(a + i);              \
    v128_t y = wasm_v128_load(b + i);              \
    wasm_v128_store(out + i, result);              \
  }                                                \
  return

/* One by one: `x` and `y` in 64 bits, or as whole numbers. */
#define EACH_SCALAR(result)                        \
  for (u32 i = 0; i < count; i++) {                \
    f64 x = a[i];                                  \
    out[i] = (f32)(result);                        \
  }                                                \
  return

#define PAIRS_SCALAR(result)                       \
  for (u32 i = 0; i < count; i++) {                \
    f64 x = a[i], y = b[i];                        \
    out[i] = (f32)(result);                        \
  }                                                \
  return

#define PAIRS_WHOLE(result)                        \
  for (u32 i = 0; i < count; i++) {                \
    i32 x = ((const i32 *)a)[i];                   \
    i32 y = ((const i32 *)b)[i];                   \
    ((i32 *)out)[i] = (result);                    \
  }                                                \
  return

/* A comparison's mask as 0 and 1. */
#define FLAG(mask) wasm_v128_and(mask, wasm_i32x4_splat(1))

static v128_t sign4(v128_t x) {
  v128_t one = with_sign_of(SPLAT(1.0f), x);
  return wasm_v128_bitselect(one, x, wasm_f32x4_gt(absolute(x), SPLAT(0.0f)));
}

static void unary(u32 op, f32 *out, const f32 *a, u32 count) {
  switch (op) {
    case UNARY_ABS: EACH(absolute(x));
    case UNARY_NEG: EACH(wasm_f32x4_neg(x));
    case UNARY_SIGN: EACH(sign4(x));
    case UNARY_EXP: EACH(exp4(x));
    case UNARY_LOG: EACH(log4(x));
    case UNARY_SQRT: EACH(wasm_f32x4_sqrt(x));
    case UNARY_RECIPROCAL: EACH(wasm_f32x4_div(SPLAT(1.0f), x));
    case UNARY_FLOOR: EACH(wasm_f32x4_floor(x));
    case UNARY_CEIL: EACH(wasm_f32x4_ceil(x));
    case UNARY_ROUND: EACH(wasm_f32x4_nearest(x));
    case UNARY_SIN: EACH_SCALAR(sine(x));
    case UNARY_COS: EACH_SCALAR(cosine(x));
    case UNARY_TAN: EACH_SCALAR(sine(x) / cosine(x));
    case UNARY_ASIN: EACH_SCALAR(arc_sine(x));
    case UNARY_ACOS: EACH_SCALAR(1.57079632679489661923 - arc_sine(x));
    case UNARY_ATAN: EACH_SCALAR(arc_tangent(x));
    case UNARY_SINH: EACH_SCALAR(hyperbolic_sine(x));
    case UNARY_COSH: EACH_SCALAR((exp_of(x) + exp_of(-x)) / 2);
    case UNARY_TANH: EACH(tanh4(x));
    case UNARY_ASINH: EACH_SCALAR(hyperbolic_area_sine(x));
    case UNARY_ACOSH: EACH_SCALAR(log_of(x + __builtin_sqrt((x - 1) * (x + 1))));
    case UNARY_ATANH: EACH_SCALAR(hyperbolic_area_tangent(x));
    case UNARY_ERF: EACH(erf4(x));
    case UNARY_SIGMOID: EACH(sigmoid4(x));
    case UNARY_SOFTPLUS: EACH(softplus4(x));
    case UNARY_GELU: EACH(gelu4(x));
    case UNARY_GELU_TANH: EACH(gelu_tanh4(x));
    case UNARY_SILU: EACH(wasm_f32x4_mul(x, sigmoid4(x)));
    case UNARY_RELU: EACH(wasm_f32x4_max(x, SPLAT(0.0f)));
    case UNARY_IS_NAN: EACH(FLAG(wasm_f32x4_ne(x, x)));
    case UNARY_IS_INF: EACH(FLAG(wasm_f32x4_eq(absolute(x), SPLAT(__builtin_inff()))));
  }
}

static void unary_whole(u32 op, f32 *out, const f32 *a, u32 count) {
  v128_t zero = wasm_i32x4_splat(0);
  switch (op) {
    case UNARY_ABS: EACH(wasm_i32x4_abs(x));
    case UNARY_NEG: EACH(wasm_i32x4_neg(x));
    case UNARY_SIGN: EACH(wasm_i32x4_sub(wasm_i32x4_gt(zero, x), wasm_i32x4_gt(x, zero)));
    case UNARY_NOT: EACH(FLAG(wasm_i32x4_eq(x, zero)));
  }
}

static f64 modulo(f64 x, f64 y) {
  f64 left = remainder_of(x, y);
  return left != 0.0 && (left < 0.0) != (y < 0.0) ? left + y : left;
}

static void binary(u32 op, f32 *out, const f32 *a, const f32 *b, u32 count) {
  switch (op) {
    case BINARY_ADD: PAIRS(wasm_f32x4_add(x, y));
    case BINARY_SUB: PAIRS(wasm_f32x4_sub(x, y));
    case BINARY_MUL: PAIRS(wasm_f32x4_mul(x, y));
    case BINARY_DIV: PAIRS(wasm_f32x4_div(x, y));
    case BINARY_MOD: PAIRS_SCALAR(modulo(x, y));
    case BINARY_FMOD: PAIRS_SCALAR(remainder_of(x, y));
    case BINARY_POW: PAIRS_SCALAR(power(x, y));
    case BINARY_MIN: PAIRS(wasm_f32x4_min(x, y));
    case BINARY_MAX: PAIRS(wasm_f32x4_max(x, y));
    case BINARY_EQUAL: PAIRS(FLAG(wasm_f32x4_eq(x, y)));
    case BINARY_LESS: PAIRS(FLAG(wasm_f32x4_lt(x, y)));
    case BINARY_LESS_OR_EQUAL: PAIRS(FLAG(wasm_f32x4_le(x, y)));
    case BINARY_GREATER: PAIRS(FLAG(wasm_f32x4_gt(x, y)));
    case BINARY_GREATER_OR_EQUAL: PAIRS(FLAG(wasm_f32x4_ge(x, y)));
  }
}

/* WebAssembly stops at the one quotient that does not fit. */
static i32 quotient(i32 x, i32 y) {
  if (y == 0) return 0;
  return y == -1 ? (i32)(0u - (u32)x) : x / y;
}

static i32 left_over(i32 x, i32 y) { return y == 0 || y == -1 ? 0 : x % y; }

static i32 modulo_whole(i32 x, i32 y) {
  i32 left = left_over(x, y);
  return left != 0 && (left < 0) != (y < 0) ? left + y : left;
}

static i32 power_whole(i32 base, i32 exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
  u32 result = 1;
  for (u32 square = (u32)base; exponent > 0; exponent >>= 1, square *= square) {
    if (exponent & 1) result *= square;
  }
  return (i32)result;
}

static void binary_whole(u32 op, f32 *out, const f32 *a, const f32 *b, u32 count) {
  switch (op) {
    case BINARY_ADD: PAIRS(wasm_i32x4_add(x, y));
    case BINARY_SUB: PAIRS(wasm_i32x4_sub(x, y));
    case BINARY_MUL: PAIRS(wasm_i32x4_mul(x, y));
    case BINARY_DIV: PAIRS_WHOLE(quotient(x, y));
    case BINARY_MOD: PAIRS_WHOLE(modulo_whole(x, y));
    case BINARY_FMOD: PAIRS_WHOLE(left_over(x, y));
    case BINARY_POW: PAIRS_WHOLE(power_whole(x, y));
    case BINARY_MIN: PAIRS(wasm_i32x4_min(x, y));
    case BINARY_MAX: PAIRS(wasm_i32x4_max(x, y));
    case BINARY_EQUAL: PAIRS(FLAG(wasm_i32x4_eq(x, y)));
    case BINARY_LESS: PAIRS(FLAG(wasm_i32x4_lt(x, y)));
    case BINARY_LESS_OR_EQUAL: PAIRS(FLAG(wasm_i32x4_le(x, y)));
    case BINARY_GREATER: PAIRS(FLAG(wasm_i32x4_gt(x, y)));
    case BINARY_GREATER_OR_EQUAL: PAIRS(FLAG(wasm_i32x4_ge(x, y)));
    case BINARY_AND:
    case BINARY_BIT_AND: PAIRS(wasm_v128_and(x, y));
    case BINARY_OR:
    case BINARY_BIT_OR: PAIRS(wasm_v128_or(x, y));
    case BINARY_XOR:
    case BINARY_BIT_XOR: PAIRS(wasm_v128_xor(x, y));
  }
}

static void other(u32 op, f32 *out, const f32 *a, const f32 *b, const f32 *c, u32 count) {
  v128_t zero = wasm_i32x4_splat(0);
  switch (op) {
    case OP_SELECT:
      for (u32 i = 0; i < count; i += 4) {
        v128_t zeros = wasm_i32x4_eq(wasm_v128_load(a + i), zero);
        v128_t chosen = wasm_v128_bitselect(wasm_v128_load(c + i), wasm_v128_load(b + i), zeros);
        wasm_v128_store(out + i, chosen);
      }
      return;
    case OP_FLOAT_TO_INT: EACH(wasm_i32x4_trunc_sat_f32x4(x));
    case OP_INT_TO_FLOAT: EACH(wasm_f32x4_convert_i32x4(x));
    case OP_FLOAT_TO_FLAG: EACH(FLAG(wasm_f32x4_ne(x, zero)));
    case OP_INT_TO_FLAG: EACH(FLAG(wasm_i32x4_ne(x, zero)));
  }
}

void apply(u32 op, f32 *out, const f32 *a, const f32 *b, const f32 *c, u32 count) {
  count = (count + 3) & ~3u;
  if (op < OP_UNARY_INT) {
    unary(op, out, a, count);
  } else if (op < OP_BINARY) {
    unary_whole(op - OP_UNARY_INT, out, a, count);
  } else if (op < OP_BINARY_INT) {
    binary(op - OP_BINARY, out, a, b, count);
  } else if (op < OP_SELECT) {
    binary_whole(op - OP_BINARY_INT, out, a, b, count);
  } else {
    other(op, out, a, b, c, count);
  }
}
