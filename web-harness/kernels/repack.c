#include "kernels.h"

/* One number of a block, as it lies in a file. */
static u32 number(const u8 *bytes, u32 block, u32 bits, u32 at) {
  switch (bits) {
    case 1: {
      static const u8 powers[5] = {1, 3, 9, 27, 81};
      return bytes[at / 5] / powers[at % 5] % 3u;
    }
    case 3: return (bytes[at / 4] >> (at % 4 * 2) & 3u) | (bytes[block / 4 + at / 8] >> (at % 8) & 1u) << 2;
    default: return bytes[at * bits / 8] >> (at * bits % 8) & ((1u << bits) - 1);
  }
}

static u32 block_bytes(u32 block, u32 bits) {
  return bits == 1 ? (parts(block, 5) + 3) & ~3u : block * bits / 8;
}

KERNEL(repack) {
  u32 bits = call->bits, to_bits = call->to, each = 8 / to_bits;
  for (u32 row = from; row < to; row++) {
    const u8 *numbers = call->numbers + row * call->row_bytes;
    u8 *output = call->output + row * call->output_row_bytes;
    for (u32 b = 0; b < call->blocks; b++, numbers += block_bytes(call->block, bits)) {
      for (u32 i = 0; i < call->count; i += each) {
        u32 byte = 0;
        for (u32 j = 0; j < each && i + j < call->count; j++) {
          byte |= number(numbers, call->block, bits, i + j) << (j * to_bits);
        }
        *output++ = (u8)byte;
      }
    }
  }
  return FAULT_NONE;
}
