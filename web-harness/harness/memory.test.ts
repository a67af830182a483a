import { afterEach, describe, expect, it, vi } from 'vitest';
import { GpuTally, growth, heapMax, laneMemory, MemoryMeter, seeGpu, seeWasm, textureBytes } from './memory.ts';

const PAGE = 64 * 1024;
const MIB = 1024 * 1024;

/** A device that makes objects with a size and a destroy of their own. */
class FakeDevice {
  destroyed = 0;

  createBuffer(descriptor: { size: number }): object {
    return { size: descriptor.size, destroy: () => void (this.destroyed += 1) };
  }

  createTexture(descriptor: object): object {
    return { ...descriptor, destroy: () => void (this.destroyed += 1) };
  }
}

function tallied(): { device: FakeDevice; gpu: GPUDevice; tally: GpuTally } {
  const device = new FakeDevice();
  const gpu = device as unknown as GPUDevice;
  const tally = new GpuTally();
  tally.see(gpu);
  return { device, gpu, tally };
}

const TEXTURE = {
  format: 'rgba8unorm',
  width: 8,
  height: 4,
  depthOrArrayLayers: 1,
  mipLevelCount: 1,
  sampleCount: 1,
  dimension: '2d',
} as const;

describe('the WASM heap', () => {
  const real = WebAssembly.Memory;
  afterEach(() => {
    WebAssembly.Memory = real;
  });

  it('is seen whoever makes it, and its growth with it', () => {
    const before = laneMemory().wasm_bytes;
    seeWasm(16 * PAGE);
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 8, shared: true });
    expect(memory).toBeInstanceOf(WebAssembly.Memory);
    expect(memory).toBeInstanceOf(real);
    expect(laneMemory().wasm_bytes - before).toBe(2 * PAGE);
    memory.grow(3);
    expect(laneMemory().wasm_bytes - before).toBe(5 * PAGE);
  });

  it.each([
    ['a higher maximum', { initial: 1, maximum: 9 }, 4],
    ['a lower one', { initial: 1, maximum: 2 }, 2],
    ['none', { initial: 1 }, 4],
  ])('ends at what the lane may have where the engine asks for %s', (_name, asked, pages) => {
    seeWasm(4 * PAGE);
    const memory = new WebAssembly.Memory(asked);
    expect(heapMax()).toBeGreaterThanOrEqual(pages * PAGE);
    memory.grow(pages - 1);
    expect(() => memory.grow(1)).toThrow(RangeError);
  });
});

describe('the tally of a device', () => {
  it('counts what lives and passes every call on', () => {
    const { device, gpu, tally } = tallied();
    const buffer = gpu.createBuffer({ size: 100, usage: 0 });
    const texture = gpu.createTexture(TEXTURE as unknown as GPUTextureDescriptor);
    expect(tally.bytes).toBe(100 + 8 * 4 * 4);
    buffer.destroy();
    buffer.destroy();
    expect([tally.bytes, device.destroyed]).toEqual([8 * 4 * 4, 2]);
    texture.destroy();
    expect([tally.bytes, device.destroyed]).toEqual([0, 3]);
  });

  it('gives back what was collected instead of destroyed, and nothing twice', () => {
    const collected: ((bytes: number) => void)[] = [];
    const tokens = new Map<object, number>();
    vi.stubGlobal(
      'FinalizationRegistry',
      class {
        constructor(callback: (bytes: number) => void) {
          collected.push(callback);
        }
        register(target: object, bytes: number, token: object): void {
          expect(target).toBe(token);
          tokens.set(token, bytes);
        }
        unregister(token: object): void {
          tokens.delete(token);
        }
      },
    );
    const { gpu, tally } = tallied();
    gpu.createBuffer({ size: 7, usage: 0 });
    gpu.createBuffer({ size: 5, usage: 0 }).destroy();
    for (const bytes of tokens.values()) collected[0]?.(bytes);
    expect(tally.bytes).toBe(0);
    vi.unstubAllGlobals();
  });

  it('is what a lane reports', () => {
    const gpu = new FakeDevice() as unknown as GPUDevice;
    seeGpu(gpu);
    gpu.createBuffer({ size: 11, usage: 0 });
    expect(laneMemory().gpu_bytes).toBe(11);
  });
});

describe('a texture', () => {
  it.each([
    ['of four bytes a texel', {}, 128],
    ['with its mip levels', { mipLevelCount: 3 }, 128 + 32 + 8],
    ['of several layers', { depthOrArrayLayers: 3 }, 384],
    ['of a depth that shrinks', { depthOrArrayLayers: 4, dimension: '3d', mipLevelCount: 2 }, 512 + 64],
    ['of several samples', { sampleCount: 4 }, 512],
    ['of half floats', { format: 'rg16float' }, 128],
    ['of floats', { format: 'rgba32float' }, 512],
    ['of packed words', { format: 'rgb10a2unorm' }, 128],
    ['of depth', { format: 'depth16unorm' }, 64],
    ['that is compressed', { format: 'bc7-rgba-unorm' }, 32],
  ] as const)('%s is counted', (_what, change, bytes) => {
    expect(textureBytes({ ...TEXTURE, ...change })).toBe(bytes);
  });
});

describe('a report', () => {
  const states = (...wasm: number[]): MemoryMeter => {
    const left = wasm.map((wasm_bytes) => ({ wasm_bytes, gpu_bytes: 0 }));
    return new MemoryMeter(() => left.shift() ?? { wasm_bytes: -1, gpu_bytes: -1 });
  };

  it('comes first, then after a step only when much has changed', () => {
    const meter = states(1, 1 + 15 * MIB, 1 + 16 * MIB, 1 + 17 * MIB, 1);
    const told = [1, 2, 3, 4, 5].map(() => meter.afterStep()?.wasm_bytes);
    expect(told).toEqual([1, undefined, 1 + 16 * MIB, undefined, 1]);
  });

  it('comes around a load whenever anything has changed', () => {
    const meter = states(1, 1, 2);
    expect([meter.exact(), meter.exact(), meter.exact()].map((memory) => memory?.wasm_bytes)).toEqual([1, undefined, 2]);
  });

  it('of growth never counts what shrank', () => {
    const grown = growth({ wasm_bytes: 1, gpu_bytes: 9 }, { wasm_bytes: 5, gpu_bytes: 3 });
    expect(grown).toEqual({ wasm_bytes: 4, gpu_bytes: 0 });
  });
});
