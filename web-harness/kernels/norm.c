#include "kernels.h"

/* The sum of x, or of (x - mean)². */
static f32 row_sum(const f32 *row, u32 len) {
  v128_t sum = wasm_f32x4_splat(0.0f);
  u32 i = 0;
  for (; i + 4 <= len; i += 4) sum = wasm_f32x4_add(sum, wasm_v128_load(row + i));
  f32 all = sum_of(sum);
  for (; i < len; i++) all += row[i];
  return all;
}

static f32 row_squares(const f32 *row, u32 len, f32 mean) {
  v128_t sum = wasm_f32x4_splat(0.0f), middle = wasm_f32x4_splat(mean);
  u32 i = 0;
  for (; i + 4 <= len; i += 4) {
    v128_t away = wasm_f32x4_sub(wasm_v128_load(row + i), middle);
    sum = MADD(away, away, sum);
  }
  f32 all = sum_of(sum);
  for (; i < len; i++) all += (row[i] - mean) * (row[i] - mean);
  return all;
}

static void add_rows(const f32 *a, const f32 *b, f32 *sum, u32 len) {
  u32 i = 0;
  for (; i + 4 <= len; i += 4) wasm_v128_store(sum + i, wasm_f32x4_add(wasm_v128_load(a + i), wasm_v128_load(b + i)));
  for (; i < len; i++) sum[i] = a[i] + b[i];
}

static void scale_row(const struct norm *call, const f32 *x, f32 *out, f32 mean, f32 by) {
  const f32 *scale = call->scale, *bias = call->bias;
  v128_t middle = wasm_f32x4_splat(mean), factor = wasm_f32x4_splat(by);
  u32 i = 0;
  for (; i + 4 <= call->len; i += 4) {
    v128_t y = wasm_f32x4_mul(wasm_f32x4_sub(wasm_v128_load(x + i), middle), factor);
    if (scale) y = wasm_f32x4_mul(y, wasm_v128_load(scale + i));
    if (bias) y = wasm_f32x4_add(y, wasm_v128_load(bias + i));
    wasm_v128_store(out + i, y);
  }
  for (; i < call->len; i++) out[i] = (x[i] - mean) * by * (scale ? scale[i] : 1.0f) + (bias ? bias[i] : 0.0f);
}

KERNEL(norm) {
  u32 len = call->len;
  for (u32 row = from; row < to; row++) {
    const f32 *x = call->input + row * len;
    f32 *out = call->output + row * len;
    if (call->skip) {
      /* Where nobody wants the sum, it lies where the result will. */
      f32 *sum = call->sum ? call->sum + row * len : out;
      add_rows(x, call->skip + row * len, sum, len);
      x = sum;
    }
    f32 mean = call->kind == NORM_LAYER ? row_sum(x, len) / (f32)len : 0.0f;
    f32 spread = row_squares(x, len, mean) / (f32)len;
    scale_row(call, x, out, mean, 1.0f / __builtin_sqrtf(spread + call->epsilon));
  }
  return FAULT_NONE;
}
