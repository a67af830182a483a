#include "bits.h"

KERNEL(gather_bits) {
  u32 bits = call->bits, each = 8 / bits, mask = (1u << bits) - 1;
  for (u32 unit = from; unit < to; unit++) {
    i32 index = call->indices[unit];
    if (index < 0) index += (i32)call->rows;
    if ((u32)index >= call->rows) return FAULT_INDEX;
    const u8 *numbers = call->numbers + (u32)index * (call->blocks * call->block / each);
    f32 *output = call->output + unit * call->k;
    for (u32 b = 0; b < call->blocks; b++) {
      u32 at = (u32)index * call->blocks + b, end = least((b + 1) * call->block, call->k);
      f32 scale = call->scales[at];
      i32 zero = (i32)(call->zeros ? call->zeros[at] : call->zero);
      for (u32 k = b * call->block; k < end; k++) {
        i32 number = (i32)(numbers[k / each] >> (k % each * bits) & mask);
        output[k] = (f32)(number - zero) * scale;
      }
    }
  }
  return FAULT_NONE;
}
