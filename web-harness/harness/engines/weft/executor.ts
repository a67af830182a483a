/**
 * What our engine asks of what runs its programs: a GPU, or a WebAssembly module.
 * It owns the words between the two; the executors are beside it.
 */

import type { Bytes } from '../../../protocol/frame.ts';
import type { Words } from './elements.ts';
import type { Files } from './program.ts';

export interface Executor {
  /** Makes room for a session's programs, which share what they can. */
  open(files: Files): SessionPrograms;
}

export interface SessionPrograms {
  /** Makes a program ready to run. */
  add(json: string, block: Bytes): Promise<Runnable>;
  /** After the end of all programs. */
  close(): void;
}

/** An input or an output of a program. */
export interface RunnablePort {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

export interface Runnable {
  readonly inputs: readonly RunnablePort[];
  readonly outputs: readonly RunnablePort[];
  /** Answers the words of these outputs, by their places among all. */
  run(inputs: ReadonlyMap<string, Words>, wanted: readonly number[]): Promise<Bytes[]>;
  end(): void;
}
