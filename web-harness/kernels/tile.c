#include "tile.h"

/* Rows of sums that are held in registers at a time. */
#define ROWS 4

INLINE void micro(const u32 rows, f32 *sums, const f32 *a, u32 a_stride, const f32 *packed, u32 depth) {
  v128_t held[ROWS][2];
  const f32 *from[ROWS];
  for (u32 r = 0; r < rows; r++) {
    from[r] = a + r * a_stride;
    held[r][0] = wasm_v128_load(sums + r * TILE_COLUMNS);
    held[r][1] = wasm_v128_load(sums + r * TILE_COLUMNS + 4);
  }
#pragma clang loop unroll_count(4)
  for (u32 k = 0; k < depth; k++, packed += PANEL) {
    v128_t low = wasm_v128_load(packed), high = wasm_v128_load(packed + 4);
    for (u32 r = 0; r < rows; r++) {
      v128_t x = wasm_v128_load32_splat(from[r] + k);
      held[r][0] = MADD(x, low, held[r][0]);
      held[r][1] = MADD(x, high, held[r][1]);
    }
  }
  for (u32 r = 0; r < rows; r++) {
    wasm_v128_store(sums + r * TILE_COLUMNS, held[r][0]);
    wasm_v128_store(sums + r * TILE_COLUMNS + 4, held[r][1]);
  }
}

void tile_multiply(f32 *sums, const f32 *a, u32 a_stride, const f32 *packed, u32 rows, u32 columns, u32 depth) {
  for (u32 c = 0; c < columns; c += PANEL, packed += PANEL * depth) {
    u32 r = 0;
    for (; r + ROWS <= rows; r += ROWS) micro(ROWS, sums + r * TILE_COLUMNS + c, a + r * a_stride, a_stride, packed, depth);
    f32 *rest = sums + r * TILE_COLUMNS + c;
    switch (rows - r) {
      case 3: micro(3, rest, a + r * a_stride, a_stride, packed, depth); break;
      case 2: micro(2, rest, a + r * a_stride, a_stride, packed, depth); break;
      case 1: micro(1, rest, a + r * a_stride, a_stride, packed, depth); break;
    }
  }
}

static void pack_rows(f32 *packed, const f32 *b, i32 depth_stride, u32 depth, u32 columns) {
  for (u32 k = 0; k < depth; k++, b += depth_stride) {
    for (u32 c = 0; c + PANEL <= columns; c += PANEL) {
      f32 *to = packed_at(packed, depth, k, c);
      wasm_v128_store(to, wasm_v128_load(b + c));
      wasm_v128_store(to + 4, wasm_v128_load(b + c + 4));
    }
  }
}

/* Four columns of four steps, each column's in a row before. */
INLINE void turn(f32 *to, const f32 *b, i32 stride) {
  v128_t w = wasm_v128_load(b), x = wasm_v128_load(b + stride);
  v128_t y = wasm_v128_load(b + 2 * stride), z = wasm_v128_load(b + 3 * stride);
  v128_t wx = wasm_i32x4_shuffle(w, x, 0, 4, 1, 5), yz = wasm_i32x4_shuffle(y, z, 0, 4, 1, 5);
  wasm_v128_store(to, wasm_i32x4_shuffle(wx, yz, 0, 1, 4, 5));
  wasm_v128_store(to + PANEL, wasm_i32x4_shuffle(wx, yz, 2, 3, 6, 7));
  wx = wasm_i32x4_shuffle(w, x, 2, 6, 3, 7), yz = wasm_i32x4_shuffle(y, z, 2, 6, 3, 7);
  wasm_v128_store(to + 2 * PANEL, wasm_i32x4_shuffle(wx, yz, 0, 1, 4, 5));
  wasm_v128_store(to + 3 * PANEL, wasm_i32x4_shuffle(wx, yz, 2, 3, 6, 7));
}

static void pack_columns(f32 *packed, const f32 *b, i32 column_stride, u32 depth, u32 columns) {
  for (u32 c = 0; c + PANEL <= columns; c += PANEL) {
    const f32 *from = b + (i32)c * column_stride;
    u32 k = 0;
    for (; k + 4 <= depth; k += 4) {
      f32 *to = packed_at(packed, depth, k, c);
      turn(to, from + k, column_stride);
      turn(to + 4, from + 4 * column_stride + k, column_stride);
    }
    for (; k < depth; k++) {
      for (u32 i = 0; i < PANEL; i++) packed_at(packed, depth, k, c)[i] = from[(i32)i * column_stride + (i32)k];
    }
  }
}

void tile_pack(f32 *packed, const f32 *b, i32 depth_stride, i32 column_stride, u32 depth, u32 columns) {
  u32 whole = columns / PANEL * PANEL;
  if (column_stride == 1) {
    pack_rows(packed, b, depth_stride, depth, columns);
  } else if (depth_stride == 1) {
    pack_columns(packed, b, column_stride, depth, columns);
  } else {
    whole = 0;
  }
  for (u32 c = whole; c < parts(columns, PANEL) * PANEL; c++) {
    for (u32 k = 0; k < depth; k++) {
      *packed_at(packed, depth, k, c) = c < columns ? b[(i32)k * depth_stride + (i32)c * column_stride] : 0.0f;
    }
  }
}

void tile_store(const struct tile_out *out, f32 *sums, u32 sums_stride, u32 rows, u32 columns) {
  for (u32 r = 0; r < rows; r++, sums += sums_stride) {
    const f32 *bias = out->bias ? out->bias + (i32)r * out->bias_row : 0;
    for (u32 c = 0; c < columns; c++) {
      f32 value = sums[c] * out->alpha;
      sums[c] = bias ? value + bias[(i32)c * out->bias_column] : value;
    }
    activate(out->activation, sums, columns);
    copy_to(out->output + (i32)r * out->row, out->column, sums, columns);
  }
}
