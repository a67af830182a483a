import { describe, expect, it } from 'vitest';
import { hasJspi, hasRelaxedSimd, hasSimd, hasThreads } from './probe.ts';

describe('probes', () => {
  // Every Node.js that runs these tests has SIMD and shared memory; relaxed SIMD came with V8 11.4.
  it('find what this engine has', () => {
    const [major = 0, minor = 0] = process.versions.v8.split('.').map(Number);
    expect(hasSimd()).toBe(true);
    expect(hasRelaxedSimd()).toBe(major > 11 || (major === 11 && minor >= 4));
    expect(hasThreads()).toBe(true);
  });

  it('find no threads where shared memory is missing', () => {
    const shared = globalThis.SharedArrayBuffer;
    Reflect.deleteProperty(globalThis, 'SharedArrayBuffer');
    try {
      expect(hasThreads()).toBe(false);
    } finally {
      globalThis.SharedArrayBuffer = shared;
    }
  });

  it('find JSPI exactly where its constructor is', () => {
    expect(hasJspi()).toBe(Reflect.has(WebAssembly, 'Suspending'));
  });
});
