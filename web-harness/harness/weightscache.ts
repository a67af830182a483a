/**
 * What a browser keeps of models' files between loads, for all of its lanes and across its pages.
 * It owns the entries and their number, and never trusts them: whoever reads one proves it.
 */

import type { Bytes } from '../protocol/frame.ts';

const NAME = 'weft-weights';

/** With pieces of 8 MiB, 4 GiB. */
const ENTRIES_MAX = 512;

/** The cache, or nothing where the browser has none. */
export async function openCache(): Promise<WeightsCache | null> {
  return (await cacheFault()) === null ? new WeightsCache(await caches.open(NAME)) : null;
}

let fault: Promise<string | null> | null = null;

/** Why this browser keeps nothing, found by trying it once; null where it does. */
export function cacheFault(): Promise<string | null> {
  fault ??= tryOut().catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
  return fault;
}

async function tryOut(): Promise<string | null> {
  if (typeof caches === 'undefined') return 'it has no Cache Storage';
  if (!('locks' in navigator)) return 'it has no Web Locks';
  const name = `${NAME}-trial`;
  const cache = await caches.open(name);
  const key = '/harness/trial';
  await cache.put(key, new Response(Uint8Array.of(1)));
  const kept = await (await cache.match(key))?.arrayBuffer();
  await caches.delete(name);
  return kept?.byteLength === 1 ? null : 'its Cache Storage gave nothing back';
}

export class WeightsCache {
  #full = false;

  constructor(private readonly cache: Cache) {}

  /** Forgets files, those kept first first, until so many more entries of `digest` may come. */
  async makeRoom(digest: string, entries: number): Promise<void> {
    if (entries > ENTRIES_MAX) {
      this.#full = true;
      return;
    }
    const kept = await this.cache.keys();
    let over = kept.filter(({ url }) => !url.includes(digest)).length + entries - ENTRIES_MAX;
    for (const request of kept) {
      if (over <= 0) return;
      if (request.url.includes(digest)) continue;
      await this.cache.delete(request);
      over -= 1;
    }
  }

  async read(key: string): Promise<Bytes | null> {
    const response = await this.cache.match(key);
    return response === undefined ? null : new Uint8Array(await response.arrayBuffer());
  }

  /** Keeps an entry, unless the browser has no room for it: then nothing more of this file is kept. */
  async keep(key: string, bytes: Bytes): Promise<void> {
    if (this.#full) return;
    try {
      await this.cache.put(key, new Response(bytes));
    } catch {
      this.#full = true;
    }
  }
}
