#include "functions.h"
#include "scalar.h"

/* Folds a row into one number by a vector of partial results. */
#define ROW(start, vector, scalar)                      \
  {                                                     \
    v128_t all = SPLAT(start);                          \
    u32 i = 0;                                          \
    for (; i + 4 <= len; i += 4) {                      \
      v128_t x = wasm_v128_load(row + i);               \
      all = vector;                                     \
    }                                                   \
    f32 one = start;                                    \
    for (u32 lane = 0; lane < 4; lane++) {              \
      f32 x = lane == 0   ? wasm_f32x4_extract_lane(all, 0)  \
              : lane == 1 ? wasm_f32x4_extract_lane(all, 1)  \
              : lane == 2 ? wasm_f32x4_extract_lane(all, 2)  \
                          : wasm_f32x4_extract_lane(all, 3); \
      one = scalar;                                     \
    }                                                   \
    return fold_rest(op, one, row + i, len - i);        \
  }

static f32 fold(u32 op, f32 sum, f32 x) {
  switch (op) {
    case REDUCE_MAX: return x > sum ? x : sum;
    case REDUCE_MIN: return x < sum ? x : sum;
    case REDUCE_PROD: return sum * x;
    case REDUCE_SUM_SQUARE:
    case REDUCE_L2: return sum + x * x;
    case REDUCE_L1: return sum + __builtin_fabsf(x);
    default: return sum + x;
  }
}

static f32 fold_rest(u32 op, f32 one, const f32 *rest, u32 count) {
  for (u32 i = 0; i < count; i++) one = fold(op, one, rest[i]);
  return one;
}

static f32 start_of(u32 op) {
  if (op == REDUCE_MAX) return -__builtin_inff();
  if (op == REDUCE_MIN) return __builtin_inff();
  return op == REDUCE_PROD ? 1.0f : 0.0f;
}

static f32 fold_row(u32 op, const f32 *row, u32 len) {
  switch (op) {
    case REDUCE_MAX: ROW(-__builtin_inff(), wasm_f32x4_pmax(all, x), x > one ? x : one);
    case REDUCE_MIN: ROW(__builtin_inff(), wasm_f32x4_pmin(all, x), x < one ? x : one);
    case REDUCE_PROD: ROW(1.0f, wasm_f32x4_mul(all, x), one * x);
    case REDUCE_SUM_SQUARE:
    case REDUCE_L2: ROW(0.0f, MADD(x, x, all), one + x);
    case REDUCE_L1: ROW(0.0f, wasm_f32x4_add(all, absolute(x)), one + x);
    default: ROW(0.0f, wasm_f32x4_add(all, x), one + x);
  }
}

static f32 finish(u32 op, f32 value, u32 len) {
  if (op == REDUCE_MEAN) return value / (f32)len;
  return op == REDUCE_L2 ? __builtin_sqrtf(value) : value;
}

static f32 log_sum_exp(const f32 *data, u32 len, u32 stride) {
  f32 max = -__builtin_inff();
  for (u32 i = 0; i < len; i++) max = fold(REDUCE_MAX, max, data[i * stride]);
  if (__builtin_fabsf(max) == __builtin_inff()) return max;
  f64 sum = 0.0;
  for (u32 i = 0; i < len; i++) sum += exp_of((f64)data[i * stride] - max);
  return (f32)(log_of(sum) + max);
}

static i32 place_of(u32 op, const f32 *data, u32 len, u32 stride) {
  u32 best = 0;
  for (u32 i = 1; i < len; i++) {
    f32 x = data[i * stride], held = data[best * stride];
    if (op == REDUCE_ARG_MAX ? x > held : x < held) best = i;
  }
  return (i32)best;
}

static i32 fold_whole(u32 op, const i32 *data, u32 len, u32 stride) {
  i32 all = data[0];
  for (u32 i = 1; i < len; i++) {
    i32 x = data[i * stride];
    switch (op) {
      case REDUCE_MAX: all = x > all ? x : all; break;
      case REDUCE_MIN: all = x < all ? x : all; break;
      case REDUCE_PROD: all = (i32)((u32)all * (u32)x); break;
      default: all = (i32)((u32)all + (u32)x);
    }
  }
  return all;
}

/* Columns that lie beside each other, row after row. */
static void fold_columns(u32 op, f32 *sums, const f32 *data, u32 len, u32 stride, u32 columns) {
  fill(sums, start_of(op), columns);
  for (u32 i = 0; i < len; i++, data += stride) {
    for (u32 c = 0; c < columns; c++) sums[c] = fold(op, sums[c], data[c]);
  }
}

KERNEL(reduce) {
  u32 op = call->op, inner = call->inner, len = call->len, blocks = parts(inner, LANE_BLOCK);
  u32 alone = call->integers || op == REDUCE_LOG_SUM_EXP || op == REDUCE_ARG_MAX || op == REDUCE_ARG_MIN;
  for (u32 unit = from; unit < to; unit++) {
    u32 outer = unit / blocks, column = unit % blocks * LANE_BLOCK, columns = least(LANE_BLOCK, inner - column);
    const f32 *data = call->input + outer * len * inner + column;
    f32 *output = call->output + outer * inner + column;
    if (!alone && inner == 1) {
      *output = finish(op, fold_row(op, data, len), len);
      continue;
    }
    if (!alone) {
      fold_columns(op, output, data, len, inner, columns);
      for (u32 c = 0; c < columns; c++) output[c] = finish(op, output[c], len);
      continue;
    }
    for (u32 c = 0; c < columns; c++) {
      if (op == REDUCE_LOG_SUM_EXP) {
        output[c] = log_sum_exp(data + c, len, inner);
      } else if (call->integers) {
        ((i32 *)output)[c] = fold_whole(op, (const i32 *)data + c, len, inner);
      } else {
        ((i32 *)output)[c] = place_of(op, data + c, len, inner);
      }
    }
  }
  return FAULT_NONE;
}
