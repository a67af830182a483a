/**
 * What a lane asks of an inference library.
 * It owns the words between lane and engine; the engines are beside it.
 */

import type { Bytes } from '../../protocol/frame.ts';
import type { Capability, Placement, Program, Step, TensorDescription } from '../../protocol/messages.ts';

export interface LoadedModel {
  readonly placement: Placement;
  readonly inputs: readonly TensorDescription[];
  readonly outputs: readonly TensorDescription[];
}

/** Without a graph of its own, the first file is the graph; the other files are called by their digests in it. */
export interface ModelFiles {
  readonly graph: Bytes | null;
  readonly files: readonly { readonly digest: string; readonly data: Bytes }[];
}

export interface OutputTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly bytes: Bytes;
}

/** One step's inputs, bound to a session: running it is what `compute` measures. */
export interface BoundStep {
  run(): Promise<Computed>;
}

/** Results that are in this Worker's memory; reading them belongs to `encode`. */
export interface Computed {
  outputs(): OutputTensor[];
}

/** An engine that has proven its backend, and what it found. */
export interface StartedEngine {
  readonly engine: Engine;
  readonly capability: Capability;
}

export interface Engine {
  /** Throws when a model of so many bytes cannot fit, whatever is unloaded. */
  checkRoom(bytes: number): void;
  load(session: string, model: ModelFiles, freeDimensions: Readonly<Record<string, number>>): Promise<LoadedModel>;
  unload(session: string): Promise<void>;
  /** Makes a program of a session ready. */
  program(order: Program, body: Bytes): Promise<void>;
  bind(step: Step, body: Bytes): BoundStep;
}
