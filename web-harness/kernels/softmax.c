#include "functions.h"

static f32 row_max(const f32 *row, u32 len) {
  v128_t all = SPLAT(-__builtin_inff());
  u32 i = 0;
  for (; i + 4 <= len; i += 4) all = wasm_f32x4_pmax(all, wasm_v128_load(row + i));
  f32 max = max_of(all);
  for (; i < len; i++) max = row[i] > max ? row[i] : max;
  return max;
}

/* One vector at a time, whose lanes beyond the end count for nothing. */
static v128_t part_of(const f32 *row, u32 left, f32 instead) {
  if (left >= 4) return wasm_v128_load(row);
  f32 part[4] = {instead, instead, instead, instead};
  for (u32 i = 0; i < left; i++) part[i] = row[i];
  return wasm_v128_load(part);
}

static void store(f32 *row, v128_t x, u32 left) {
  if (left >= 4) {
    wasm_v128_store(row, x);
    return;
  }
  f32 part[4];
  wasm_v128_store(part, x);
  for (u32 i = 0; i < left; i++) row[i] = part[i];
}

static void one_row(const f32 *in, f32 *out, u32 len, u32 log) {
  v128_t max = SPLAT(row_max(in, len)), sum = SPLAT(0.0f);
  for (u32 i = 0; i < len; i += 4) {
    v128_t away = wasm_f32x4_sub(part_of(in + i, len - i, -__builtin_inff()), max);
    v128_t e = exp4(away);
    /* Lanes beyond the end are the least that exp4 makes, which rounds to nothing beside the greatest's 1. */
    sum = wasm_f32x4_add(sum, e);
    store(out + i, log ? away : e, len - i);
  }
  f32 all = sum_of(sum);
  v128_t by = log ? log4(SPLAT(all)) : SPLAT(1.0f / all);
  for (u32 i = 0; i < len; i += 4) {
    v128_t x = part_of(out + i, len - i, 0.0f);
    store(out + i, log ? wasm_f32x4_sub(x, by) : wasm_f32x4_mul(x, by), len - i);
  }
}

/* Up to four columns beside each other. */
static void some_columns(const f32 *in, f32 *out, u32 len, u32 stride, u32 columns, u32 log) {
  v128_t max = SPLAT(-__builtin_inff()), sum = SPLAT(0.0f);
  for (u32 i = 0; i < len; i++) max = wasm_f32x4_pmax(max, part_of(in + i * stride, columns, 0.0f));
  for (u32 i = 0; i < len; i++) {
    sum = wasm_f32x4_add(sum, exp4(wasm_f32x4_sub(part_of(in + i * stride, columns, 0.0f), max)));
  }
  v128_t by = log ? log4(sum) : wasm_f32x4_div(SPLAT(1.0f), sum);
  for (u32 i = 0; i < len; i++) {
    v128_t away = wasm_f32x4_sub(part_of(in + i * stride, columns, 0.0f), max);
    store(out + i * stride, log ? wasm_f32x4_sub(away, by) : wasm_f32x4_mul(exp4(away), by), columns);
  }
}

KERNEL(softmax) {
  u32 inner = call->inner, len = call->len, blocks = parts(inner, LANE_BLOCK);
  for (u32 unit = from; unit < to; unit++) {
    u32 column = unit % blocks * LANE_BLOCK, end = least(column + LANE_BLOCK, inner);
    u32 first = unit / blocks * len * inner;
    if (inner == 1) {
      one_row(call->input + first, call->output + first, len, call->log);
      continue;
    }
    for (u32 c = column; c < end; c += 4) {
      some_columns(call->input + first + c, call->output + first + c, len, inner, least(4, end - c), call->log);
    }
  }
  return FAULT_NONE;
}
