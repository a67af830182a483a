#include "bits.h"

/* A row of weights, and one of the other side. */
struct weights {
  const u8 *numbers;
  const f32 *scales;
};

struct other {
  const i16 *lanes;
  const f32 *steps;
};

/* A vector's numbers, one of each lane per vector. */
INLINE void take_apart(const u32 bits, v128_t vector, v128_t *numbers) {
  if (bits == 8) {
    numbers[0] = wasm_v128_and(vector, wasm_i16x8_splat(255));
    numbers[1] = wasm_u16x8_shr(vector, 8);
  } else if (bits == 4) {
    v128_t mask = wasm_i16x8_splat(15);
    numbers[0] = wasm_v128_and(vector, mask);
    numbers[1] = wasm_v128_and(wasm_u16x8_shr(vector, 4), mask);
    numbers[2] = wasm_v128_and(wasm_u16x8_shr(vector, 8), mask);
    numbers[3] = wasm_u16x8_shr(vector, 12);
  } else {
    /* The numbers stay where they are, which multiplies them by 1, 4, 16 and 64. */
    v128_t upper = wasm_u16x8_shr(vector, 8);
    for (u32 p = 0; p < 4; p++) {
      v128_t mask = wasm_i16x8_splat((i16)(3 << (2 * p)));
      numbers[p] = wasm_v128_and(vector, mask);
      numbers[p + 4] = wasm_v128_and(upper, mask);
    }
  }
}

/* The sum of products of a vector's numbers, in four lanes. */
INLINE v128_t multiply(const u32 bits, const v128_t *numbers, const i16 *lanes) {
#define DOT(p) wasm_i32x4_dot_i16x8(numbers[p], wasm_v128_load(lanes + 8 * (p)))
  if (bits == 8) return wasm_i32x4_add(DOT(0), DOT(1));
  if (bits == 4) return wasm_i32x4_add(wasm_i32x4_add(DOT(0), DOT(1)), wasm_i32x4_add(DOT(2), DOT(3)));
  v128_t ones = wasm_i32x4_add(DOT(0), DOT(4));
  v128_t fours = wasm_i32x4_shr(wasm_i32x4_add(DOT(1), DOT(5)), 2);
  v128_t sixteens = wasm_i32x4_shr(wasm_i32x4_add(DOT(2), DOT(6)), 4);
  v128_t last = wasm_i32x4_shr(wasm_i32x4_add(DOT(3), DOT(7)), 6);
  return wasm_i32x4_add(wasm_i32x4_add(ones, fours), wasm_i32x4_add(sixteens, last));
#undef DOT
}

INLINE v128_t scales_at(const u32 sharing, const f32 *scales) {
  if (sharing == 4) return wasm_v128_load(scales);
  if (sharing == 1) return wasm_v128_load32_splat(scales);
  v128_t pair = wasm_v128_load64_zero(scales);
  return wasm_i32x4_shuffle(pair, pair, 0, 0, 1, 1);
}

/* Where a row's blocks end within a vector, what lies behind its scales is no scale. */
static v128_t last_scales(const u32 sharing, const f32 *scales, u32 count) {
  f32 lanes[4] = {0};
  for (u32 lane = 0; lane < 4; lane++) {
    u32 of = lane / (4 / sharing);
    if (of < count) lanes[lane] = scales[of];
  }
  return wasm_v128_load(lanes);
}

/*
 * Products of `rows` rows of weights with `others` rows of the other side: sums[row][other].
 * A scaling covers `vectors` vectors; of those that hold several blocks, one.
 */
INLINE void products(const u32 bits, const u32 sharing, const u32 single, const u32 rows, const u32 others,
                     const struct matmul_bits *call, const struct weights *weights, const struct other *other, f32 *sums) {
  const u32 each = 16 / bits;
  u32 vectors = single ? 1 : call->block / vector_numbers(bits);
  u32 whole = call->blocks / sharing, rest = call->blocks % sharing;
  v128_t held[4][2];
  for (u32 r = 0; r < rows; r++) {
    for (u32 o = 0; o < others; o++) held[r][o] = wasm_f32x4_splat(0.0f);
  }
  u32 at = 0;
  for (u32 s = 0; s < whole + (rest > 0); s++) {
    v128_t made[4][2];
    for (u32 v = 0; v < vectors; v++, at++) {
      for (u32 r = 0; r < rows; r++) {
        v128_t numbers[8];
        take_apart(bits, wasm_v128_load(weights[r].numbers + at * VECTOR_BYTES), numbers);
        for (u32 o = 0; o < others; o++) {
          v128_t part = multiply(bits, numbers, other[o].lanes + at * 8 * each);
          made[r][o] = v == 0 ? part : wasm_i32x4_add(made[r][o], part);
        }
      }
    }
    for (u32 r = 0; r < rows; r++) {
      const f32 *scales = weights[r].scales + s * sharing;
      v128_t scale = sharing > 1 && s == whole ? last_scales(sharing, scales, rest) : scales_at(sharing, scales);
      for (u32 o = 0; o < others; o++) {
        v128_t by = wasm_f32x4_mul(scale, wasm_v128_load(other[o].steps + s * 4));
        held[r][o] = MADD(wasm_f32x4_convert_i32x4(made[r][o]), by, held[r][o]);
      }
    }
  }
  for (u32 r = 0; r < rows; r++) {
    for (u32 o = 0; o < others; o++) sums[r * others + o] = sum_of(held[r][o]);
  }
}

/* What numbers that stand for zero have added: the sum of scale · zero · sum over a row's blocks. */
static f32 excess(const struct matmul_bits *call, u32 row, const f32 *sums) {
  const f32 *scales = call->scales + row * call->blocks;
  const u8 *zeros = call->zeros ? call->zeros + row * call->blocks : 0;
  v128_t all = wasm_f32x4_splat(0.0f), zero = wasm_f32x4_splat((f32)call->zero);
  u32 b = 0;
  for (; b + 4 <= call->blocks; b += 4) {
    if (zeros) {
      v128_t narrow = wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(zeros + b));
      zero = wasm_f32x4_convert_i32x4(wasm_u32x4_extend_low_u16x8(narrow));
    }
    v128_t part = wasm_f32x4_mul(wasm_v128_load(scales + b), wasm_v128_load(sums + b));
    all = MADD(part, zero, all);
  }
  f32 sum = sum_of(all);
  for (; b < call->blocks; b++) sum += scales[b] * sums[b] * (f32)(zeros ? zeros[b] : call->zero);
  return sum;
}

#define SHAPE(name, bits, sharing, single)                                                                           \
  static void name(const struct matmul_bits *call, const struct weights *weights, u32 rows, const struct other *other, \
                   u32 others, f32 *sums) {                                                                          \
    if (rows == 4 && others == 2) {                                                                                  \
      products(bits, sharing, single, 2, 2, call, weights, other, sums);                                             \
      products(bits, sharing, single, 2, 2, call, weights + 2, other, sums + 4);                                     \
    } else if (rows == 4) {                                                                                          \
      products(bits, sharing, single, 2, 1, call, weights, other, sums);                                             \
      products(bits, sharing, single, 2, 1, call, weights + 2, other, sums + 2);                                     \
    } else {                                                                                                         \
      for (u32 r = 0; r < rows; r++) {                                                                               \
        for (u32 o = 0; o < others; o++) {                                                                           \
          products(bits, sharing, single, 1, 1, call, weights + r, other + o, sums + r * others + o);                \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
  }

SHAPE(two_sharing_four, 2, 4, 1)
SHAPE(two_sharing_two, 2, 2, 1)
SHAPE(two_single, 2, 1, 1)
SHAPE(two_many, 2, 1, 0)
SHAPE(four_sharing_two, 4, 2, 1)
SHAPE(four_single, 4, 1, 1)
SHAPE(four_many, 4, 1, 0)
SHAPE(eight_single, 8, 1, 1)
SHAPE(eight_many, 8, 1, 0)

typedef void (*shape)(const struct matmul_bits *, const struct weights *, u32, const struct other *, u32, f32 *);

static shape shape_for(u32 bits, u32 block) {
  u32 numbers = vector_numbers(bits);
  if (bits == 2) {
    if (block * 4 == numbers) return two_sharing_four;
    if (block * 2 == numbers) return two_sharing_two;
    return block == numbers ? two_single : two_many;
  }
  if (bits == 4) {
    if (block * 2 == numbers) return four_sharing_two;
    return block == numbers ? four_single : four_many;
  }
  return block == numbers ? eight_single : eight_many;
}

KERNEL(matmul_bits) {
  u32 bits = call->bits, block = call->block, blocks = call->blocks;
  u32 lanes = row_vectors(blocks, block, bits) * vector_numbers(bits), steps = row_scalings(blocks, block, bits) * 4;
  u32 row_bytes = blocks * block * bits / 8;
  shape multiply_rows = shape_for(bits, block);
  for (u32 unit = from; unit < to; unit++) {
    u32 first = unit * BITS_ROWS, rows = least(BITS_ROWS, call->n - first);
    struct weights weights[BITS_ROWS];
    for (u32 r = 0; r < rows; r++) {
      weights[r].numbers = call->numbers + (first + r) * row_bytes;
      weights[r].scales = call->scales + (first + r) * blocks;
    }
    for (u32 m = 0; m < call->m; m += 2) {
      u32 others = least(2, call->m - m);
      struct other other[2];
      for (u32 o = 0; o < others; o++) {
        other[o].lanes = call->lanes + (m + o) * lanes;
        other[o].steps = call->steps + (m + o) * steps;
      }
      f32 sums[BITS_ROWS * 2];
      multiply_rows(call, weights, rows, other, others, sums);
      for (u32 o = 0; o < others; o++) {
        f32 made[BITS_ROWS];
        for (u32 r = 0; r < rows; r++) {
          made[r] = sums[r * others + o] - excess(call, first + r, call->sums + (m + o) * blocks);
          if (call->bias) made[r] += call->bias[first + r];
        }
        activate(call->activation, made, rows);
        copy_to(call->output + (m + o) * call->n + first, 1, made, rows);
      }
    }
  }
  return FAULT_NONE;
}
