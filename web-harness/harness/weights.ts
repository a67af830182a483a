/**
 * Brings a model's files: piece by piece, each MiB proven as it comes, and kept for the next load.
 * It owns fetching, proof and the browser's cache, and never looks into a file.
 */

import type { Bytes } from '../protocol/frame.ts';
import type { FetchedBytes, FileFetch } from '../protocol/messages.ts';
import { Failure } from './failure.ts';
import { openCache, type WeightsCache } from './weightscache.ts';

/** What one digest stands for. */
const LEAF = 1024 * 1024;

/** SHA-256. */
const DIGEST = 32;

/** What is asked for and kept at once: large enough that asking costs little, small enough to hold some of them. */
export const PIECE = 8 * LEAF;

/** Pieces under way: one is hashed while another one comes. */
const UNDER_WAY = 2;

export interface FetchedFile {
  readonly digest: string;
  readonly data: Bytes;
}

export interface Fetched {
  /** In the order in which they were asked for. */
  readonly files: readonly FetchedFile[];
  readonly bytes: FetchedBytes;
}

/** `leaves` are the digests of all files' leaves, one behind the other. */
export async function fetchFiles(files: readonly FileFetch[], leaves: Bytes): Promise<Fetched> {
  const bytes = { network: 0, cache: 0 };
  let start = 0;
  // Room first: what cannot be held is not fetched.
  const loads = files.map((file) => {
    const end = start + digestsOf([file]);
    const own = leaves.subarray(start, end);
    start = end;
    return new FileLoad(file, own, allocate(file.bytes), bytes);
  });
  const cache = await openCache();
  for (const load of loads) await load.run(cache);
  return { files: loads.map(({ file, data }) => ({ digest: file.digest, data })), bytes };
}

/** How many bytes the digests of these files' leaves have. */
export function digestsOf(files: readonly FileFetch[]): number {
  return files.reduce((sum, { bytes }) => sum + leavesOf(bytes), 0) * DIGEST;
}

function leavesOf(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / LEAF));
}

function allocate(bytes: number): Bytes {
  try {
    return new Uint8Array(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Failure('too_large', 'elsewhere', `the browser has no room for a file of ${bytes} bytes: ${error.message}`);
  }
}

class FileLoad {
  #next = 0;
  #cache: WeightsCache | null = null;
  readonly #stop = new AbortController();

  constructor(
    readonly file: FileFetch,
    private readonly leaves: Bytes,
    readonly data: Bytes,
    private readonly tally: { network: number; cache: number },
  ) {}

  /** One lane of the browser brings a file at a time: the next one finds it in the cache. */
  async run(cache: WeightsCache | null): Promise<void> {
    if (cache === null) return this.#bringAll();
    const { digest, bytes } = this.file;
    await navigator.locks.request(`weft weights ${digest}`, async () => {
      await cache.makeRoom(digest, Math.ceil(bytes / PIECE));
      this.#cache = cache;
      await this.#bringAll();
    });
  }

  async #bringAll(): Promise<void> {
    try {
      await Promise.all(Array.from({ length: UNDER_WAY }, () => this.#work()));
    } catch (error) {
      this.#stop.abort();
      throw error;
    }
  }

  async #work(): Promise<void> {
    while (this.#next * PIECE < this.file.bytes && !this.#stop.signal.aborted) {
      const start = this.#next * PIECE;
      this.#next += 1;
      await this.#bring(start, Math.min(start + PIECE, this.file.bytes));
    }
  }

  async #bring(start: number, end: number): Promise<void> {
    const key = `${this.file.url}?from=${start}`;
    const kept = await this.#cache?.read(key);
    if (kept?.length === end - start && (await this.#wrong(kept, start)) === null) {
      this.data.set(kept, start);
      this.tally.cache += kept.length;
      return;
    }
    const bytes = await this.#ask(start, end);
    const wrong = await this.#wrong(bytes, start);
    if (wrong !== null) throw new Failure('internal', 'elsewhere', `the file ${this.file.digest} came changed: ${wrong}`);
    this.data.set(bytes, start);
    this.tally.network += bytes.length;
    await this.#cache?.keep(key, bytes);
  }

  async #ask(start: number, end: number): Promise<Bytes> {
    const { url, digest } = this.file;
    const response = await fetch(url, {
      headers: { range: `bytes=${start}-${end - 1}` },
      // Kept once: by the cache of our own where there is one, else by the browser's for HTTP.
      cache: this.#cache === null ? 'default' : 'no-store',
      signal: this.#stop.signal,
    });
    if (response.status !== 206) {
      const said = `${response.status} ${response.statusText}`;
      throw new Failure('internal', 'elsewhere', `fetching bytes ${start} to ${end} of the file ${digest} answered ${said}`);
    }
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes.length === end - start) return bytes;
    throw new Failure('internal', 'elsewhere', `${bytes.length} bytes of the file ${digest} came instead of ${end - start}`);
  }

  /** Which leaf of a piece is not what it should be. */
  async #wrong(piece: Bytes, start: number): Promise<string | null> {
    const first = start / LEAF;
    const checks = Array.from({ length: leavesOf(piece.length) }, async (_, i) => {
      const found = new Uint8Array(await crypto.subtle.digest('SHA-256', piece.subarray(i * LEAF, (i + 1) * LEAF)));
      const wanted = this.leaves.subarray((first + i) * DIGEST, (first + i + 1) * DIGEST);
      return found.every((byte, at) => byte === wanted[at]);
    });
    const wrong = (await Promise.all(checks)).indexOf(false);
    return wrong < 0 ? null : `the SHA-256 of its MiB ${first + wrong} is another`;
  }
}
