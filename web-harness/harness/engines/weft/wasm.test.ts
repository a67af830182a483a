import { createRequire } from 'node:module';
import { beforeAll, describe, expect, it } from 'vitest';
import { laneMemory } from '../../memory.ts';
import { TRIAL_INPUT, TRIAL_OUTPUT } from '../trial.ts';
import { wordsIn } from './elements.ts';
import { WASM_TRIAL, wasmTrialBlock } from './trial.ts';
import { WasmExecutor, type WasmProgram } from './wasm.ts';

interface Build {
  readonly buildKernels: (what: { relaxed: boolean }) => Uint8Array<ArrayBuffer>;
}

const MEMORY_MAX = 64 << 20;

let module: WebAssembly.Module;

/** The kernels themselves, built as for a page. */
beforeAll(async () => {
  const build = createRequire(import.meta.url).resolve('../../../kernels/build.mjs');
  const { buildKernels } = (await import(build)) as Build;
  module = await WebAssembly.compile(buildKernels({ relaxed: false }));
}, 120_000);

function program(change: Partial<WasmProgram> = {}): string {
  return JSON.stringify({ ...WASM_TRIAL, ...change });
}

async function doubled(run: Awaited<ReturnType<ReturnType<WasmExecutor['open']>['add']>>): Promise<number[]> {
  const [bytes = new Uint8Array(0)] = await run.run(new Map([['x', Float32Array.from(TRIAL_INPUT)]]), [0]);
  return [...wordsIn('FP32', bytes)];
}

describe('WasmExecutor', () => {
  it('follows programs that take turns in one memory, and gives it back', async () => {
    const before = laneMemory().wasm_bytes;
    const programs = new WasmExecutor(module, MEMORY_MAX).open(new Map());
    const first = await programs.add(program(), wasmTrialBlock());
    const second = await programs.add(program({ memory: 1 << 20 }), wasmTrialBlock());
    for (const run of [first, second, first]) expect(await doubled(run)).toEqual(TRIAL_OUTPUT);
    expect(laneMemory().wasm_bytes - before).toBe(1 << 20);
    first.end();
    expect(await doubled(second)).toEqual(TRIAL_OUTPUT);
    second.end();
    programs.close();
    expect(laneMemory().wasm_bytes).toBe(before);
  });

  it('fills memory once with what programs share, and anew with what is their own', async () => {
    const file = Uint8Array.of(7, 0x00, 0x3c, 0x00, 0xc0);
    const programs = new WasmExecutor(module, MEMORY_MAX).open(new Map([['d', file]]));
    const fill = { datatype: 'FP16', elements: 2, raw: false, source: { file: { name: 'd', offset: 1 } } };
    const port = (name: string, address: number, length: number): WasmProgram['outputs'][number] => {
      return { name, datatype: 'FP32', shape: [length], address };
    };
    const [shared, own] = [400 * 1024, 401 * 1024];
    const change = {
      memory: 448 * 1024,
      shared: [{ fill: { ...fill, address: shared } }],
      own: [{ fill: { ...fill, address: own } }],
      outputs: [port('shared', shared, 2), port('own', own, 2), { ...port('none', 0, 0), address: null }],
      // What is written over by the step itself.
      inputs: [port('x', shared, 1), port('z', own, 1)],
    };
    const one = await programs.add(program(change), wasmTrialBlock());
    const other = await programs.add(program({ ...change, inputs: [] }), wasmTrialBlock());
    const read = async (run: typeof one): Promise<number[][]> => {
      const inputs = new Map([['x', Float32Array.of(5)], ['z', Float32Array.of(6)]]);
      return (await run.run(inputs, [0, 1, 2])).map((bytes) => [...wordsIn('FP32', bytes)]);
    };
    expect(await read(one)).toEqual([[5, -2], [6, -2], []]);
    expect(await read(other)).toEqual([[5, -2], [1, -2], []]);
  });

  it('says what it cannot do', async () => {
    const programs = new WasmExecutor(module, MEMORY_MAX).open(new Map());
    await expect(programs.add(program({ memory: MEMORY_MAX + 1 }), wasmTrialBlock())).rejects.toMatchObject({
      code: 'out_of_memory',
      retry: 'elsewhere',
    });
    const unknown = wasmTrialBlock();
    unknown[0] = 99;
    const run = await programs.add(program(), unknown);
    await expect(doubled(run)).rejects.toThrow('a kernel answered the fault 2');
  });
});
