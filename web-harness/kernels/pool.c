#include "kernels.h"

static f32 one(const struct pool *call, const f32 *plane, u32 row, u32 column) {
  const struct window *window = &call->window;
  i32 top = (i32)(row * window->strides[0]) - window->pads[0];
  i32 start = (i32)(column * window->strides[1]) - window->pads[1];
  u32 height = window->input[0], width = window->input[1], seen = 0;
  f32 max = -__builtin_inff(), sum = 0.0f;
  for (u32 down = 0; down < window->kernel[0]; down++) {
    u32 y = (u32)(top + (i32)(down * window->dilations[0]));
    if (y >= height) continue;
    for (u32 across = 0; across < window->kernel[1]; across++) {
      u32 x = (u32)(start + (i32)(across * window->dilations[1]));
      if (x >= width) continue;
      f32 value = plane[y * width + x];
      max = value > max ? value : max;
      sum += value;
      seen += 1;
    }
  }
  if (call->op == POOL_MAX) return max;
  return sum / (f32)(call->op == POOL_MEAN ? seen : window->kernel[0] * window->kernel[1]);
}

KERNEL(pool) {
  const struct window *window = &call->window;
  for (u32 plane = from; plane < to; plane++) {
    const f32 *input = call->input + plane * window->input[0] * window->input[1];
    f32 *output = call->output + plane * window->output[0] * window->output[1];
    for (u32 row = 0; row < window->output[0]; row++) {
      for (u32 column = 0; column < window->output[1]; column++) *output++ = one(call, input, row, column);
    }
  }
  return FAULT_NONE;
}
