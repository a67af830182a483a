#include "bits.h"

#define LARGEST 32767.0f

static f32 greatest(const f32 *values, u32 count) {
  f32 max = 0.0f;
  for (u32 i = 0; i < count; i++) {
    f32 size = __builtin_fabsf(values[i]);
    /* What is no number stays the greatest. */
    if (size > max || size != size) max = size;
  }
  return max;
}

KERNEL(quantise) {
  u32 bits = call->bits, block = call->block, blocks = call->blocks;
  u32 numbers = vector_numbers(bits), each = 16 / bits, sharing = vector_blocks(block, bits);
  u32 lanes_all = row_vectors(blocks, block, bits) * numbers, scalings = row_scalings(blocks, block, bits);
  for (u32 row = from; row < to; row++) {
    const f32 *input = call->input + row * call->k;
    i16 *lanes = call->lanes + row * lanes_all;
    f32 *steps = call->steps + row * scalings * 4;
    for (u32 i = 0; i < lanes_all; i += 8) wasm_v128_store(lanes + i, wasm_i16x8_splat(0));
    fill(steps, 0.0f, scalings * 4);
    for (u32 b = 0; b < blocks; b++) {
      u32 first = b * block, count = least(block, call->k - first);
      f32 max = greatest(input + first, count), step = max / LARGEST;
      f32 by = max > 0.0f ? LARGEST / max : 0.0f;
      i32 sum = 0;
      for (u32 i = first; i < first + count; i++) {
        i32 rounded = (i32)__builtin_rintf(input[i] * by);
        u32 within = i % numbers;
        lanes[i - within + within % each * 8 + within / each] = (i16)rounded;
        sum += rounded;
      }
      call->sums[row * blocks + b] = step * (f32)sum;
      u32 width = 4 / sharing;
      for (u32 lane = 0; lane < width; lane++) steps[b / sharing * 4 + b % sharing * width + lane] = step;
    }
  }
  return FAULT_NONE;
}
