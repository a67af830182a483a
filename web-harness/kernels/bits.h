/*
 * Numbers of few bits in vectors of 16 bytes.
 * A vector's 16-bit lanes hold 16 / bits numbers each: the number p of lane l is the vector's number l · (16 / bits) + p.
 * So masks and shifts take a vector apart into 16 / bits vectors of 16-bit numbers, without widening anything.
 */

#pragma once

#include "kernels.h"

#define VECTOR_BYTES 16

/* Numbers in a vector. */
INLINE u32 vector_numbers(u32 bits) { return VECTOR_BYTES * 8 / bits; }

/* Vectors that a row of blocks takes. */
INLINE u32 row_vectors(u32 blocks, u32 block, u32 bits) { return parts(blocks * block, vector_numbers(bits)); }

/* Times that a row's products are scaled: once for a block, or for a vector that holds several blocks. */
INLINE u32 row_scalings(u32 blocks, u32 block, u32 bits) {
  return block < vector_numbers(bits) ? row_vectors(blocks, block, bits) : blocks;
}

/* Blocks that share a vector. */
INLINE u32 vector_blocks(u32 block, u32 bits) {
  return block < vector_numbers(bits) ? vector_numbers(bits) / block : 1;
}
