/**
 * Follows programs in a WebAssembly module: what its memory holds at first, calls, reading back.
 * It owns a session's memory and knows neither models nor messages.
 */

import type { Bytes } from '../../../protocol/frame.ts';
import { Failure } from '../../failure.ts';
import { hold } from '../../memory.ts';
import { toWords, widthOf, type Words } from './elements.ts';
import type { Executor, Runnable, RunnablePort, SessionPrograms } from './executor.ts';
import { begins, type Kept, restore, save, type Saved } from './kept.ts';
import { FAULTS, fillBytes, type Files, type Source } from './program.ts';

/** As `src/kernels/wasm/program.rs` writes it. */
export interface WasmProgram {
  /** Bytes of the memory that it takes, the module's own among them. */
  readonly memory: number;
  /** Where the block's first bytes go. */
  readonly records: { readonly address: number; readonly bytes: number };
  /** Done once for all programs that say the same here. */
  readonly shared: readonly Setup[];
  /** Done whenever another program has used the memory since. */
  readonly own: readonly Setup[];
  readonly inputs: readonly WasmPort[];
  readonly outputs: readonly WasmPort[];
  /** None of a program that computes each step by itself. */
  readonly kept: Kept | null;
  readonly calls: Calls;
}

type Setup = { readonly fill: WasmFill } | { readonly run: Calls };

interface Calls {
  readonly address: number;
  readonly count: number;
}

interface WasmFill {
  readonly address: number;
  readonly datatype: string;
  readonly elements: number;
  /** Taken as it lies; else each element becomes a word. */
  readonly raw: boolean;
  readonly source: Source;
}

interface WasmPort extends RunnablePort {
  readonly address: number | null;
}

/** What the module exports: does so many calls whose records begin there, and answers a fault. */
interface Exports {
  readonly run: (address: number, count: number) => number;
}

const PAGE_BYTES = 64 * 1024;

/** Elements of a weight that are widened at once. */
const CHUNK = 1 << 20;

export class WasmExecutor implements Executor {
  constructor(
    private readonly module: WebAssembly.Module,
    private readonly memoryMax: number,
  ) {}

  open(files: Files): SessionPrograms {
    return new WasmSession(this.module, this.memoryMax, files);
  }
}

class WasmSession implements SessionPrograms {
  #memory: WebAssembly.Memory | null = null;
  #exports: Exports | null = null;
  /** What was done for programs that say the same. */
  #shared: string | null = null;
  /** Whose own setup is in the memory. */
  #current: WasmRun | null = null;
  /** What outlives steps, as it lies in the memory. */
  #kept: Kept | null = null;
  /** The same while programs are used that have nothing of it. */
  #saved: Saved | null = null;
  /** Whether a step has left something. */
  #left = false;
  /** Bytes of the memory. */
  #held = 0;

  constructor(
    private readonly module: WebAssembly.Module,
    private readonly memoryMax: number,
    private readonly files: Files,
  ) {}

  async add(json: string, block: Bytes): Promise<Runnable> {
    const program = JSON.parse(json) as WasmProgram;
    await this.#makeRoom(Math.ceil(program.memory / PAGE_BYTES));
    const run = new WasmRun(this, program, block.slice());
    this.use(run);
    return run;
  }

  close(): void {
    this.#memory = null;
    this.#exports = null;
    this.#current = null;
    this.#count();
  }

  async #makeRoom(pages: number): Promise<void> {
    if (this.#memory === null) {
      const memory = inMemory(() => {
        const maximum = Math.floor(this.memoryMax / PAGE_BYTES);
        return new WebAssembly.Memory({ initial: pages, maximum });
      }, pages);
      const { exports } = await WebAssembly.instantiate(this.module, { env: { memory } });
      this.#memory = memory;
      this.#exports = exports as unknown as Exports;
    }
    const { buffer } = this.#memory;
    const missing = pages - buffer.byteLength / PAGE_BYTES;
    if (missing > 0) inMemory(() => this.#memory?.grow(missing), missing);
    this.#count();
  }

  #count(): void {
    const bytes = this.#memory?.buffer.byteLength ?? 0;
    hold(bytes - this.#held);
    this.#held = bytes;
  }

  /** Has a program's own in the memory. */
  use(run: WasmRun): void {
    if (this.#current === run) return;
    const { program, block } = run;
    this.#current = null;
    const stays = JSON.stringify(this.#kept) === JSON.stringify(program.kept);
    if (!stays && this.#kept !== null) {
      this.#saved = save(this.#kept, this.bytes());
      this.#kept = null;
    }
    this.bytes().set(block.subarray(0, program.records.bytes), program.records.address);
    const shared = JSON.stringify(program.shared);
    if (this.#shared !== shared) {
      this.#shared = null;
      this.#setUp(program.shared, block);
      this.#shared = shared;
    }
    this.#setUp(program.own, block);
    if (!stays && program.kept !== null) {
      restore(this.#saved, program.kept, this.bytes());
      this.#kept = program.kept;
      this.#saved = null;
    }
    this.#current = run;
  }

  /** Zeros where a sequence begins: what an earlier one has left is not seen, but a number that is none would be. */
  carry(kept: Kept, inputs: ReadonlyMap<string, Words>): void {
    if (begins(kept, inputs, this.#left)) restore(null, kept, this.bytes());
    this.#left = true;
  }

  /** Nobody else's, since what was a program's own is no more. */
  leave(run: WasmRun): void {
    if (this.#current === run) this.#current = null;
  }

  bytes(): Bytes {
    if (this.#memory === null) throw new Failure('internal', 'elsewhere', 'the session has ended');
    return new Uint8Array(this.#memory.buffer);
  }

  call({ address, count }: Calls): void {
    const fault = this.#exports?.run(address, count) ?? 0;
    if (fault !== 0) throw new Failure('invalid_request', 'never', FAULTS[fault] ?? `a kernel answered the fault ${fault}`);
  }

  #setUp(setups: readonly Setup[], block: Bytes): void {
    for (const setup of setups) {
      if ('run' in setup) this.call(setup.run);
      else this.#fill(setup.fill, block);
    }
  }

  #fill(fill: WasmFill, block: Bytes): void {
    const { address, datatype, raw, source } = fill;
    const bytes = fillBytes(fill, block, this.files);
    const memory = this.bytes();
    if (raw) {
      memory.set(bytes, address);
      return;
    }
    const width = widthOf(datatype);
    const name = 'file' in source ? source.file.name : 'a constant';
    for (let start = 0; start < bytes.length; start += CHUNK * width) {
      const words = toWords(name, datatype, bytes.subarray(start, start + CHUNK * width));
      memory.set(bytesOf(words), address + (start / width) * 4);
    }
  }
}

class WasmRun implements Runnable {
  readonly inputs: readonly RunnablePort[];
  readonly outputs: readonly RunnablePort[];

  constructor(
    private readonly session: WasmSession,
    readonly program: WasmProgram,
    readonly block: Bytes,
  ) {
    this.inputs = program.inputs;
    this.outputs = program.outputs;
  }

  run(inputs: ReadonlyMap<string, Words>, wanted: readonly number[]): Promise<Bytes[]> {
    const { kept } = this.program;
    this.session.use(this);
    if (kept !== null) this.session.carry(kept, inputs);
    const memory = this.session.bytes();
    for (const { name, address } of this.program.inputs) {
      const words = inputs.get(name);
      if (address !== null && words !== undefined) memory.set(bytesOf(words), address);
    }
    this.session.call(this.program.calls);
    const read = wanted.map((output) => {
      const { address = null, shape = [] } = this.program.outputs[output] ?? {};
      const length = shape.reduce((product, size) => product * size, 4);
      return address === null ? new Uint8Array(0) : memory.slice(address, address + length);
    });
    return Promise.resolve(read);
  }

  end(): void {
    this.session.leave(this);
  }
}

/** Makes or grows a memory by so many pages. */
function inMemory<T>(work: () => T, pages: number): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = `there is no room for ${pages * PAGE_BYTES} bytes: ${error.message}`;
    throw new Failure('out_of_memory', 'elsewhere', message);
  }
}

function bytesOf(words: Words): Bytes {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
