// Lays a file out as was usual before `unixfs-v1-2025`, writes its blocks as a CAR, and prints its CID: old.mjs SIZE FILE
import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CarWriter } from '@ipld/car'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { file } from './file.mjs'

const [size, path] = process.argv.slice(2)
const blocks = new Map()
const store = {
  put: async (cid, bytes) => {
    blocks.set(String(cid), { cid, bytes })
    return cid
  },
  has: async cid => blocks.has(String(cid))
}
const options = {
  cidVersion: 0,
  rawLeaves: false,
  reduceSingleLeafToSelf: true,
  chunker: fixedSize({ chunkSize: 1 << 18 }),
  layout: balanced({ maxChildrenPerNode: 174 }),
  wrapWithDirectory: false
}
for await (const { cid } of importer([{ content: file(Number(size)) }], store, options)) {
  const { writer, out } = CarWriter.create([cid])
  const written = pipeline(Readable.from(out), createWriteStream(path))
  for (const block of blocks.values()) await writer.put(block)
  await writer.close()
  await written
  console.log(String(cid))
}
