import { afterEach, beforeEach, expect, it, vi } from 'vitest';

interface Trial {
  put?: () => Promise<void>;
  kept?: Response;
}

/** A browser with Web Locks and a Cache Storage that does this. */
function browser({ put = () => Promise.resolve(), kept }: Trial): void {
  const cache = { put, match: () => Promise.resolve(kept), keys: () => Promise.resolve([]), delete: () => Promise.resolve(true) };
  vi.stubGlobal('navigator', { locks: {} });
  vi.stubGlobal('caches', { open: () => Promise.resolve(cache), delete: () => Promise.resolve(true) });
}

/** Anew, since a page tries its browser once. */
const fresh = () => import('./weightscache.ts');

beforeEach(() => {
  vi.resetModules();
});

afterEach(() => {
  vi.unstubAllGlobals();
});

it.each<[string, () => void, string | null]>([
  ['keeps what it is given', () => { browser({ kept: new Response(Uint8Array.of(1)) }); }, null],
  ['gives nothing back', () => { browser({}); }, 'its Cache Storage gave nothing back'],
  ['gives something else back', () => { browser({ kept: new Response(Uint8Array.of(1, 2)) }); }, 'its Cache Storage gave nothing back'],
  ['refuses', () => { browser({ put: () => Promise.reject(new Error('quota exceeded')) }); }, 'quota exceeded'],
  ['has no Cache Storage', () => vi.stubGlobal('navigator', { locks: {} }), 'it has no Cache Storage'],
  [
    'has no Web Locks',
    () => {
      browser({});
      vi.stubGlobal('navigator', {});
    },
    'it has no Web Locks',
  ],
])('says why a browser that %s keeps no weights', async (_, stand, fault) => {
  stand();
  const { cacheFault, openCache } = await fresh();
  expect(await cacheFault()).toBe(fault);
  expect((await openCache()) === null).toBe(fault !== null);
});

it('keeps nothing more of a file once the browser has no room', async () => {
  let puts = 0;
  const put = () => {
    puts += 1;
    return puts === 1 ? Promise.resolve() : Promise.reject(new Error('quota exceeded'));
  };
  browser({ put, kept: new Response(Uint8Array.of(1)) });
  const cache = await (await fresh()).openCache();
  await cache?.keep('a', Uint8Array.of(1));
  await cache?.keep('b', Uint8Array.of(1));
  expect(puts).toBe(2);
});
