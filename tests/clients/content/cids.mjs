// Prints what `ipfs-unixfs-importer` calls files of these sizes, laid out as `unixfs-v1-2025` says.
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'

const LEAF = 1 << 20

/** The same bytes that the test lays out: each leaf begins with its number. */
async function * file (size) {
  const pattern = Uint8Array.from({ length: LEAF }, (_, at) => (at * 7 + (at >> 12)) & 255)
  for (let from = 0; from < size; from += LEAF) {
    const leaf = pattern.slice()
    new DataView(leaf.buffer).setUint32(0, from / LEAF, true)
    yield leaf.subarray(0, Math.min(LEAF, size - from))
  }
}

const options = {
  cidVersion: 1,
  rawLeaves: true,
  reduceSingleLeafToSelf: true,
  chunker: fixedSize({ chunkSize: LEAF }),
  layout: balanced({ maxChildrenPerNode: 1024 }),
  wrapWithDirectory: false
}
// The blocks themselves are not wanted.
const nowhere = { put: async cid => cid, has: async () => false }

for (const size of process.argv.slice(2).map(Number)) {
  for await (const { cid } of importer([{ content: file(size) }], nowhere, options)) {
    console.log(`${size} ${cid}`)
  }
}
