// The same bytes that the tests lay out: each leaf begins with its number.
export const LEAF = 1 << 20

export async function * file (size) {
  const pattern = Uint8Array.from({ length: LEAF }, (_, at) => (at * 7 + (at >> 12)) & 255)
  for (let from = 0; from < size; from += LEAF) {
    const leaf = pattern.slice()
    new DataView(leaf.buffer).setUint32(0, from / LEAF, true)
    yield leaf.subarray(0, Math.min(LEAF, size - from))
  }
}
