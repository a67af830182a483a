#include "kernels.h"

static i32 offset_of(const i32 *strides, u32 batch, u32 head, u32 row) {
  return (i32)batch * strides[0] + (i32)head * strides[1] + (i32)row * strides[2];
}

KERNEL(rotary) {
  u32 half = call->turned / 2;
  i32 in_step = call->input_strides[3], out_step = call->output_strides[3];
  /* How far the two of a pair are apart, and two pairs. */
  i32 apart = call->interleaved ? 1 : (i32)half, next = call->interleaved ? 2 : 1;
  for (u32 unit = from; unit < to; unit++) {
    u32 row = unit % call->rows, head = unit / call->rows % call->heads, batch = unit / call->rows / call->heads;
    i32 position = call->positions_len == 1 ? call->positions[0] + (i32)row : call->positions[batch * call->rows + row];
    if ((u32)position >= call->positions_max) return FAULT_INDEX;
    const f32 *input = call->input + offset_of(call->input_strides, batch, head, row);
    f32 *output = call->output + offset_of(call->output_strides, batch, head, row);
    const f32 *cos = call->cos + (u32)position * half, *sin = call->sin + (u32)position * half;
    for (u32 i = 0; i < half; i++) {
      i32 first = (i32)i * next, second = first + apart;
      f32 x = input[first * in_step], y = input[second * in_step];
      output[first * out_step] = x * cos[i] - y * sin[i];
      output[second * out_step] = y * cos[i] + x * sin[i];
    }
    for (u32 i = call->turned; i < call->size; i++) output[(i32)i * out_step] = input[(i32)i * in_step];
  }
  return FAULT_NONE;
}
