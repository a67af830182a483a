#include "kernels.h"

KERNEL(gather) {
  u32 inner = call->inner;
  for (u32 unit = from; unit < to; unit++) {
    i32 index = call->indices[unit % call->count];
    if (index < 0) index += (i32)call->axis;
    if ((u32)index >= call->axis) return FAULT_INDEX;
    u32 row = unit / call->count * call->axis + (u32)index;
    copy_to(call->output + unit * inner, 1, call->data + row * inner, inner);
  }
  return FAULT_NONE;
}
