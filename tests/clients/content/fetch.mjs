// Fetches a file from a gateway in every way: fetch.mjs GATEWAY CID FILE
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { withHTTP } from '@helia/http'
import { createVerifiedFetchWithHelia } from '@helia/verified-fetch'
import { CarReader } from '@ipld/car'
import { createHeliaLight } from 'helia'
import { exporter } from 'ipfs-unixfs-exporter'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

// Node 20 lacks it, and the fetching library's parts use it.
Promise.withResolvers ??= () => {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

const [gateway, text, path] = process.argv.slice(2)
const cid = CID.parse(text)
const file = await readFile(path)

/** That both have the same bytes, without printing megabytes when they do not. */
function same (bytes, wanted) {
  assert.equal(bytes.length, wanted.length)
  assert.ok(Buffer.from(bytes).equals(wanted), 'the bytes differ')
}

/** A CAR's blocks by their CIDs, each checked. */
async function car (query) {
  const response = await fetch(`${gateway}/ipfs/${cid}?format=car&${query}`)
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type'), /^application\/vnd\.ipld\.car; version=1; order=dfs; dups=[yn]$/)
  const bytes = new Uint8Array(await response.arrayBuffer())
  assert.equal(bytes.length, Number(response.headers.get('content-length')))
  const reader = await CarReader.fromBytes(bytes)
  assert.equal(reader.version, 1)
  assert.deepEqual((await reader.getRoots()).map(String), [String(cid)])
  const blocks = new Map()
  for await (const block of reader.blocks()) {
    const digest = await sha256.digest(block.bytes)
    assert.ok(Buffer.from(digest.digest).equals(Buffer.from(block.cid.multihash.digest)), `${block.cid} is wrong`)
    blocks.set(String(block.cid), block.bytes)
  }
  return blocks
}

/** What a reader of UnixFS makes of these blocks. */
async function read (blocks, range) {
  const store = {
    async * get (wanted) {
      const block = blocks.get(String(wanted))
      assert.ok(block, `the block ${wanted} is missing`)
      yield block
    }
  }
  const entry = await exporter(cid, store)
  assert.equal(Number(entry.size), file.length)
  const parts = []
  for await (const part of entry.content(range)) parts.push(part)
  return Buffer.concat(parts)
}

const whole = await car('dag-scope=all')
same(await read(whole), file)
same(await read(await car('dag-scope=entity&car-dups=y')), file)
assert.deepEqual([...(await car('dag-scope=block')).keys()], [String(cid)])
const middle = Math.floor(file.length / 2)
for (const [from, to] of [[0, 0], [middle, middle + 9], [file.length - 1, file.length - 1]]) {
  const blocks = await car(`entity-bytes=${from}:${to}`)
  assert.ok(blocks.size < whole.size || whole.size <= 2, `${blocks.size} of ${whole.size} blocks`)
  same(await read(blocks, { offset: BigInt(from), length: BigInt(to - from + 1) }), file.subarray(from, to + 1))
}

// Over HTTP alone, and from nobody else.
const options = { delegatedRouters: [], recursiveGateways: [gateway], allowLocal: true, allowInsecure: true }
const light = withHTTP(createHeliaLight(), options)
// Gateways are asked when other routers have found nobody, for which there must be one.
light.addRouter({ name: 'nobody', async * findProviders () {} })
const helia = await light.start()
const verifiedFetch = await createVerifiedFetchWithHelia(helia)
try {
  const response = await verifiedFetch(`ipfs://${cid}`)
  assert.equal(response.status, 200)
  same(new Uint8Array(await response.arrayBuffer()), file)
  const part = await verifiedFetch(`ipfs://${cid}`, { headers: { range: `bytes=${middle}-${middle + 9}` } })
  same(new Uint8Array(await part.arrayBuffer()), file.subarray(middle, middle + 10))
} finally {
  await verifiedFetch.stop()
}
// What ends earlier, because nothing is left to wait for, has shown nothing.
console.log('fetched')
