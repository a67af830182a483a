/**
 * The engine of our own kernels: programs that the daemon makes of models, each for inputs of certain sizes.
 * It owns sessions, their files and their programs; what computes is an executor, and no engine here knows ONNX.
 */

import type { Bytes } from '../../protocol/frame.ts';
import type { Backend, Capability, Program, Step, TensorHead } from '../../protocol/messages.ts';
import { micros } from '../clock.ts';
import { Failure } from '../failure.ts';
import { type Gpu, openGpu, watchGpu } from '../gpu.ts';
import { hold, seeGpu } from '../memory.ts';
import { hasRelaxedSimd, hasSimd } from '../probe.ts';
import { checkBodyLength, elementCount } from '../tensors.ts';
import type { BoundStep, Engine, LoadedModel, ModelFiles, OutputTensor, StartedEngine } from './engine.ts';
import { TRIAL_INPUT, TRIAL_OUTPUT } from './trial.ts';
import { fromWords, toWords, widthOf, type Words, wordsIn } from './weft/elements.ts';
import type { Executor, Runnable, RunnablePort, SessionPrograms } from './weft/executor.ts';
import { GpuExecutor } from './weft/gpu.ts';
import { partsOf } from './weft/program.ts';
import { GPU_TRIAL, gpuTrialBlock, WASM_TRIAL, wasmTrialBlock } from './weft/trial.ts';
import { WasmExecutor } from './weft/wasm.ts';

/** Programs of a session; the daemon says which go for new ones. `docs/protocol.md` states it. */
const PROGRAMS_MAX = 8;

/** The daemon adds which kernels there are. */
const NAME = 'weft';

/** Where the built kernels are. */
export interface KernelModules {
  readonly plain: string;
  /** For browsers with relaxed SIMD, whose products are rounded once. */
  readonly relaxed: string;
}

interface Session {
  /** Of its files. */
  readonly bytes: number;
  readonly programs: SessionPrograms;
  readonly runnables: Map<number, Runnable>;
}

/** Starts the engine on a lane's GPU and proves it with a small program; throws with the reason when it cannot. */
export async function startWeftWgsl(memoryMax: number, died: (reason: string) => void): Promise<StartedEngine> {
  const started = performance.now();
  const gpu = await openGpu();
  seeGpu(gpu.device);
  const opened = performance.now();
  const executor = new GpuExecutor(gpu.device);
  await prove(executor, JSON.stringify(GPU_TRIAL), gpuTrialBlock());
  watchGpu(gpu.device, died, ({ message }) => {
    died(`WebGPU reported outside of any step: ${message}`);
  });
  const timing_us = { import: micros(started, opened), init: micros(opened, performance.now()) };
  const capability = { ...capabilityOf('weft-wgsl', NAME, gpu, memoryMax), timing_us };
  return { engine: new Weft(executor, memoryMax), capability };
}

/** Starts the engine on the CPU and proves it with a small program; throws with the reason when it cannot. */
export async function startWeftWasm(modules: KernelModules, memoryMax: number): Promise<StartedEngine> {
  if (!hasSimd()) throw new Error('the kernels need SIMD, which this browser has not');
  const started = performance.now();
  const relaxed = hasRelaxedSimd();
  const module = await WebAssembly.compileStreaming(fetch(relaxed ? modules.relaxed : modules.plain));
  const compiled = performance.now();
  const executor = new WasmExecutor(module, memoryMax);
  await prove(executor, JSON.stringify(WASM_TRIAL), wasmTrialBlock());
  const timing_us = { import: micros(started, compiled), init: micros(compiled, performance.now()) };
  const name = relaxed ? `${NAME}+relaxed` : NAME;
  const capability = { ...capabilityOf('weft-wasm', name, null, memoryMax), timing_us };
  return { engine: new Weft(executor, memoryMax), capability };
}

function capabilityOf(
  backend: Backend,
  engine: string,
  gpu: Gpu | null,
  memory_max: number,
): Omit<Capability, 'timing_us'> {
  const { adapter, features, limits } = gpu ?? { adapter: null, features: null, limits: null };
  return { backend, engine, threads: 1, adapter, features, limits, webnn: null, webnn_device: null, memory_max };
}

/** Runs a program whose answer is known. */
async function prove(executor: Executor, json: string, block: Bytes): Promise<void> {
  const programs = executor.open(new Map());
  const trial = await programs.add(json, block);
  const [bytes = new Uint8Array(0)] = await trial.run(new Map([['x', Float32Array.from(TRIAL_INPUT)]]), [0]);
  const values = Array.from(wordsIn('FP32', bytes));
  trial.end();
  programs.close();
  if (values.length === TRIAL_OUTPUT.length && values.every((value, i) => value === TRIAL_OUTPUT[i])) return;
  throw new Error(`the engine computed [${values.join(', ')}] instead of [${TRIAL_OUTPUT.join(', ')}]`);
}

export class Weft implements Engine {
  readonly #sessions = new Map<string, Session>();

  constructor(
    private readonly executor: Executor,
    private readonly memoryMax: number,
  ) {}

  checkRoom(bytes: number): void {
    if (bytes <= this.memoryMax) return;
    const message = `its ${bytes} bytes are more than the ${this.memoryMax} that the lane may hold`;
    throw new Failure('too_large', 'elsewhere', message);
  }

  /** The daemon, which has read the graph, knows its nodes and ports. */
  load(name: string, model: ModelFiles): Promise<LoadedModel> {
    if (this.#sessions.has(name)) {
      return Promise.reject(new Failure('invalid_request', 'never', `session "${name}" holds another model`));
    }
    const files = new Map(model.files.map(({ digest, data }) => [digest, data]));
    const bytes = model.files.reduce((sum, { data }) => sum + data.length, 0);
    hold(bytes);
    this.#sessions.set(name, { bytes, programs: this.executor.open(files), runnables: new Map() });
    return Promise.resolve({ placement: {}, inputs: [], outputs: [] });
  }

  unload(name: string): Promise<void> {
    const { bytes, programs, runnables } = this.#session(name);
    this.#sessions.delete(name);
    for (const runnable of runnables.values()) runnable.end();
    programs.close();
    hold(-bytes);
    return Promise.resolve();
  }

  async program({ session, program, drops, blockBytes }: Program, body: Bytes): Promise<void> {
    const { programs, runnables } = this.#session(session);
    for (const dropped of drops) {
      runnables.get(dropped)?.end();
      runnables.delete(dropped);
    }
    if (runnables.has(program)) return;
    if (runnables.size >= PROGRAMS_MAX) {
      throw new Failure('internal', 'same', `session "${session}" has ${PROGRAMS_MAX} programs already`);
    }
    const { json, block } = partsOf(body, blockBytes);
    runnables.set(program, await programs.add(json, block));
  }

  bind({ session, program, inputs: heads, outputs: named }: Step, body: Bytes): BoundStep {
    const runnable = program === null ? undefined : this.#session(session).runnables.get(program);
    if (runnable === undefined) {
      throw new Failure('model_not_ready', 'same', `session "${session}" has no program ${program ?? 'at all'}`);
    }
    const inputs = feed(runnable.inputs, heads, body);
    const wanted = placesOf(runnable.outputs, named);
    return {
      run: async () => {
        const read = await runnable.run(inputs, wanted);
        return { outputs: () => wanted.map((output, i) => tell(runnable.outputs[output], read[i])) };
      },
    };
  }

  #session(name: string): Session {
    const session = this.#sessions.get(name);
    if (session === undefined) throw new Failure('model_not_ready', 'same', `session "${name}" is not loaded`);
    return session;
  }
}

function feed(ports: readonly RunnablePort[], heads: readonly TensorHead[], body: Bytes): Map<string, Words> {
  checkBodyLength(heads, body);
  const words = new Map<string, Words>();
  let start = 0;
  for (const head of heads) {
    const fault = faultOf(head, ports.find(({ name }) => name === head.name), words);
    if (fault !== null) throw new Failure('invalid_request', 'never', `tensor "${head.name}" ${fault}`);
    words.set(head.name, toWords(head.name, head.datatype, body.subarray(start, start + head.byteLength)));
    start += head.byteLength;
  }
  for (const { name } of ports) {
    if (!words.has(name)) throw new Failure('invalid_request', 'never', `input "${name}" is missing`);
  }
  return words;
}

function faultOf(head: TensorHead, port: RunnablePort | undefined, seen: ReadonlyMap<string, Words>): string | null {
  if (port === undefined) return 'is no input of the model';
  if (seen.has(head.name)) return 'came twice';
  if (head.datatype !== port.datatype) return `is ${head.datatype} instead of ${port.datatype}`;
  const shape = `[${head.shape.join(',')}]`;
  if (shape !== `[${port.shape.join(',')}]`) return `is ${shape}, and the program is for [${port.shape.join(',')}]`;
  const bytes = elementCount(head.shape) * widthOf(head.datatype);
  return head.byteLength === bytes ? null : `takes ${bytes} bytes, but binary_data_size is ${head.byteLength}`;
}

/** The places of these outputs among all; of all where none is named. */
function placesOf(ports: readonly RunnablePort[], named: readonly string[]): number[] {
  if (named.length === 0) return ports.map((_, i) => i);
  return named.map((name) => {
    const place = ports.findIndex((port) => port.name === name);
    if (place < 0) throw new Failure('invalid_request', 'never', `the model has no output "${name}"`);
    return place;
  });
}

function tell(port: RunnablePort | undefined, read: Bytes | undefined): OutputTensor {
  if (port === undefined || read === undefined) throw new Failure('internal', 'elsewhere', 'an output was not read');
  const { name, datatype, shape } = port;
  return { name, datatype, shape, bytes: fromWords(datatype, wordsIn(datatype, read)) };
}
