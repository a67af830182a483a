/* The functions of calls: each does the units from the first up to the last of its record, and answers a fault. */

#pragma once

#include <wasm_simd128.h>

#include "abi.h"

#define KERNEL(name) u32 name(const struct name *call, u32 from, u32 to)

KERNEL(map);
KERNEL(gather);
KERNEL(reduce);
KERNEL(softmax);
KERNEL(norm);
KERNEL(matmul);
KERNEL(matmul_bits);
KERNEL(gather_bits);
KERNEL(attention);
KERNEL(rotary);
KERNEL(keep);
KERNEL(conv);
KERNEL(pool);
KERNEL(quantise);
KERNEL(repack);

#define INLINE static inline __attribute__((always_inline))

/* x · y + sum, rounded once where the build has that. */
#ifdef __wasm_relaxed_simd__
#define MADD(x, y, sum) wasm_f32x4_relaxed_madd(x, y, sum)
#else
#define MADD(x, y, sum) wasm_f32x4_add(wasm_f32x4_mul(x, y), sum)
#endif

INLINE u32 least(u32 a, u32 b) { return a < b ? a : b; }
INLINE u32 parts(u32 whole, u32 part) { return (whole + part - 1) / part; }

INLINE f32 sum_of(v128_t x) {
  x = wasm_f32x4_add(x, wasm_i32x4_shuffle(x, x, 2, 3, 0, 1));
  return wasm_f32x4_extract_lane(x, 0) + wasm_f32x4_extract_lane(x, 1);
}

INLINE f32 max_of(v128_t x) {
  x = wasm_f32x4_max(x, wasm_i32x4_shuffle(x, x, 2, 3, 0, 1));
  return wasm_f32x4_extract_lane(wasm_f32x4_max(x, wasm_i32x4_shuffle(x, x, 1, 0, 3, 2)), 0);
}

/* The sums of four vectors, a lane each. */
INLINE v128_t sums_of(v128_t a, v128_t b, v128_t c, v128_t d) {
  v128_t ab = wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  v128_t cd = wasm_f32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
  return wasm_f32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 1, 4, 5), wasm_i32x4_shuffle(ab, cd, 2, 3, 6, 7));
}

/* Elements in a row, wherever they lie. */
INLINE void copy_from(f32 *to, const f32 *from, i32 stride, u32 count) {
  u32 i = 0;
  if (stride == 1) {
    for (; i + 4 <= count; i += 4) wasm_v128_store(to + i, wasm_v128_load(from + i));
  }
  for (; i < count; i++) to[i] = from[(i32)i * stride];
}

INLINE void copy_to(f32 *to, i32 stride, const f32 *from, u32 count) {
  u32 i = 0;
  if (stride == 1) {
    for (; i + 4 <= count; i += 4) wasm_v128_store(to + i, wasm_v128_load(from + i));
  }
  for (; i < count; i++) to[(i32)i * stride] = from[i];
}

INLINE void fill(f32 *to, f32 value, u32 count) {
  u32 i = 0;
  for (; i + 4 <= count; i += 4) wasm_v128_store(to + i, wasm_f32x4_splat(value));
  for (; i < count; i++) to[i] = value;
}

/* Computes a block of elements, whole vectors of them: the last may go beyond `count`. */
void apply(u32 op, f32 *out, const f32 *a, const f32 *b, const f32 *c, u32 count);

/* Applies an activation, or none, to a block with room for whole vectors. */
INLINE void activate(u32 activation, f32 *values, u32 count) {
  if (activation != NO_ACTIVATION) apply(OP_UNARY + activation, values, values, values, values, count);
}
