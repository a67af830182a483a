import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { decodeFrame, type JsonObject } from '../protocol/frame.ts';
import type { BoundStep, Engine, StartedEngine } from './engines/engine.ts';
import { FakeSocket, frameOf } from './fakesocket.ts';
import type * as Memory from './memory.ts';

/** An engine whose runs end when the test says so. */
class FakeEngine implements Engine {
  readonly runs: { session: string; end: (error?: Error) => void }[] = [];

  /** What each load takes of the heap. */
  grows = 0;

  /** Sessions that were loaded, in that order. */
  readonly loads: string[] = [];

  checkRoom(): void {
    // There is room for everything.
  }

  load(session: string): ReturnType<Engine['load']> {
    this.loads.push(session);
    heap.wasm_bytes += this.grows;
    return Promise.resolve({ placement: { wasm: 1 }, inputs: [], outputs: [] });
  }

  unload(session: string): Promise<void> {
    return session === 's' ? Promise.resolve() : Promise.reject(new Error('not loaded'));
  }

  /** The answer of each step, instead of its body. */
  answer: Uint8Array<ArrayBuffer> | null = null;

  /** Programs that came, with how many bytes. */
  readonly programs: [program: number, bytes: number][] = [];

  program({ program }: { program: number }, body: Uint8Array<ArrayBuffer>): Promise<void> {
    this.programs.push([program, body.length]);
    heap.gpu_bytes += this.grows;
    return Promise.resolve();
  }

  bind({ session }: { session: string }, body: Uint8Array<ArrayBuffer>): BoundStep {
    const bytes = this.answer ?? body;
    const outputs = () => [{ name: 'y', datatype: 'UINT8', shape: [bytes.length], bytes }];
    return {
      run: () =>
        new Promise((resolve, reject) => {
          const end = (error?: Error): void => {
            if (error === undefined) resolve({ outputs });
            else reject(error);
          };
          this.runs.push({ session, end });
        }),
    };
  }
}

const starting = vi.hoisted(() => ({
  begin: null as (() => Promise<StartedEngine>) | null,
  died: null as ((reason: string) => void) | null,
}));

vi.mock('./engines/onnxruntime.ts', () => ({
  startOnnxRuntime: (_assets: unknown, _wish: unknown, died: (reason: string) => void) => {
    starting.died = died;
    return starting.begin?.();
  },
}));

const heap = vi.hoisted(() => ({ wasm_bytes: 0, gpu_bytes: 0 }));

vi.mock('./memory.ts', async (original) => {
  const real = await original<typeof Memory>();
  const read = (): typeof heap => ({ ...heap });
  return {
    ...real,
    laneMemory: read,
    MemoryMeter: class extends real.MemoryMeter {
      constructor() {
        super(read);
      }
    },
  };
});

vi.mock('./weights.ts', () => ({
  fetchFiles: () => Promise.resolve({ files: [{ digest: 'd', data: new Uint8Array() }], bytes: { network: 0, cache: 0 } }),
  digestsOf: () => 0,
}));

const CAPABILITY: StartedEngine['capability'] = {
  backend: 'wasm',
  engine: 'fake',
  threads: 1,
  adapter: null,
  features: null,
  limits: null,
  webnn: null,
  webnn_device: null,
  memory_max: 2 ** 32,
  timing_us: { import: 0, init: 0 },
};

const posted: unknown[] = [];

async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** Starts a lane as the page does and answers its socket, before any welcome. */
async function dial(): Promise<FakeSocket> {
  vi.resetModules();
  let start: ((event: { data: object }) => void) | undefined;
  vi.stubGlobal('addEventListener', (_type: string, listener: typeof start) => (start = listener));
  await import('./lane.ts');
  start?.({ data: { ticket: 't', epoch: 1, backend: 'wasm', threads: 1, webnnDevice: null, memoryMax: 2 ** 32, assets: {} } });
  await settle();
  const socket = FakeSocket.last;
  if (socket === null) throw new Error('no socket was made');
  socket.onopen?.();
  return socket;
}

async function welcomed(engine: () => Promise<StartedEngine>): Promise<FakeSocket> {
  starting.begin = engine;
  const socket = await dial();
  socket.onmessage?.({ data: '{"type":"welcome"}' });
  await settle();
  return socket;
}

function step(id: number): ArrayBuffer {
  return frameOf({ type: 'step', id, session: 's', inputs: [], outputs: [] }, [Uint8Array.of(id)]);
}

/** What the lane has sent since the last call. */
function sent(socket: FakeSocket): JsonObject[] {
  return socket.sent
    .splice(0)
    .map((message) =>
      typeof message === 'string' ? (JSON.parse(message) as JsonObject) : decodeFrame(message as ArrayBuffer).header,
    );
}

beforeEach(() => {
  posted.length = 0;
  Object.assign(heap, { wasm_bytes: 1000, gpu_bytes: 0 });
  vi.stubGlobal('navigator', {});
  vi.stubGlobal('WebSocket', FakeSocket);
  vi.stubGlobal('location', { origin: 'http://127.0.0.1:9' });
  vi.stubGlobal('postMessage', (message: unknown) => posted.push(message));
});

afterEach(() => {
  vi.unstubAllGlobals();
});

describe('a lane', () => {
  const engineOf = async (): Promise<{ engine: FakeEngine; socket: FakeSocket }> => {
    const engine = new FakeEngine();
    const socket = await welcomed(() => Promise.resolve({ engine, capability: CAPABILITY }));
    expect(sent(socket).slice(-2)).toEqual([
      { type: 'lane_ready', capability: CAPABILITY },
      { type: 'memory', wasm_bytes: 1000, gpu_bytes: 0 },
    ]);
    return { engine, socket };
  };

  it('says why its backend is unavailable, and ends', async () => {
    const socket = await welcomed(() => Promise.reject(new Error('no adapter')));
    expect(sent(socket).at(-1)).toEqual({ type: 'lane_unavailable', reason: 'no adapter', no_adapter: false });
    expect(socket.closedWith).toEqual([1000, 'no adapter']);
    socket.onclose?.({ code: 1000, reason: 'no adapter' });
    expect(posted).toEqual([{ begun: true }, { reason: 'no adapter' }]);
  });

  it('tells the page when the daemon refuses its link', async () => {
    const socket = await dial();
    socket.onclose?.({ code: 4401, reason: 'used ticket' });
    await settle();
    expect(posted).toEqual([{ begun: true }, { reason: 'the link closed with 4401: used ticket' }]);
  });

  it('computes one step at a time, in order, and answers each', async () => {
    const { engine, socket } = await engineOf();
    for (const id of [1, 2]) socket.onmessage?.({ data: step(id) });
    await settle();
    expect(engine.runs.length).toBe(1);
    engine.runs[0]?.end();
    await settle();
    expect(engine.runs.length).toBe(2);
    const [result] = sent(socket);
    expect(result).toMatchObject({ type: 'result', id: 1, outputs: [{ parameters: { binary_data_size: 1 } }] });
    engine.runs[1]?.end(new Error('ERROR_CODE: 2, bad shape'));
    await settle();
    expect(sent(socket)).toMatchObject([{ type: 'failed', id: 2, code: 'invalid_request', retry: 'never' }]);
  });

  it('drops a waiting step, discards a running one, and answers both once', async () => {
    const { engine, socket } = await engineOf();
    for (const id of [1, 2, 3]) socket.onmessage?.({ data: step(id) });
    await settle();
    socket.onmessage?.({ data: '{"type":"cancel","id":2}' });
    socket.onmessage?.({ data: '{"type":"cancel","id":1}' });
    socket.onmessage?.({ data: '{"type":"cancel","id":77}' });
    expect(sent(socket)).toMatchObject([{ type: 'failed', id: 2, code: 'cancelled' }]);
    engine.runs[0]?.end();
    await settle();
    expect(sent(socket)).toMatchObject([{ type: 'failed', id: 1, code: 'cancelled' }]);
    engine.runs[1]?.end();
    await settle();
    expect(sent(socket)).toMatchObject([{ type: 'result', id: 3 }]);
    expect(engine.runs.length).toBe(2);
  });

  it('answers a message that it cannot take when it knows the id, else closes', async () => {
    const { socket } = await engineOf();
    socket.onmessage?.({ data: '{"type":"unload","id":4}' });
    socket.onmessage?.({ data: '{"type":"unload","id":5,"session":"other"}' });
    socket.onmessage?.({ data: '{"type":"unload","id":6,"session":"s"}' });
    await settle();
    expect(sent(socket)).toMatchObject([
      { type: 'failed', id: 4, code: 'invalid_request', message: 'session is not a string' },
      { type: 'failed', id: 5, code: 'internal', message: 'not loaded' },
      { type: 'unloaded', id: 6 },
    ]);
    socket.onmessage?.({ data: '{"type":"unload"}' });
    expect(socket.closedWith?.[0]).toBe(4422);
  });

  it('ends after its answer when the engine trapped, and starts nothing more', async () => {
    const { engine, socket } = await engineOf();
    for (const id of [1, 2]) socket.onmessage?.({ data: step(id) });
    await settle();
    engine.runs[0]?.end(new WebAssembly.RuntimeError('unreachable'));
    await settle();
    expect(sent(socket)).toMatchObject([{ type: 'failed', id: 1, code: 'internal', retry: 'elsewhere' }]);
    expect(socket.closedWith).toEqual([1000, 'the engine stopped: unreachable']);
    expect(engine.runs.length).toBe(1);
  });

  it('ends when its device is lost', async () => {
    const { socket } = await engineOf();
    starting.died?.('the WebGPU device was lost');
    expect(socket.closedWith).toEqual([1000, 'the WebGPU device was lost']);
    socket.onclose?.({ code: 1000, reason: '' });
    expect(posted).toEqual([{ begun: true }, { reason: 'the WebGPU device was lost' }]);
  });

  it('says what it holds before it answers a load, and what the load took', async () => {
    const { engine, socket } = await engineOf();
    engine.grows = 24;
    const model = { digest: 'd', graph_bytes: 0, files: [{ url: '/m', digest: 'd', bytes: 1 }] };
    socket.onmessage?.({ data: JSON.stringify({ type: 'load', id: 1, session: 's', model, free_dimensions: {} }) });
    await settle();
    expect(sent(socket)).toMatchObject([
      { type: 'memory', wasm_bytes: 1024, gpu_bytes: 0 },
      { type: 'loaded', id: 1, grown: { wasm_bytes: 24, gpu_bytes: 0 } },
    ]);
  });

  it('answers for a session that it holds already, and loads what differs', async () => {
    const { engine, socket } = await engineOf();
    engine.grows = 24;
    let id = 0;
    const load = async (digest: string, free_dimensions: object): Promise<JsonObject | undefined> => {
      const model = { digest, graph_bytes: 0, files: [{ url: `/m/${String(id)}`, digest, bytes: 1 }] };
      socket.onmessage?.({ data: JSON.stringify({ type: 'load', id: (id += 1), session: 's', model, free_dimensions }) });
      await settle();
      return sent(socket).at(-1);
    };
    expect(await load('d', { a: 1, b: 2 })).toMatchObject({ type: 'loaded', id: 1, grown: { wasm_bytes: 24 } });
    expect(await load('d', { b: 2, a: 1 })).toEqual({
      type: 'loaded',
      id: 2,
      placement: { wasm: 1 },
      inputs: [],
      outputs: [],
      timing_us: { fetch: 0, create: 0 },
      fetched_bytes: { network: 0, cache: 0 },
      grown: { wasm_bytes: 0, gpu_bytes: 0 },
    });
    expect(engine.loads.length).toBe(1);
    // The engine itself refuses another model under a name that is taken.
    await load('other', { a: 1, b: 2 });
    await load('d', { a: 1 });
    expect(engine.loads.length).toBe(3);
    socket.onmessage?.({ data: '{"type":"unload","id":9,"session":"s"}' });
    await load('d', { a: 1 });
    expect(engine.loads.length).toBe(4);
  });

  it('makes a program ready in its turn, and says what it took', async () => {
    const { engine, socket } = await engineOf();
    engine.grows = 24;
    socket.onmessage?.({ data: step(1) });
    const order = { type: 'program', id: 2, session: 's', program: 7, drops: [], block_bytes: 1 };
    socket.onmessage?.({ data: frameOf(order, [Uint8Array.of(1, 2, 3)]) });
    await settle();
    expect(engine.programs).toEqual([]);
    engine.runs[0]?.end();
    await settle();
    expect(engine.programs).toEqual([[7, 3]]);
    expect(sent(socket)).toMatchObject([
      { type: 'result', id: 1 },
      { type: 'memory', gpu_bytes: 24 },
      { type: 'programmed', id: 2 },
    ]);
  });

  it('says nothing with a step unless much has changed, and then before its answer', async () => {
    const { engine, socket } = await engineOf();
    for (const [id, growth] of [1, 16 << 20, 1].entries()) {
      socket.onmessage?.({ data: step(id) });
      heap.wasm_bytes += growth;
      engine.runs[id]?.end();
      await settle();
    }
    expect(sent(socket).map(({ type }) => type)).toEqual(['result', 'memory', 'result', 'result']);
  });

  it('refuses an answer that the daemon would not take, and goes on', async () => {
    const { engine, socket } = await engineOf();
    // A length alone: the test needs no gibibyte.
    engine.answer = { length: 2 ** 30 + 1 } as Uint8Array<ArrayBuffer>;
    socket.onmessage?.({ data: step(1) });
    engine.runs[0]?.end();
    await settle();
    expect(sent(socket)).toMatchObject([{ type: 'failed', id: 1, code: 'out_of_memory', retry: 'elsewhere' }]);
    engine.answer = null;
    socket.onmessage?.({ data: step(2) });
    engine.runs[1]?.end();
    await settle();
    expect(sent(socket)).toMatchObject([{ type: 'result', id: 2 }]);
  });
});
