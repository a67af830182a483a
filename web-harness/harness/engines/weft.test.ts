import { beforeEach, describe, expect, it } from 'vitest';
import type { Bytes } from '../../protocol/frame.ts';
import type { Step } from '../../protocol/messages.ts';
import { Failure } from '../failure.ts';
import { laneMemory } from '../memory.ts';
import { Weft } from './weft.ts';
import type { Words } from './weft/elements.ts';
import type { Executor, Runnable, RunnablePort, SessionPrograms } from './weft/executor.ts';
import type { Files } from './weft/program.ts';

const PORTS: { inputs: RunnablePort[]; outputs: RunnablePort[] } = {
  inputs: [
    { name: 'x', datatype: 'INT64', shape: [2] },
    { name: 'scale', datatype: 'FP32', shape: [] },
  ],
  outputs: [
    { name: 'y', datatype: 'FP16', shape: [2] },
    { name: 'n', datatype: 'INT64', shape: [1] },
  ],
};

/** Multiplies, as no program says; what it was asked is kept. */
class FakeExecutor implements Executor {
  readonly said: string[] = [];

  open(files: Files): SessionPrograms {
    this.said.push(`open ${[...files.keys()].join(' ')}`);
    return {
      add: (json, block) => {
        this.said.push(`add ${json} ${block.length}`);
        return json === 'wrong' ? Promise.reject(new Failure('internal', 'elsewhere', 'no')) : Promise.resolve(this.#runnable(json));
      },
      close: () => this.said.push('close'),
    };
  }

  #runnable(name: string): Runnable {
    return {
      ...PORTS,
      run: (inputs: ReadonlyMap<string, Words>, wanted) => {
        const scale = inputs.get('scale')?.[0] ?? 0;
        const x = [...(inputs.get('x') ?? [])];
        const outputs = [Float32Array.from(x, (value) => value * scale), Int32Array.of(x.length)];
        return Promise.resolve(wanted.map((output) => new Uint8Array(outputs[output]?.buffer ?? new ArrayBuffer(0))));
      },
      end: () => this.said.push(`end ${name}`),
    };
  }
}

let executor: FakeExecutor;
let engine: Weft;

const encoder = new TextEncoder();

function program(number: number, json = `p${number}`, drops: number[] = []): Promise<void> {
  const body = encoder.encode(`12345678${json}`);
  return engine.program({ type: 'program', id: 1, session: 's', program: number, drops, blockBytes: 8 }, body);
}

function step(change: Partial<Step> = {}): Step {
  const inputs = [
    { name: 'x', datatype: 'INT64', shape: [2], byteLength: 16 },
    { name: 'scale', datatype: 'FP32', shape: [], byteLength: 4 },
  ];
  return { type: 'step', id: 1, session: 's', program: 1, inputs, outputs: [], ...change };
}

/** Of `x` and `scale`. */
function body(x: bigint[], scale: number): Bytes {
  const bytes = new Uint8Array(20);
  bytes.set(new Uint8Array(BigInt64Array.from(x).buffer));
  bytes.set(new Uint8Array(Float32Array.of(scale).buffer), 16);
  return bytes;
}

beforeEach(async () => {
  executor = new FakeExecutor();
  engine = new Weft(executor, 100);
  await engine.load('s', { graph: null, files: [{ digest: 'd', data: new Uint8Array(60) }] });
});

describe('Weft', () => {
  it('widens inputs, runs the program, and narrows outputs', async () => {
    await program(1);
    const computed = await engine.bind(step(), body([3n, -4n], 0.5)).run();
    expect(computed.outputs()).toEqual([
      { name: 'y', datatype: 'FP16', shape: [2], bytes: new Uint8Array(Uint16Array.of(0x3e00, 0xc000).buffer) },
      { name: 'n', datatype: 'INT64', shape: [1], bytes: new Uint8Array(BigInt64Array.of(2n).buffer) },
    ]);
    const named = await engine.bind(step({ outputs: ['n'] }), body([3n, -4n], 0.5)).run();
    expect(named.outputs().map(({ name }) => name)).toEqual(['n']);
  });

  it.each([
    ['an output that is not there', { outputs: ['z'] }, 'the model has no output "z"'],
    ['an input that is not there', { inputs: [{ name: 'z', datatype: 'FP32', shape: [5], byteLength: 20 }] }, '"z" is no input'],
    ['another datatype', { inputs: [{ name: 'x', datatype: 'FP32', shape: [5], byteLength: 20 }] }, 'is FP32 instead of INT64'],
    ['another shape', { inputs: [{ name: 'x', datatype: 'INT64', shape: [1, 2], byteLength: 20 }] }, 'is [1,2], and the program is for [2]'],
    ['too few bytes', { inputs: [{ name: 'x', datatype: 'INT64', shape: [2], byteLength: 20 }] }, 'takes 16 bytes, but'],
    ['bytes of nobody', { inputs: [] }, '20 came'],
  ])('refuses %s', async (_case, change, says) => {
    await program(1);
    expect(() => engine.bind(step(change), body([1n, 2n], 1))).toThrow(says);
  });

  it('refuses an input that is missing, twice there, or too wide', async () => {
    await program(1);
    const [x, scale] = step().inputs;
    if (x === undefined || scale === undefined) throw new Error('a step has two inputs');
    expect(() => engine.bind(step({ inputs: [x] }), body([1n, 2n], 1).subarray(0, 16))).toThrow('"scale" is missing');
    expect(() => engine.bind(step({ inputs: [scale, scale] }), new Uint8Array(8))).toThrow('came twice');
    expect(() => engine.bind(step(), body([2n ** 40n, 2n], 1))).toThrow('"x" holds a number that is wider');
  });

  it('knows a program until it is told to drop it', async () => {
    for (const number of [1, 2]) await program(number);
    // One that is there already is not made again.
    await program(2);
    await program(3, 'p3', [1, 9]);
    expect(executor.said).toEqual(['open d', 'add p1 8', 'add p2 8', 'end p1', 'add p3 8']);
    const gone = (): unknown => engine.bind(step(), body([1n, 2n], 1));
    expect(gone).toThrow('session "s" has no program 1');
    expect(() => engine.bind(step({ program: null }), body([1n, 2n], 1))).toThrow('has no program at all');
    for (const number of [4, 5, 6, 7, 8, 9]) await program(number);
    await expect(program(10)).rejects.toThrow('has 8 programs already');
    await program(10, 'p10', [2]);
  });

  it('keeps nothing of a program that cannot be made', async () => {
    await expect(program(1, 'wrong')).rejects.toThrow('no');
    expect(() => engine.bind(step(), body([1n, 2n], 1))).toThrow('has no program 1');
    await program(1);
    const short = engine.program({ type: 'program', id: 1, session: 's', program: 2, drops: [], blockBytes: 9 }, new Uint8Array(8));
    await expect(short).rejects.toThrow("the program's block of 9 bytes came with 8");
  });

  it('holds the files of a session until it is unloaded, and refuses more than the lane may hold', async () => {
    const held = laneMemory().wasm_bytes;
    await program(1);
    expect(() => { engine.checkRoom(101); }).toThrow('its 101 bytes are more than the 100 that the lane may hold');
    engine.checkRoom(100);
    await expect(engine.load('s', { graph: null, files: [] })).rejects.toThrow('holds another model');
    await engine.unload('s');
    expect(laneMemory().wasm_bytes).toBe(held - 60);
    expect(executor.said).toEqual(['open d', 'add p1 8', 'end p1', 'close']);
    expect(() => engine.bind(step(), body([1n, 2n], 1))).toThrow('session "s" is not loaded');
  });
});
