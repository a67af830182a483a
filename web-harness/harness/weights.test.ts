import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Bytes } from '../protocol/frame.ts';
import { fetchFiles, PIECE } from './weights.ts';

const MIB = 1024 * 1024;

/** Two pieces and a bit, no two MiB alike. */
const FILE = Uint8Array.from({ length: 2 * PIECE + 5 }, (_, i) => (i >> 20) + i);
const SMALL = Uint8Array.of(1, 2, 3);

const stored = new Map<string, Bytes>();
const asked: string[] = [];

function hash(bytes: Bytes): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function flip(bytes: Bytes | undefined, at: number): void {
  if (bytes === undefined) throw new Error('nothing was kept');
  bytes.fill((bytes[at] ?? 0) ^ 1, at, at + 1);
}

function leavesOf(...files: Bytes[]): Bytes {
  const leaves = files.flatMap((file) =>
    Array.from({ length: Math.max(1, Math.ceil(file.length / MIB)) }, (_, i) => hash(file.subarray(i * MIB, (i + 1) * MIB))),
  );
  return new Uint8Array(Buffer.concat(leaves));
}

function fetchOf(file: Bytes): { url: string; digest: string; bytes: number } {
  const digest = hash(file).toString('hex');
  return { url: `/m/${digest}`, digest, bytes: file.length };
}

/** A server of these files that answers ranges. */
function serve(...files: Bytes[]): void {
  const byUrl = new Map(files.map((file) => [fetchOf(file).url, file]));
  vi.stubGlobal('fetch', (url: string, { headers }: { headers: { range: string } }) => {
    asked.push(headers.range);
    const [from, to] = headers.range.slice('bytes='.length).split('-').map(Number) as [number, number];
    const file = byUrl.get(url);
    if (file === undefined) return Promise.resolve(new Response('', { status: 404, statusText: 'Not Found' }));
    return Promise.resolve(new Response(file.slice(from, to + 1), { status: 206 }));
  });
}

/** A browser's Cache Storage and Web Locks, as far as they are used. */
function withCache(): void {
  const cacheIn = (entries: Map<string, Bytes>): object => ({
    match: (key: string) => Promise.resolve(entries.has(key) ? new Response(entries.get(key)) : undefined),
    put: async (key: string, response: Response) => {
      entries.set(key, new Uint8Array(await response.arrayBuffer()));
    },
    delete: ({ url }: { url: string }) => Promise.resolve(entries.delete(url)),
    keys: () => Promise.resolve([...entries.keys()].map((url) => ({ url }))),
  });
  const open = (name: string): object => cacheIn(name === 'weft-weights' ? stored : trial);
  const trial = new Map<string, Bytes>();
  vi.stubGlobal('caches', { open: (name: string) => Promise.resolve(open(name)), delete: () => Promise.resolve(true) });
  vi.stubGlobal('navigator', { locks: { request: (_name: string, work: () => Promise<void>) => work() } });
}

beforeEach(() => {
  vi.resetModules();
  stored.clear();
  asked.length = 0;
});

afterEach(() => {
  vi.unstubAllGlobals();
});

/** Anew, since what a browser has is tried once. */
async function load(files: Bytes[], leaves = leavesOf(...files)): ReturnType<typeof fetchFiles> {
  vi.resetModules();
  const weights = await import('./weights.ts');
  return weights.fetchFiles(files.map(fetchOf), leaves);
}

describe('fetchFiles', () => {
  it('brings files in pieces', async () => {
    serve(FILE, SMALL);
    const { files, bytes } = await load([FILE, SMALL]);
    expect(files.map(({ digest, data }) => hash(data).toString('hex') === digest)).toEqual([true, true]);
    expect(bytes).toEqual({ network: FILE.length + SMALL.length, cache: 0 });
    const last = FILE.length - 1;
    expect(asked.sort()).toEqual(
      [`bytes=0-${PIECE - 1}`, `bytes=${PIECE}-${2 * PIECE - 1}`, `bytes=${2 * PIECE}-${last}`, 'bytes=0-2'].sort(),
    );
  });

  it('takes an empty file as one leaf without bytes', async () => {
    serve();
    const { files, bytes } = await load([new Uint8Array()]);
    expect([files[0]?.data.length, bytes.network, asked.length]).toEqual([0, 0, 0]);
  });

  it('fetches nothing again that the browser has kept', async () => {
    withCache();
    serve(FILE);
    await load([FILE]);
    const first = asked.splice(0).length;
    const { files, bytes } = await load([FILE]);
    expect([first, asked.length]).toEqual([3, 0]);
    expect(bytes).toEqual({ network: 0, cache: FILE.length });
    expect(files.map(({ data }) => hash(data))).toEqual([hash(FILE)]);
  });

  it('fetches again only the piece that was damaged in the cache', async () => {
    withCache();
    serve(FILE);
    await load([FILE]);
    asked.length = 0;
    const key = `${fetchOf(FILE).url}?from=${PIECE}`;
    flip(stored.get(key), MIB + 7);
    const { files, bytes } = await load([FILE]);
    expect(asked).toEqual([`bytes=${PIECE}-${2 * PIECE - 1}`]);
    expect(bytes).toEqual({ network: PIECE, cache: FILE.length - PIECE });
    expect(files.map(({ data }) => hash(data))).toEqual([hash(FILE)]);
    expect(hash(stored.get(key) ?? new Uint8Array())).toEqual(hash(FILE.subarray(PIECE, 2 * PIECE)));
  });

  it('names the MiB that came changed', async () => {
    serve(FILE);
    const leaves = leavesOf(FILE);
    flip(leaves, 9 * 32);
    await expect(load([FILE], leaves)).rejects.toThrow(/came changed: the SHA-256 of its MiB 9 is another/);
  });

  it('says what the server answered instead', async () => {
    serve();
    await expect(load([SMALL])).rejects.toThrow(/bytes 0 to 3 of the file [0-9a-f]{64} answered 404 Not Found/);
  });

  it('refuses what no buffer can hold before anything is fetched', async () => {
    serve();
    const huge = { url: '/m', digest: 'd', bytes: 2 ** 53 - 1 };
    await expect(fetchFiles([huge], new Uint8Array())).rejects.toMatchObject({ code: 'too_large', retry: 'elsewhere' });
    expect(asked).toEqual([]);
  });

  it('makes room by forgetting what was kept first', async () => {
    withCache();
    for (let i = 0; i < 511; i += 1) stored.set(`/m/old${i}?from=0`, SMALL);
    serve(FILE);
    await load([FILE]);
    const kept = [...stored.keys()].filter((key) => key.includes('old'));
    expect([stored.size, kept.length, kept[0]]).toEqual([512, 509, '/m/old2?from=0']);
  });
});
