#include "kernels.h"

KERNEL(keep) {
  u32 first = (u32)call->position[0];
  if (first > call->rows_max || call->rows > call->rows_max - first) return FAULT_INDEX;
  const i32 *strides = call->input_strides;
  for (u32 unit = from; unit < to; unit++) {
    u32 row = unit % call->rows, outer = unit / call->rows;
    i32 at = (i32)(outer / call->heads) * strides[0] + (i32)(outer % call->heads) * strides[1] + (i32)row * strides[2];
    copy_from(call->output + (outer * call->room + first + row) * call->size, call->input + at, strides[3], call->size);
  }
  return FAULT_NONE;
}
