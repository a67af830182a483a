// Prints what `ipfs-unixfs-importer` calls files of these sizes, laid out as `unixfs-v1-2025` says.
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { LEAF, file } from './file.mjs'

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
