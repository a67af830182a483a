/**
 * What this browser can really do, found by trying it.
 * It owns the feature checks of the page and of a lane and never reads the user agent to decide.
 */

import type { Environment } from '../protocol/messages.ts';
import { cacheFault } from './weightscache.ts';

/** Opens every WebAssembly module: magic and version. */
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** One type `() -> v128`, and one function of it. */
const RETURNS_VECTOR = [0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, 0x03, 0x02, 0x01, 0x00];

/** One type `() -> ()`, and one function of it. */
const RETURNS_NOTHING = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00];

/** `i32.const 0`, `i8x16.splat`. */
const SPLAT = [0x41, 0x00, 0xfd, 0x0f];

/** A function that splats a vector. */
const SIMD = [...PREAMBLE, ...RETURNS_VECTOR, 0x0a, 0x08, 0x01, 0x06, 0x00, ...SPLAT, 0x0b];

/** A function that does `i8x16.relaxed_swizzle` on two splats. */
const RELAXED_SIMD = [
  ...PREAMBLE,
  ...RETURNS_VECTOR,
  ...[0x0a, 0x0f, 0x01, 0x0d, 0x00, ...SPLAT, ...SPLAT, 0xfd, 0x80, 0x02, 0x0b],
];

/** A shared memory, and a function that does `i32.atomic.load` on it. */
const ATOMICS = [
  ...PREAMBLE,
  ...RETURNS_NOTHING,
  ...[0x05, 0x04, 0x01, 0x03, 0x01, 0x01],
  ...[0x0a, 0x0b, 0x01, 0x09, 0x00, 0x41, 0x00, 0xfe, 0x10, 0x02, 0x00, 0x1a, 0x0b],
];

export function hasSimd(): boolean {
  return WebAssembly.validate(Uint8Array.from(SIMD));
}

export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(Uint8Array.from(RELAXED_SIMD));
}

/** Shared memory that can be made and handed to a Worker, and atomics on it. */
export function hasThreads(): boolean {
  if (typeof SharedArrayBuffer === 'undefined' || !WebAssembly.validate(Uint8Array.from(ATOMICS))) return false;
  const channel = new MessageChannel();
  try {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    channel.port1.postMessage(memory.buffer);
    return true;
  } catch {
    return false;
  } finally {
    channel.port1.close();
  }
}

/** Whether WebAssembly can wait for a promise (JSPI). */
export function hasJspi(): boolean {
  return 'Suspending' in WebAssembly;
}

export async function probePage(): Promise<Environment> {
  return {
    user_agent: navigator.userAgent,
    cross_origin_isolated: crossOriginIsolated,
    shared_array_buffer: typeof SharedArrayBuffer !== 'undefined',
    hardware_concurrency: navigator.hardwareConcurrency,
    simd: hasSimd(),
    relaxed_simd: hasRelaxedSimd(),
    threads: hasThreads(),
    jspi: hasJspi(),
    visibility: document.visibilityState,
    cache_fault: await cacheFault(),
  };
}

/** The used JavaScript heap, where the browser tells it. */
export function jsHeapBytes(): number | null {
  const { memory } = performance as Performance & { memory?: { usedJSHeapSize: number } };
  return memory?.usedJSHeapSize ?? null;
}
