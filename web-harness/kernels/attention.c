#include "functions.h"

#define QUERIES ATTENTION_QUERIES
/* Keys whose scores are held at a time. */
#define KEYS 64
#define NOTHING (-__builtin_inff())

/* Some queries of one head: each row's greatest score so far, the sum of its shares, and the sum of values by them. */
struct heads {
  f32 q[QUERIES][ATTENTION_SIZE];
  f32 scores[QUERIES][KEYS];
  f32 sums[QUERIES][ATTENTION_SIZE + 8];
  f32 row[ATTENTION_SIZE + 8];
  f32 max[QUERIES];
  f32 share[QUERIES];
  u32 rows;
} __attribute__((aligned(16)));

static i32 offset_of(const i32 *strides, u32 batch, u32 head, u32 row) {
  return (i32)batch * strides[0] + (i32)head * strides[1] + (i32)row * strides[2];
}

/* A row's elements one behind the other, with room for whole vectors. */
static const f32 *in_a_row(f32 *room, const f32 *from, i32 stride, u32 size) {
  if (stride == 1 && size % 4 == 0) return from;
  copy_from(room, from, stride, size);
  fill(room + size, 0.0f, 3);
  return room;
}

static void score_keys(struct heads *heads, const struct attention *call, const f32 *keys, u32 count) {
  for (u32 j = 0; j < count; j++, keys += call->k_strides[2]) {
    const f32 *key = in_a_row(heads->row, keys, call->k_strides[3], call->size);
    v128_t sum[QUERIES] = {SPLAT(0), SPLAT(0), SPLAT(0), SPLAT(0)};
    for (u32 i = 0; i < call->size; i += 4) {
      v128_t x = wasm_v128_load(key + i);
      for (u32 r = 0; r < QUERIES; r++) sum[r] = MADD(x, wasm_v128_load(heads->q[r] + i), sum[r]);
    }
    v128_t all = wasm_f32x4_mul(sums_of(sum[0], sum[1], sum[2], sum[3]), SPLAT(call->scale));
    if (call->softcap != 0.0f) {
      v128_t cap = SPLAT(call->softcap);
      all = wasm_f32x4_mul(cap, tanh4(wasm_f32x4_div(all, cap)));
    }
    heads->scores[0][j] = wasm_f32x4_extract_lane(all, 0);
    heads->scores[1][j] = wasm_f32x4_extract_lane(all, 1);
    heads->scores[2][j] = wasm_f32x4_extract_lane(all, 2);
    heads->scores[3][j] = wasm_f32x4_extract_lane(all, 3);
  }
}

/* Turns a row's scores into shares of what is known so far. */
static void share(struct heads *heads, u32 r, u32 value_size) {
  f32 *scores = heads->scores[r];
  v128_t greatest = SPLAT(heads->max[r]);
  for (u32 j = 0; j < KEYS; j += 4) greatest = wasm_f32x4_pmax(greatest, wasm_v128_load(scores + j));
  f32 max = max_of(greatest);
  if (max == NOTHING) {
    fill(scores, 0.0f, KEYS);
    return;
  }
  v128_t by = SPLAT(max), sum = SPLAT(0.0f);
  for (u32 j = 0; j < KEYS; j += 4) {
    v128_t score = wasm_v128_load(scores + j);
    v128_t part = wasm_v128_and(exp4(wasm_f32x4_sub(score, by)), wasm_f32x4_ne(score, SPLAT(NOTHING)));
    wasm_v128_store(scores + j, part);
    sum = wasm_f32x4_add(sum, part);
  }
  v128_t less = exp4(SPLAT(heads->max[r] - max));
  if (heads->max[r] != max) {
    for (u32 i = 0; i < value_size; i += 4) {
      wasm_v128_store(heads->sums[r] + i, wasm_f32x4_mul(wasm_v128_load(heads->sums[r] + i), less));
    }
    heads->share[r] *= wasm_f32x4_extract_lane(less, 0);
    heads->max[r] = max;
  }
  heads->share[r] += sum_of(sum);
}

static void add_values(struct heads *heads, const struct attention *call, const f32 *values, u32 count) {
  i32 stride = call->v_strides[2];
  if (call->v_strides[3] != 1) {
    for (u32 j = 0; j < count; j++, values += stride) {
      copy_from(heads->row, values, call->v_strides[3], call->value_size);
      for (u32 r = 0; r < QUERIES; r++) {
        for (u32 i = 0; i < call->value_size; i++) heads->sums[r][i] += heads->scores[r][j] * heads->row[i];
      }
    }
    return;
  }
  /* What lies behind a row's end goes into sums that nobody reads. */
  for (u32 i = 0; i < call->value_size; i += 8) {
    v128_t held[QUERIES][2];
    for (u32 r = 0; r < QUERIES; r++) {
      held[r][0] = wasm_v128_load(heads->sums[r] + i);
      held[r][1] = wasm_v128_load(heads->sums[r] + i + 4);
    }
    const f32 *value = values + i;
    for (u32 j = 0; j < count; j++, value += stride) {
      v128_t low = wasm_v128_load(value), high = wasm_v128_load(value + 4);
      for (u32 r = 0; r < QUERIES; r++) {
        v128_t part = wasm_v128_load32_splat(heads->scores[r] + j);
        held[r][0] = MADD(part, low, held[r][0]);
        held[r][1] = MADD(part, high, held[r][1]);
      }
    }
    for (u32 r = 0; r < QUERIES; r++) {
      wasm_v128_store(heads->sums[r] + i, held[r][0]);
      wasm_v128_store(heads->sums[r] + i + 4, held[r][1]);
    }
  }
}

/* Adds the mask to the scores of keys from `first` on, and takes those away that a query does not see. */
static void hide(struct heads *heads, const struct attention *call, const f32 *mask, u32 query, u32 keys, u32 first, u32 count) {
  u32 far = call->window == 0xffffffffu;
  i32 least_own = (i32)(query + keys) - (i32)call->queries;
  u32 all = count == KEYS && far && (!call->causal || (i32)(first + KEYS) <= least_own + 1);
  if (all && !mask) return;
  for (u32 r = 0; r < heads->rows; r++) {
    i32 own = least_own + (i32)r;
    for (u32 j = 0; j < KEYS; j++) {
      i32 key = (i32)(first + j);
      u32 seen = j < count && (!call->causal || key <= own);
      seen = seen && (far || key >= own - (i32)call->window);
      f32 *score = &heads->scores[r][j];
      if (!seen) {
        *score = NOTHING;
      } else if (mask) {
        *score += mask[(i32)r * call->mask_strides[2] + key * call->mask_strides[3]];
      }
    }
  }
}

static void answer(struct heads *heads, const struct attention *call, u32 batch, u32 head, u32 query) {
  u32 keys = call->keys;
  if (call->lengths) {
    i32 length = call->lengths[batch];
    keys = length < 0 ? 0 : least((u32)length, keys);
  }
  u32 key_head = head / (call->heads / call->key_heads);
  const f32 *k = call->k + offset_of(call->k_strides, batch, key_head, 0);
  const f32 *v = call->v + offset_of(call->v_strides, batch, key_head, 0);
  const f32 *mask = call->mask ? call->mask + offset_of(call->mask_strides, batch, head, query) : 0;
  for (u32 r = 0; r < QUERIES; r++) {
    heads->max[r] = NOTHING;
    heads->share[r] = 0.0f;
    fill(heads->sums[r], 0.0f, call->value_size + 8);
    u32 row = query + least(r, heads->rows - 1);
    copy_from(heads->q[r], call->q + offset_of(call->q_strides, batch, head, row), call->q_strides[3], call->size);
    if (call->size % 4) fill(heads->q[r] + call->size, 0.0f, 4 - call->size % 4);
  }
  u32 seen = keys;
  if (call->causal) {
    i32 last = (i32)(query + heads->rows + keys) - (i32)call->queries;
    seen = last < 0 ? 0 : least((u32)last, keys);
  }
  for (u32 first = 0; first < seen; first += KEYS) {
    u32 count = least(KEYS, seen - first);
    score_keys(heads, call, k + (i32)first * call->k_strides[2], count);
    hide(heads, call, mask, query, keys, first, count);
    for (u32 r = 0; r < heads->rows; r++) share(heads, r, call->value_size);
    add_values(heads, call, v + (i32)first * call->v_strides[2], count);
  }
  for (u32 r = 0; r < heads->rows; r++) {
    f32 by = heads->share[r] == 0.0f ? 0.0f : 1.0f / heads->share[r];
    for (u32 i = 0; i < call->value_size; i++) heads->sums[r][i] *= by;
    f32 *output = call->output + offset_of(call->output_strides, batch, head, query + r);
    copy_to(output, call->output_strides[3], heads->sums[r], call->value_size);
  }
}

KERNEL(attention) {
  struct heads heads;
  u32 blocks = parts(call->queries, QUERIES);
  for (u32 unit = from; unit < to; unit++) {
    u32 query = unit % blocks * QUERIES, head = unit / blocks % call->heads, batch = unit / blocks / call->heads;
    heads.rows = least(QUERIES, call->queries - query);
    /* Rows that there are not keep the shares of nothing. */
    for (u32 r = heads.rows; r < QUERIES; r++) fill(heads.scores[r], 0.0f, KEYS);
    answer(&heads, call, batch, head, query);
  }
  return FAULT_NONE;
}
