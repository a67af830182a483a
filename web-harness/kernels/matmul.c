#include "tile.h"

/* Columns of one row that are summed at a time where the right side lies row by row. */
#define WIDTH_MAX 512

/* The left side's part for one product, in a row. */
#define LEFT_MAX 1024

/* Where a matrix of the batch begins. */
static i32 offset_of(const struct matmul *call, const i32 *strides, u32 batch) {
  i32 offset = 0;
  for (u32 d = call->rank; d-- > 0;) {
    offset += (i32)(batch % call->shape[d]) * strides[d];
    batch /= call->shape[d];
  }
  return offset;
}

/* sums += x · b, whose rows lie one behind the other. */
static void add_rows(f32 *sums, const f32 *x, const f32 *b, i32 stride, u32 depth, u32 columns) {
  u32 k = 0;
  for (; k + 4 <= depth; k += 4, b += 4 * stride) {
    v128_t x0 = wasm_v128_load32_splat(x + k), x1 = wasm_v128_load32_splat(x + k + 1);
    v128_t x2 = wasm_v128_load32_splat(x + k + 2), x3 = wasm_v128_load32_splat(x + k + 3);
    u32 c = 0;
    for (; c + 4 <= columns; c += 4) {
      const f32 *at = b + c;
      v128_t sum = wasm_v128_load(sums + c);
      sum = MADD(x0, wasm_v128_load(at), sum);
      sum = MADD(x1, wasm_v128_load(at + stride), sum);
      sum = MADD(x2, wasm_v128_load(at + 2 * stride), sum);
      sum = MADD(x3, wasm_v128_load(at + 3 * stride), sum);
      wasm_v128_store(sums + c, sum);
    }
    for (; c < columns; c++) {
      for (i32 i = 0; i < 4; i++) sums[c] += x[k + (u32)i] * b[(i32)c + i * stride];
    }
  }
  for (; k < depth; k++, b += stride) {
    for (u32 c = 0; c < columns; c++) sums[c] += x[k] * b[c];
  }
}

/* sums += x · b, each of whose columns lies in a row. */
static void add_columns(f32 *sums, const f32 *x, const f32 *b, i32 stride, u32 depth, u32 columns) {
  u32 c = 0;
  for (; c + 4 <= columns; c += 4, b += 4 * stride) {
    v128_t sum[4] = {wasm_f32x4_splat(0), wasm_f32x4_splat(0), wasm_f32x4_splat(0), wasm_f32x4_splat(0)};
    u32 k = 0;
    for (; k + 4 <= depth; k += 4) {
      v128_t left = wasm_v128_load(x + k);
      for (i32 i = 0; i < 4; i++) sum[i] = MADD(left, wasm_v128_load(b + i * stride + (i32)k), sum[i]);
    }
    v128_t all = wasm_f32x4_add(wasm_v128_load(sums + c), sums_of(sum[0], sum[1], sum[2], sum[3]));
    wasm_v128_store(sums + c, all);
    for (; k < depth; k++) {
      for (i32 i = 0; i < 4; i++) sums[c + (u32)i] += x[k] * b[i * stride + (i32)k];
    }
  }
  for (; c < columns; c++, b += stride) {
    for (u32 k = 0; k < depth; k++) sums[c] += x[k] * b[k];
  }
}

static void one_row(const struct matmul *call, const f32 *a, const f32 *b, const struct tile_out *out, u32 columns) {
  f32 sums[WIDTH_MAX + 4] __attribute__((aligned(16))), left[LEFT_MAX];
  i32 a_step = call->a_strides[RANK + 1], b_depth = call->b_strides[RANK], b_column = call->b_strides[RANK + 1];
  fill(sums, 0.0f, columns);
  for (u32 k = 0; k < call->k; k += LEFT_MAX) {
    u32 depth = least(LEFT_MAX, call->k - k);
    const f32 *x = a + (i32)k * a_step, *right = b + (i32)k * b_depth;
    if (a_step != 1) {
      copy_from(left, x, a_step, depth);
      x = left;
    }
    if (b_column == 1) {
      add_rows(sums, x, right, b_depth, depth, columns);
    } else {
      add_columns(sums, x, right, b_column, depth, columns);
    }
  }
  tile_store(out, sums, 0, 1, columns);
}

static void tile(const struct matmul *call, const f32 *a, const f32 *b, const struct tile_out *out, u32 rows, u32 columns) {
  struct tile tile;
  i32 a_row = call->a_strides[RANK], a_step = call->a_strides[RANK + 1];
  i32 b_depth = call->b_strides[RANK], b_column = call->b_strides[RANK + 1];
  fill(tile.sums, 0.0f, rows * TILE_COLUMNS);
  for (u32 k = 0; k < call->k; k += TILE_DEPTH) {
    u32 depth = least(TILE_DEPTH, call->k - k);
    const f32 *left = a + (i32)k * a_step;
    i32 stride = a_row;
    if (a_step != 1) {
      for (u32 r = 0; r < rows; r++) copy_from(tile.left + r * TILE_DEPTH, left + (i32)r * a_row, a_step, depth);
      left = tile.left;
      stride = TILE_DEPTH;
    }
    tile_pack(tile.packed, b + (i32)k * b_depth, b_depth, b_column, depth, columns);
    tile_multiply(tile.sums, left, (u32)stride, tile.packed, rows, columns, depth);
  }
  tile_store(out, tile.sums, TILE_COLUMNS, rows, columns);
}

KERNEL(matmul) {
  u32 across = parts(call->n, call->width), down = parts(call->m, TILE_ROWS);
  u32 lies = call->b_strides[RANK] == 1 || call->b_strides[RANK + 1] == 1;
  for (u32 unit = from; unit < to; unit++) {
    u32 column = unit % across * call->width, row = unit / across % down * TILE_ROWS, batch = unit / across / down;
    u32 columns = least(call->width, call->n - column), rows = least(TILE_ROWS, call->m - row);
    const i32 *bias = call->bias_strides, *output = call->output_strides;
    const f32 *a = call->a + offset_of(call, call->a_strides, batch) + (i32)row * call->a_strides[RANK];
    const f32 *b = call->b + offset_of(call, call->b_strides, batch) + (i32)column * call->b_strides[RANK + 1];
    i32 bias_at = (i32)row * bias[RANK] + (i32)column * bias[RANK + 1];
    i32 output_at = (i32)row * output[RANK] + (i32)column * output[RANK + 1];
    struct tile_out out = {
      .alpha = call->alpha,
      .bias = call->bias ? call->bias + offset_of(call, bias, batch) + bias_at : 0,
      .bias_row = bias[RANK],
      .bias_column = bias[RANK + 1],
      .activation = call->activation,
      .output = call->output + offset_of(call, output, batch) + output_at,
      .row = output[RANK],
      .column = output[RANK + 1],
    };
    if (call->m == 1 && lies) {
      one_row(call, a, b, &out, columns);
    } else {
      tile(call, a, b, &out, rows, columns);
    }
  }
  return FAULT_NONE;
}
