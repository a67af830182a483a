/**
 * What a lane's Worker holds: the engine's WASM heap, and the buffers and textures of its WebGPU device.
 * It owns the counting and never frees anything.
 */

import type { LaneMemory } from '../protocol/messages.ts';

/**
 * Growth that is worth a message of its own after a step.
 * The engine's heap grows by a fifth at a time, so a lane that computes reports a few times in its life.
 */
const REPORT_STEP = 16 * 1024 * 1024;

const PAGE_BYTES = 64 * 1024;

/** Every memory that was made in this Worker since {@link seeWasm}. The engine makes one and keeps it. */
const memories: WebAssembly.Memory[] = [];

/** The highest maximum that one of them was made with. */
let most = 0;

let gpu: GpuTally | null = null;

/** Bytes that our own engine keeps beside its device. */
let kept = 0;

/** Takes note of what our own engine keeps from now on, or lets go. */
export function hold(bytes: number): void {
  kept += bytes;
}

/**
 * Sees every `WebAssembly.Memory` made from now on, and has it made with no higher maximum than this: the engine makes
 * its heap itself and shows it to nobody, and the browser lets no memory grow beyond its maximum.
 * To be called before the engine is imported.
 */
export function seeWasm(limit: number): void {
  const pages = Math.floor(limit / PAGE_BYTES);
  WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct(make, [asked]: [WebAssembly.MemoryDescriptor], target) {
      const maximum = Math.min(asked.maximum ?? pages, pages);
      const memory = Reflect.construct(make, [{ ...asked, maximum }], target) as WebAssembly.Memory;
      memories.push(memory);
      most = Math.max(most, maximum * PAGE_BYTES);
      return memory;
    },
  });
}

/** Counts what is made on a device from now on. */
export function seeGpu(device: GPUDevice): void {
  gpu = new GpuTally();
  gpu.see(device);
}

/** The bytes that are held now; a heap's length includes every growth of it. */
export function laneMemory(): LaneMemory {
  let wasm = kept;
  for (const memory of memories) wasm += memory.buffer.byteLength;
  return { wasm_bytes: wasm, gpu_bytes: gpu?.bytes ?? 0 };
}

/** The bytes that the heap can grow to. */
export function heapMax(): number {
  return most;
}

/** Tells when a report is due, and what grew meanwhile. */
export class MemoryMeter {
  #told: LaneMemory | null = null;

  constructor(private readonly read: () => LaneMemory = laneMemory) {}

  /** What to report after a step: nothing unless it differs by much. */
  afterStep(): LaneMemory | null {
    return this.#since(REPORT_STEP);
  }

  /** What to report around a load: nothing only where nothing changed. */
  exact(): LaneMemory | null {
    return this.#since(1);
  }

  #since(step: number): LaneMemory | null {
    const now = this.read();
    const told = this.#told;
    const differs = (key: keyof LaneMemory): boolean => told === null || Math.abs(now[key] - told[key]) >= step;
    if (!differs('wasm_bytes') && !differs('gpu_bytes')) return null;
    this.#told = now;
    return now;
  }
}

/** By how much memory grew; what shrank meanwhile counts as nothing. */
export function growth(before: LaneMemory, after: LaneMemory): LaneMemory {
  return {
    wasm_bytes: Math.max(0, after.wasm_bytes - before.wasm_bytes),
    gpu_bytes: Math.max(0, after.gpu_bytes - before.gpu_bytes),
  };
}

type Held = GPUBuffer | GPUTexture;

/**
 * The live bytes of one device's buffers and textures, as they were asked for.
 * What is never destroyed counts until it is collected.
 */
export class GpuTally {
  #bytes = 0;
  readonly #sizes = new WeakMap<Held, number>();
  readonly #collected = new FinalizationRegistry<number>((bytes) => {
    this.#bytes -= bytes;
  });

  get bytes(): number {
    return this.#bytes;
  }

  see(device: GPUDevice): void {
    const createBuffer = device.createBuffer.bind(device);
    const createTexture = device.createTexture.bind(device);
    device.createBuffer = (descriptor) => this.#hold(createBuffer(descriptor), descriptor.size);
    device.createTexture = (descriptor) => {
      const texture = createTexture(descriptor);
      return this.#hold(texture, textureBytes(texture));
    };
  }

  #hold<T extends Held>(held: T, bytes: number): T {
    this.#bytes += bytes;
    this.#sizes.set(held, bytes);
    // The object itself is the token, so that what was destroyed is not subtracted again.
    this.#collected.register(held, bytes, held);
    const destroy = held.destroy.bind(held);
    held.destroy = (): undefined => {
      this.#release(held);
      destroy();
    };
    return held;
  }

  #release(held: Held): void {
    const bytes = this.#sizes.get(held);
    // A second destroy of the same object frees nothing.
    if (bytes === undefined) return;
    this.#sizes.delete(held);
    this.#collected.unregister(held);
    this.#bytes -= bytes;
  }
}

type TextureShape = Pick<
  GPUTexture,
  'format' | 'width' | 'height' | 'depthOrArrayLayers' | 'mipLevelCount' | 'sampleCount' | 'dimension'
>;

export function textureBytes(texture: TextureShape): number {
  const { format, dimension, sampleCount } = texture;
  let texels = 0;
  for (let level = 0; level < texture.mipLevelCount; level += 1) {
    const at = (size: number): number => Math.max(1, size >> level);
    const depth = dimension === '3d' ? at(texture.depthOrArrayLayers) : texture.depthOrArrayLayers;
    texels += at(texture.width) * at(texture.height) * depth;
  }
  return texels * sampleCount * texelBytes(format);
}

/** Formats that pack several channels into one word. */
const PACKED = /^(rgb10a2|rg11b10|rgb9e5|depth24plus|depth32float)/;

/** An uncompressed texel's size from its format's name; compressed ones take at most one byte. */
function texelBytes(format: string): number {
  if (PACKED.test(format)) return 4;
  const plain = /^(rgba|bgra|rg|r)(8|16|32)/.exec(format);
  if (plain !== null) return ((plain[1]?.length ?? 1) * Number(plain[2])) / 8;
  return format.startsWith('depth16') ? 2 : 1;
}
