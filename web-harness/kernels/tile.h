/*
 * A tile of a product: up to TILE_ROWS rows times TILE_COLUMNS columns of sums, to which TILE_DEPTH products each are
 * added at a time. Its right side is packed: for each eight columns, eight elements for each step of the depth.
 */

#pragma once

#include "kernels.h"

#define PANEL 8

struct tile {
  f32 sums[TILE_ROWS * TILE_COLUMNS];
  f32 packed[TILE_DEPTH * TILE_COLUMNS];
  f32 left[TILE_ROWS * TILE_DEPTH];
} __attribute__((aligned(16)));

/* Where an element of the packed right side lies. */
INLINE f32 *packed_at(f32 *packed, u32 depth, u32 k, u32 column) {
  return packed + (column / PANEL * depth + k) * PANEL + column % PANEL;
}

/* Adds a · packed to the sums; `a` has its depth in a row. */
void tile_multiply(f32 *sums, const f32 *a, u32 a_stride, const f32 *packed, u32 rows, u32 columns, u32 depth);

/* Packs a matrix with these strides along depth and columns; columns up to a whole panel are zeros. */
void tile_pack(f32 *packed, const f32 *b, i32 depth_stride, i32 column_stride, u32 depth, u32 columns);

/* Where a tile goes: strides are those of rows and columns; a bias may be none. */
struct tile_out {
  f32 alpha;
  const f32 *bias;
  i32 bias_row;
  i32 bias_column;
  u32 activation;
  f32 *output;
  i32 row;
  i32 column;
};

void tile_store(const struct tile_out *out, f32 *sums, u32 sums_stride, u32 rows, u32 columns);
