import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type EngineAssets, startOnnxRuntime } from './onnxruntime.ts';

const FILES = { module: 'data:text/javascript,throw new Error("imported")', wasm: '/x.wasm', wasmName: 'x.wasm' };
const ASSETS: EngineAssets = { plain: FILES, jspi: FILES };

const suspending = Reflect.getOwnPropertyDescriptor(WebAssembly, 'Suspending');

function start(backend: 'wasm' | 'webgpu' | 'webnn'): Promise<unknown> {
  return startOnnxRuntime(ASSETS, { backend, threads: 1, webnnDevice: null, memoryMax: 2 ** 32 }, () => undefined);
}

describe('startOnnxRuntime', () => {
  beforeEach(() => {
    Reflect.deleteProperty(WebAssembly, 'Suspending');
    vi.stubGlobal('navigator', {});
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    if (suspending !== undefined) Reflect.defineProperty(WebAssembly, 'Suspending', suspending);
    else Reflect.deleteProperty(WebAssembly, 'Suspending');
  });

  it.each(['webgpu', 'webnn'] as const)('says that %s needs JSPI before it fetches anything', async (backend) => {
    await expect(start(backend)).rejects.toThrow(`the engine's ${backend} build needs JSPI`);
  });

  it('asks for no JSPI on wasm', async () => {
    await expect(start('wasm')).rejects.toThrow('imported');
  });

  it.each([
    ['webgpu', 'navigator.gpu is undefined'],
    ['webnn', 'navigator.ml is undefined'],
  ] as const)('says what %s misses where JSPI is there', async (backend, reason) => {
    Reflect.defineProperty(WebAssembly, 'Suspending', { value: Object, configurable: true });
    await expect(start(backend)).rejects.toThrow(reason);
  });
});
