#include "kernels.h"

enum layout {
  /* One element behind the other. */
  DENSE,
  /* One element everywhere. */
  SINGLE,
  STRIDED,
};

static enum layout layout_of(const i32 *strides, const u32 *shape, u32 rank) {
  i32 dense = 1;
  u32 is_dense = 1, is_single = 1;
  for (u32 d = rank; d-- > 0;) {
    is_dense &= strides[d] == dense;
    is_single &= strides[d] == 0;
    dense *= (i32)shape[d];
  }
  return is_dense ? DENSE : is_single ? SINGLE : STRIDED;
}

/* Copies a part of a strided tensor, from its element `first` on, to or from a block. */
static void walk(f32 *tensor, const i32 *strides, const struct map *call, u32 first, f32 *block, u32 count, u32 out) {
  u32 index[RANK];
  i32 offset = 0;
  u32 last = call->rank - 1, left = first;
  for (u32 d = call->rank; d-- > 0;) {
    index[d] = left % call->shape[d];
    left /= call->shape[d];
    offset += (i32)index[d] * strides[d];
  }
  for (u32 done = 0; done < count;) {
    u32 run = least(count - done, call->shape[last] - index[last]);
    if (out) {
      copy_to(tensor + offset, strides[last], block + done, run);
    } else if (strides[last] == 0) {
      fill(block + done, tensor[offset], run);
    } else {
      copy_from(block + done, tensor + offset, strides[last], run);
    }
    done += run;
    index[last] += run;
    offset += (i32)run * strides[last];
    for (u32 d = last; d > 0 && index[d] == call->shape[d]; d--) {
      offset += strides[d - 1] - (i32)index[d] * strides[d];
      index[d] = 0;
      index[d - 1] += 1;
    }
  }
}

KERNEL(map) {
  f32 blocks[MAP_REGISTERS][MAP_BLOCK] __attribute__((aligned(16)));
  f32 *places[MAP_REGISTERS];
  enum layout layouts[MAP_REGISTERS];
  u32 elements = 1;
  for (u32 d = 0; d < call->rank; d++) elements *= call->shape[d];
  const struct map_input *inputs = (const struct map_input *)(call + 1);
  const f32 *constants = (const f32 *)(inputs + call->inputs);
  const struct instruction *instructions = (const struct instruction *)(constants + call->constants);
  for (u32 r = 0; r < MAP_REGISTERS; r++) places[r] = blocks[r];
  for (u32 i = 0; i < call->inputs; i++) {
    layouts[i] = layout_of(inputs[i].strides, call->shape, call->rank);
    if (layouts[i] == SINGLE) fill(blocks[i], inputs[i].data[0], MAP_BLOCK);
  }
  for (u32 i = 0; i < call->constants; i++) fill(blocks[call->inputs + i], constants[i], MAP_BLOCK);
  u32 made = call->result >= call->inputs + call->constants;
  u32 dense = layout_of(call->strides, call->shape, call->rank) == DENSE;
  for (u32 unit = from; unit < to; unit++) {
    u32 first = unit * MAP_BLOCK, count = least(MAP_BLOCK, elements - first);
    f32 *output = call->output + first;
    /* Whole vectors are written, so that a part of one must not go where others' elements lie. */
    u32 direct = dense && count % 4 == 0;
    if (made) places[call->result] = direct ? output : blocks[call->result];
    for (u32 i = 0; i < call->inputs; i++) {
      if (layouts[i] == DENSE) places[i] = (f32 *)inputs[i].data + first;
      if (layouts[i] != STRIDED) continue;
      places[i] = direct && call->result == i ? output : blocks[i];
      walk((f32 *)inputs[i].data, inputs[i].strides, call, first, places[i], count, 0);
    }
    for (u32 i = 0; i < call->instructions; i++) {
      u32 at = instructions[i].places;
      apply(instructions[i].op, places[at & 255], places[at >> 8 & 255], places[at >> 16 & 255], places[at >> 24], count);
    }
    f32 *result = places[call->result];
    if (result == output) continue;
    if (dense) {
      copy_to(output, 1, result, count);
    } else {
      walk(call->output, call->strides, call, first, result, count, 1);
    }
  }
  return FAULT_NONE;
}
