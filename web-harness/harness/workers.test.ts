import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { LaneStart, LaneWord } from './laneworker.ts';
import { holdLifeline } from './lifeline.ts';
import { Workers } from './workers.ts';

/** Web Locks as the standard has them, as far as a lifeline needs: exclusive, in order, with signals. */
class FakeLocks {
  readonly #tails = new Map<string, Promise<unknown>>();
  /** Ends the holders of locks in the order in which they asked, as the end of their Workers does. */
  readonly ends: (() => void)[] = [];

  request(name: string, ...rest: unknown[]): Promise<unknown> {
    const held = rest.pop() as () => unknown;
    const { signal } = (rest[0] ?? {}) as { signal?: AbortSignal };
    const before = this.#tails.get(name) ?? Promise.resolve();
    const ended = new Promise<void>((resolve) => {
      this.ends.push(resolve);
    });
    const aborted = new Promise((_, reject) => {
      signal?.addEventListener('abort', () => {
        reject(signal.reason as Error);
      });
    });
    const mine = Promise.race([before.then(() => Promise.race([held(), ended])), aborted]);
    const tail = mine.catch(() => undefined);
    this.#tails.set(name, tail);
    return mine;
  }
}

class FakeWorker {
  onmessage: ((event: { data: LaneWord }) => void) | null = null;
  onerror: ((event: { message: string }) => void) | null = null;
  terminated = 0;
  started: unknown = null;

  postMessage(start: unknown): void {
    this.started = start;
  }

  terminate(): void {
    this.terminated += 1;
  }
}

const START = { ticket: 't', epoch: 1, backend: 'wasm', threads: 1, webnnDevice: null, memoryMax: 2 ** 32 } as unknown as LaneStart;

let locks = new FakeLocks();
const exits: unknown[] = [];

function page(): { workers: Workers; worker: FakeWorker } {
  const worker = new FakeWorker();
  const workers = new Workers(
    () => worker as unknown as Worker,
    (lane, message) => exits.push([lane, message]),
  );
  workers.start('a', START);
  return { workers, worker };
}

async function settle(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0);
}

beforeEach(() => {
  vi.useFakeTimers();
  exits.length = 0;
  locks = new FakeLocks();
  vi.stubGlobal('navigator', { locks });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a lane's Worker", () => {
  it('that ends without a word is missed at once', async () => {
    const { worker } = page();
    expect(worker.started).toBe(START);
    await holdLifeline('t');
    worker.onmessage?.({ data: { begun: true } });
    await settle();
    expect(exits).toEqual([]);
    locks.ends[0]?.();
    await settle();
    expect([exits, worker.terminated]).toEqual([[['a', 'the Worker ended by itself']], 1]);
  });

  it('that never begins is given up', async () => {
    const { worker } = page();
    await vi.advanceTimersByTimeAsync(59_999);
    expect(exits).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect([exits, worker.terminated]).toEqual([[['a', 'the Worker did not begin within 60 s']], 1]);
  });

  it('may take its time once it has begun', async () => {
    const { worker } = page();
    await holdLifeline('t');
    worker.onmessage?.({ data: { begun: true } });
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(exits).toEqual([]);
  });

  it.each([
    ['a reason', (worker: FakeWorker) => worker.onmessage?.({ data: { reason: 'lost' } }), 'lost'],
    ['an error', (worker: FakeWorker) => worker.onerror?.({ message: 'oops' }), 'oops'],
    ['an error without a text', (worker: FakeWorker) => worker.onerror?.({ message: '' }), 'the Worker could not be loaded'],
  ])('that ends with %s is told once', async (_what, end, message) => {
    const { workers, worker } = page();
    await holdLifeline('t');
    worker.onmessage?.({ data: { begun: true } });
    end(worker);
    end(worker);
    workers.end('a', 'stopped');
    await vi.advanceTimersByTimeAsync(120_000);
    expect([exits, worker.terminated]).toEqual([[['a', message]], 1]);
  });

  it('is not started twice under one name', () => {
    const { workers, worker } = page();
    workers.start('a', START);
    expect([exits, worker.terminated]).toEqual([[['a', 'a lane of this name runs already']], 0]);
  });

  it('ends without a word when the page does', async () => {
    const { workers, worker } = page();
    workers.endAll();
    await vi.advanceTimersByTimeAsync(120_000);
    expect([exits, worker.terminated]).toEqual([[], 1]);
  });

  it('runs where there are no Web Locks', async () => {
    vi.stubGlobal('navigator', {});
    const { worker } = page();
    await holdLifeline('t');
    worker.onmessage?.({ data: { begun: true } });
    await vi.advanceTimersByTimeAsync(120_000);
    expect(exits).toEqual([]);
  });
});
