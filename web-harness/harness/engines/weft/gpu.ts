/**
 * Follows programs on a WebGPU device: buffers and what they hold at first, pipelines, dispatches, reading back.
 * It owns the device's objects and knows neither models nor messages.
 */

import type { Bytes } from '../../../protocol/frame.ts';
import { classify, Failure } from '../../failure.ts';
import { toWords, widthOf, type Words } from './elements.ts';
import type { Executor, Runnable, SessionPrograms } from './executor.ts';
import { type Kept, KeptBuffers, type KeptSet, stateBytes } from './kept.ts';
import { at, type Dispatch, FAULTS, type Files, type Fill, fillBytes, type GpuProgram, isRaw, type Pipeline } from './program.ts';
import { listen, reported } from './reports.ts';

/** The names of WebGPU's flags, which the compiler's library leaves out. */
declare const GPUBufferUsage: Readonly<Record<'MAP_READ' | 'COPY_SRC' | 'COPY_DST' | 'UNIFORM' | 'STORAGE', number>>;
declare const GPUMapMode: Readonly<Record<'READ', number>>;

/** Elements of a weight that are brought at once, so that widening a large one takes little room. */
const CHUNK = 1 << 22;

/** Bytes on their way to the device that are waited for: it holds them twice until they have arrived. */
const UNDER_WAY_MAX = 128 << 20;

/** Kernels differ by structure, not by size, so that models have some tens of them; beyond, all are made anew. */
const PIPELINES_MAX = 512;

/** The least that a buffer of uniforms has. */
const UNIFORM_BYTES = 16;

/** The fault's word, and what aligns the outputs behind it. */
const FAULT_BYTES = 8;

export class GpuExecutor implements Executor {
  readonly #modules = new Map<string, GPUShaderModule>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  constructor(readonly device: GPUDevice) {}

  open(files: Files): SessionPrograms {
    return new GpuSession(this, files);
  }

  pipeline(source: string, { entry, constants }: Pipeline): Promise<GPUComputePipeline> {
    const key = JSON.stringify([source, entry, constants]);
    const known = this.#pipelines.get(key);
    if (known !== undefined) return known;
    if (this.#pipelines.size >= PIPELINES_MAX) {
      this.#pipelines.clear();
      this.#modules.clear();
    }
    const made = this.#compile(source, entry, constants);
    this.#pipelines.set(key, made);
    made.catch(() => this.#pipelines.delete(key));
    return made;
  }

  async #compile(code: string, entryPoint: string, constants: Pipeline['constants']): Promise<GPUComputePipeline> {
    const module = this.#modules.get(code) ?? this.device.createShaderModule({ code });
    this.#modules.set(code, module);
    try {
      const compute = { module, entryPoint, constants: { ...constants } };
      return await this.device.createComputePipelineAsync({ layout: 'auto', compute });
    } catch (error) {
      const { messages } = await module.getCompilationInfo();
      const errors = messages.filter(({ type }) => type === 'error');
      const said = errors.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos} ${message}`);
      const reasons = [classify(error).message, ...said].join('; ');
      throw new Failure('internal', 'elsewhere', `the kernel ${nameOf(code, entryPoint)} does not compile: ${reasons}`);
    }
  }
}

/** What a kernel's first line calls it, else its entry. */
function nameOf(code: string, entry: string): string {
  const named = /^\s*\/\/\s*(.+)/.exec(code)?.[1];
  return named === undefined ? entry : `${entry} of "${named.trim()}"`;
}

class GpuSession implements SessionPrograms {
  /** Weights that were brought, by where they come from: every program reads the same. */
  readonly #weights = new Map<string, GPUBuffer>();
  readonly #kept: KeptBuffers;

  constructor(
    private readonly executor: GpuExecutor,
    private readonly files: Files,
  ) {
    this.#kept = new KeptBuffers(executor.device);
  }

  async add(json: string, block: Bytes): Promise<Runnable> {
    const program = JSON.parse(json) as GpuProgram;
    const made: GPUBuffer[] = [];
    const { device } = this.executor;
    const taken: KeptSet[] = [];
    const take = (kept: Kept): KeptSet => {
      const set = this.#kept.take(kept, (state) => device.createBuffer({ size: stateBytes(state), usage: storage() }));
      taken.push(set);
      return set;
    };
    try {
      return await reported(device, () => {
        return this.#make(program, block, made, program.kept === null ? null : take(program.kept));
      });
    } catch (error) {
      for (const buffer of made) buffer.destroy();
      for (const set of taken) this.#kept.leave(set);
      throw error;
    }
  }

  async #make(program: GpuProgram, block: Bytes, made: GPUBuffer[], kept: KeptSet | null): Promise<Runnable> {
    const { device } = this.executor;
    const compiling = program.pipelines.map((pipeline) => {
      return this.executor.pipeline(at(program.modules, pipeline.module, 'module'), pipeline);
    });
    const pipelines = await Promise.all(compiling);
    const make = (size: number, usage: number): GPUBuffer => {
      const buffer = device.createBuffer({ size, usage });
      made.push(buffer);
      return buffer;
    };
    const weights = sharedWeights(program);
    const states = new Map(program.kept?.states.map(({ place }, i) => [place, kept?.buffers[i]]));
    const there = program.buffers.map((_, i) => states.get(i) ?? this.#weights.get(weights.get(i) ?? ''));
    const buffers = program.buffers.map((size, i) => there[i] ?? make(size, storage()));
    await fillAll(device, program, buffers, block, this.files, (buffer) => there[buffer] === undefined);
    const uniforms = make(Math.max(program.uniforms, UNIFORM_BYTES), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    device.queue.writeBuffer(uniforms, 0, block, 0, program.uniforms);
    const staging = make(stagingBytes(program), GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    const lasting = new Set([...weights.keys()].map((i) => buffers[i]));
    const own = made.filter((buffer) => !lasting.has(buffer));
    const run = new GpuRun(device, program, { buffers, uniforms, staging, own, kept }, pipelines, this.#kept);
    await run.begin();
    for (const [i, key] of weights) this.#weights.set(key, at(buffers, i, 'buffer'));
    return run;
  }

  close(): void {
    for (const buffer of this.#weights.values()) buffer.destroy();
    this.#weights.clear();
    this.#kept.close();
  }
}

/** What a kernel's buffer is for; not known before the page has WebGPU. */
function storage(): number {
  return GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
}

/** The buffers that hold weights of a file and are never written, each with what tells it from others. */
export function sharedWeights({ buffers, fills, once, calls, inputs }: GpuProgram): Map<number, string> {
  const written = new Set<number | null | undefined>([...once, ...calls].map((dispatch) => dispatch.buffers.at(-1)));
  for (const { buffer } of inputs) written.add(buffer);
  const shared = new Map<number, string>();
  const keys = new Set<string>();
  for (const { buffer, datatype, source } of fills) {
    if (!('file' in source) || written.has(buffer)) continue;
    const key = JSON.stringify([source.file.name, source.file.offset, datatype, at(buffers, buffer, 'buffer')]);
    if (keys.has(key)) continue;
    keys.add(key);
    shared.set(buffer, key);
  }
  return shared;
}

async function fillAll(
  device: GPUDevice,
  { fills, buffers: sizes }: GpuProgram,
  buffers: readonly GPUBuffer[],
  block: Bytes,
  files: Files,
  wanted: (buffer: number) => boolean,
): Promise<void> {
  let underWay = 0;
  for (const fill of fills) {
    if (!wanted(fill.buffer)) continue;
    const bytes = fillBytes(fill, block, files);
    const buffer = at(buffers, fill.buffer, 'buffer');
    for (const [offset, words] of wordsOf(fill, isRaw(fill, sizes), bytes)) {
      device.queue.writeBuffer(buffer, offset, words);
      underWay += words.byteLength;
      if (underWay < UNDER_WAY_MAX) continue;
      underWay = 0;
      device.queue.submit([]);
      await device.queue.onSubmittedWorkDone();
    }
  }
}

/** What a buffer is filled with, part by part, each with its place in the buffer. */
export function* wordsOf(
  { datatype, source }: Fill,
  raw: boolean,
  bytes: Bytes,
): Generator<[offset: number, words: Words | Bytes]> {
  const width = raw ? 1 : widthOf(datatype);
  const name = 'file' in source ? source.file.name : 'a constant';
  for (let start = 0; start < bytes.length; start += CHUNK * width) {
    const part = bytes.subarray(start, start + CHUNK * width);
    yield raw ? [start, wholeWords(part)] : [(start / width) * 4, toWords(name, datatype, part)];
  }
}

/** Filled up to words: a device takes no single bytes. */
function wholeWords(bytes: Bytes): Bytes {
  if (bytes.length % 4 === 0) return bytes;
  const words = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  words.set(bytes);
  return words;
}

function portBytes({ shape }: { shape: readonly number[] }): number {
  return shape.reduce((product, size) => product * size, 4);
}

function stagingBytes({ outputs }: GpuProgram): number {
  return outputs.reduce((sum, port) => sum + portBytes(port), FAULT_BYTES);
}

interface Held {
  readonly buffers: readonly GPUBuffer[];
  readonly uniforms: GPUBuffer;
  readonly staging: GPUBuffer;
  /** Those that end with the program. */
  readonly own: readonly GPUBuffer[];
  readonly kept: KeptSet | null;
}

interface Bound {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly groups: Dispatch['groups'];
}

class GpuRun implements Runnable {
  readonly inputs: GpuProgram['inputs'];
  readonly outputs: GpuProgram['outputs'];
  readonly #once: Bound[];
  readonly #calls: Bound[];

  constructor(
    private readonly device: GPUDevice,
    private readonly program: GpuProgram,
    private readonly held: Held,
    pipelines: readonly GPUComputePipeline[],
    private readonly states: KeptBuffers,
  ) {
    this.inputs = program.inputs;
    this.outputs = program.outputs;
    const layouts = pipelines.map((pipeline) => pipeline.getBindGroupLayout(0));
    const bind = ({ pipeline, uniform, uniform_bytes, buffers, groups }: Dispatch): Bound => {
      const uniforms = { buffer: held.uniforms, offset: uniform, size: uniform_bytes };
      const resources = [uniforms, ...buffers.map((buffer) => ({ buffer: at(held.buffers, buffer, 'buffer') }))];
      const entries = resources.map((resource, binding) => ({ binding, resource }));
      const group = device.createBindGroup({ layout: at(layouts, pipeline, 'pipeline'), entries });
      return { pipeline: at(pipelines, pipeline, 'pipeline'), group, groups };
    };
    this.#once = program.once.map(bind);
    this.#calls = program.calls.map(bind);
  }

  /** Computes what stays. */
  async begin(): Promise<void> {
    if (this.#once.length > 0) await this.#follow(this.#once, []);
  }

  async run(inputs: ReadonlyMap<string, Words>, wanted: readonly number[]): Promise<Bytes[]> {
    const { kept } = this.held;
    const told = listen(this.device);
    if (kept !== null) this.states.carry(kept, inputs);
    for (const { name, buffer } of this.inputs) {
      const words = inputs.get(name);
      if (buffer === null || words === undefined) continue;
      this.device.queue.writeBuffer(at(this.held.buffers, buffer, 'buffer'), 0, words);
    }
    return this.#follow(this.#calls, wanted, told);
  }

  end(): void {
    for (const buffer of this.held.own) buffer.destroy();
    if (this.held.kept !== null) this.states.leave(this.held.kept);
  }

  async #follow(calls: readonly Bound[], wanted: readonly number[], told = listen(this.device)): Promise<Bytes[]> {
    const { staging } = this.held;
    const encoder = this.device.createCommandEncoder();
    const fault = at(this.held.buffers, this.program.fault, 'buffer');
    encoder.clearBuffer(fault);
    dispatch(encoder, calls);
    encoder.copyBufferToBuffer(fault, 0, staging, 0, 4);
    let used = FAULT_BYTES;
    const places = wanted.map((output) => {
      const port = at(this.outputs, output, 'output');
      const place = { from: used, to: port.buffer === null ? used : used + portBytes(port) };
      if (port.buffer !== null) {
        const buffer = at(this.held.buffers, port.buffer, 'buffer');
        encoder.copyBufferToBuffer(buffer, 0, staging, place.from, place.to - place.from);
      }
      used = place.to;
      return place;
    });
    this.device.queue.submit([encoder.finish()]);
    const mapped = staging.mapAsync(GPUMapMode.READ, 0, used).then(
      () => null,
      (error: unknown) => classify(error),
    );
    const [report, unmapped] = await Promise.all([told(), mapped]);
    try {
      const failure = report ?? unmapped;
      if (failure !== null) throw failure;
      const read = staging.getMappedRange(0, used);
      const word = new Uint32Array(read, 0, 1)[0] ?? 0;
      if (word !== 0) throw new Failure('invalid_request', 'never', FAULTS[word] ?? `a kernel left the fault ${word}`);
      return places.map(({ from, to }) => new Uint8Array(read.slice(from, to)));
    } finally {
      staging.unmap();
    }
  }
}

function dispatch(encoder: GPUCommandEncoder, calls: readonly Bound[]): void {
  const pass = encoder.beginComputePass();
  let last: GPUComputePipeline | null = null;
  for (const { pipeline, group, groups } of calls) {
    if (pipeline !== last) pass.setPipeline(pipeline);
    last = pipeline;
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...groups);
  }
  pass.end();
}
