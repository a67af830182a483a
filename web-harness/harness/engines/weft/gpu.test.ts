import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Bytes } from '../../../protocol/frame.ts';
import { GpuExecutor, sharedWeights, wordsOf } from './gpu.ts';
import { fillBytes, type GpuProgram, isRaw } from './program.ts';

interface FakeBuffer {
  readonly size: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  destroyed: boolean;
}

/** A device that keeps what is written to it and computes nothing; each run leaves `fault` in its word. */
class FakeDevice {
  readonly buffers: FakeBuffer[] = [];
  readonly dispatches: unknown[] = [];
  fault = 0;
  compiled = 0;
  /** What the scopes report, once. */
  error: GPUError | null = null;
  broken: string | null = null;

  pushErrorScope(): void {
    // Scopes are counted by nobody.
  }

  popErrorScope(): Promise<GPUError | null> {
    const { error } = this;
    this.error = null;
    return Promise.resolve(error);
  }

  createBuffer({ size }: { size: number }): FakeBuffer & object {
    const bytes = new Uint8Array(size);
    const buffer = {
      size,
      bytes,
      destroyed: false,
      destroy: (): void => {
        buffer.destroyed = true;
      },
      mapAsync: () => Promise.resolve(),
      getMappedRange: (from: number, length: number) => bytes.buffer.slice(from, from + length),
      unmap: () => undefined,
    };
    this.buffers.push(buffer);
    return buffer;
  }

  createShaderModule(): object {
    const messages = [
      { type: 'warning', lineNum: 1, linePos: 1, message: 'mind this' },
      { type: 'error', lineNum: 3, linePos: 7, message: 'unknown word' },
    ];
    return { getCompilationInfo: () => Promise.resolve({ messages }) };
  }

  createComputePipelineAsync(): Promise<object> {
    this.compiled += 1;
    if (this.broken !== null) return Promise.reject(new Error(this.broken));
    return Promise.resolve({ getBindGroupLayout: () => ({}) });
  }

  createBindGroup({ entries }: { entries: unknown }): unknown {
    return entries;
  }

  createCommandEncoder(): object {
    return {
      clearBuffer: (buffer: FakeBuffer) => buffer.bytes.fill(0),
      beginComputePass: () => ({
        setPipeline: () => undefined,
        setBindGroup: () => undefined,
        dispatchWorkgroups: (...groups: number[]) => this.dispatches.push(groups),
        end: () => undefined,
      }),
      copyBufferToBuffer: (from: FakeBuffer, start: number, to: FakeBuffer, at: number, length: number) => {
        to.bytes.set(from.bytes.subarray(start, start + length), at);
        if (at === 0) to.bytes[0] = this.fault;
      },
      finish: () => ({}),
    };
  }

  readonly queue = {
    submit: () => undefined,
    onSubmittedWorkDone: () => Promise.resolve(),
    writeBuffer: (buffer: FakeBuffer, offset: number, values: ArrayBufferView<ArrayBuffer>, start = 0, length?: number) => {
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      buffer.bytes.set(bytes.subarray(start, length === undefined ? bytes.length : start + length), offset);
    },
  };

  /** How many bytes of buffers there are. */
  get live(): number {
    return this.buffers.reduce((sum, { size, destroyed }) => sum + (destroyed ? 0 : size), 0);
  }
}

/** From `x` by a weight of the file and one of the block to `y`, which is where `x` was written. */
function program(change: Partial<GpuProgram> = {}): string {
  const whole: GpuProgram = {
    kept: null,
    buffers: [8, 8, 4, 4],
    fills: [
      { buffer: 1, datatype: 'FP16', elements: 2, source: { file: { name: 'd', offset: 1 } } },
      { buffer: 2, datatype: 'UINT8', elements: 3, source: { block: { offset: 16 } } },
    ],
    inputs: [{ name: 'x', datatype: 'FP32', shape: [2], buffer: 0 }],
    outputs: [
      { name: 'y', datatype: 'FP32', shape: [2], buffer: 0 },
      { name: 'none', datatype: 'FP32', shape: [0], buffer: null },
      { name: 'w', datatype: 'FP32', shape: [2], buffer: 1 },
    ],
    modules: ['// map\nfn main() {}'],
    pipelines: [{ module: 0, entry: 'main', constants: {} }],
    uniforms: 16,
    once: [],
    calls: [{ pipeline: 0, uniform: 0, uniform_bytes: 16, buffers: [1, 0], groups: [3, 1, 1] }],
    fault: 3,
    ...change,
  };
  return JSON.stringify(whole);
}

const FILE = Uint8Array.of(9, 0x00, 0x3c, 0x00, 0xc0, 9);
const BLOCK: Bytes = Uint8Array.from({ length: 20 }, (_, i) => i);

let device: FakeDevice;

function session(): ReturnType<GpuExecutor['open']> {
  return new GpuExecutor(device as unknown as GPUDevice).open(new Map([['d', FILE]]));
}

beforeEach(() => {
  device = new FakeDevice();
  vi.stubGlobal('GPUBufferUsage', { STORAGE: 1, COPY_DST: 2, COPY_SRC: 4, UNIFORM: 8, MAP_READ: 16 });
  vi.stubGlobal('GPUMapMode', { READ: 1 });
  vi.stubGlobal('GPUOutOfMemoryError', class OutOfMemory extends Error {});
});

describe('GpuExecutor', () => {
  it('fills buffers, follows the calls and reads what is wanted', async () => {
    const run = await session().add(program(), BLOCK);
    const x = new Map([['x', Float32Array.of(5, 6)]]);
    const read = await run.run(x, [0, 1, 2]);
    expect(read.map((bytes) => [...new Float32Array(bytes.buffer)])).toEqual([[5, 6], [], [1, -2]]);
    expect(device.dispatches).toEqual([[3, 1, 1]]);
    // Weights of few bits lie as they came, filled up to a word.
    expect([...(device.buffers[2]?.bytes ?? [])].slice(0, 4)).toEqual([16, 17, 18, 0]);
  });

  it('brings a weight once for all programs of a session', async () => {
    const programs = session();
    const first = await programs.add(program(), BLOCK);
    const alone = device.live;
    const second = await programs.add(program(), BLOCK);
    expect(device.live - alone).toBe(alone - 8);
    expect(device.compiled).toBe(1);
    first.end();
    expect(device.live).toBe(alone);
    expect(await second.run(new Map([['x', Float32Array.of(5, 6)]]), [2])).toEqual([
      new Uint8Array(Float32Array.of(1, -2).buffer),
    ]);
    second.end();
    expect(device.live).toBe(8);
    programs.close();
    expect(device.live).toBe(0);
  });

  it('computes what stays when a program comes', async () => {
    const once = [{ pipeline: 0, uniform: 0, uniform_bytes: 16, buffers: [2, 1], groups: [7, 1, 1] as const }];
    const run = await session().add(program({ once }), BLOCK);
    expect(device.dispatches).toEqual([[7, 1, 1]]);
    await run.run(new Map([['x', Float32Array.of(5, 6)]]), []);
    expect(device.dispatches).toEqual([[7, 1, 1], [3, 1, 1]]);
  });

  it('says what a kernel could not compute, and goes on', async () => {
    const run = await session().add(program(), BLOCK);
    const x = new Map([['x', Float32Array.of(5, 6)]]);
    device.fault = 1;
    await expect(run.run(x, [0])).rejects.toMatchObject({ code: 'invalid_request', message: 'an index is out of range' });
    device.fault = 0;
    expect(await run.run(x, [0])).toHaveLength(1);
  });

  it('names a kernel that does not compile, keeps nothing of its program, and tries anew', async () => {
    const programs = session();
    device.broken = 'invalid module';
    await expect(programs.add(program(), BLOCK)).rejects.toThrow(
      'the kernel main of "map" does not compile: invalid module; 3:7 unknown word',
    );
    expect(device.live).toBe(0);
    device.broken = null;
    await programs.add(program(), BLOCK);
  });

  it('gives everything back when the device has no room', async () => {
    const programs = session();
    device.error = new GPUOutOfMemoryError('too much');
    await expect(programs.add(program(), BLOCK)).rejects.toMatchObject({ code: 'out_of_memory', retry: 'elsewhere' });
    expect(device.live).toBe(0);
    await programs.add(program(), BLOCK);
  });

  it.each([
    ['a file that the model has not', { name: 'e', offset: 0 }, 'the model has no file e'],
    ['bytes beyond the file', { name: 'd', offset: 3 }, 'the file d has no 4 bytes at 3'],
  ])('refuses %s', async (_case, file, says) => {
    const fills = [{ buffer: 1, datatype: 'FP16', elements: 2, source: { file } }];
    await expect(session().add(program({ fills }), BLOCK)).rejects.toThrow(says);
    expect(device.live).toBe(0);
  });
});

describe('weights', () => {
  const whole = (change: Partial<GpuProgram> = {}): GpuProgram => JSON.parse(program(change)) as GpuProgram;

  it('are shared where they come from a file and nothing writes them', () => {
    expect([...sharedWeights(whole()).keys()]).toEqual([1]);
    const calls = [{ pipeline: 0, uniform: 0, uniform_bytes: 16, buffers: [0, 1], groups: [1, 1, 1] as const }];
    expect(sharedWeights(whole({ calls })).size).toBe(0);
    const inputs = [{ name: 'x', datatype: 'FP32', shape: [2], buffer: 1 }];
    expect(sharedWeights(whole({ inputs })).size).toBe(0);
  });

  it('come in parts', () => {
    const fill = { buffer: 0, datatype: 'INT8', elements: 2 ** 22 + 3, source: { block: { offset: 0 } } };
    const bytes = new Uint8Array(fill.elements).fill(255);
    const parts = [...wordsOf(fill, false, bytes)].map(([offset, words]) => [offset, words.length, words[0]]);
    expect(parts).toEqual([[0, 2 ** 22, -1], [2 ** 24, 3, -1]]);
    const raw = [...wordsOf(fill, true, bytes)].map(([offset, words]) => [offset, words.length]);
    expect(raw).toEqual([[0, 2 ** 22], [2 ** 22, 4]]);
  });

  it('lie as they came where their buffer has no room for words', () => {
    const fill = { buffer: 0, datatype: 'UINT8', elements: 6, source: { block: { offset: 2 } } };
    expect(isRaw(fill, [8])).toBe(true);
    expect(isRaw(fill, [24])).toBe(false);
    expect([...fillBytes(fill, BLOCK, new Map())]).toEqual([2, 3, 4, 5, 6, 7]);
  });
});
