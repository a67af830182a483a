/**
 * What outlives steps in a page: the caches of a sequence, and where the last step has left them.
 * It owns the buffers of a GPU's states and the copies of a memory's, and never looks into them.
 */

import type { Bytes } from '../../../protocol/frame.ts';
import { Failure } from '../../failure.ts';
import type { Words } from './elements.ts';

/** As `src/kernels/gpu/program.rs` writes it. */
export interface Kept {
  /** The input that says how many rows are there already. */
  readonly position: string;
  /** Rows of each state that can be there. */
  readonly rows: number;
  readonly states: readonly State[];
}

/** `outer` times `room` rows of `row_bytes`, one behind the other. */
export interface State {
  /** Which buffer, or from which address on. */
  readonly place: number;
  readonly outer: number;
  readonly room: number;
  readonly row_bytes: number;
}

/** Whether a step begins a sequence; one that goes on needs what another step has left. */
export function begins({ position }: Kept, inputs: ReadonlyMap<string, Words>, left: boolean): boolean {
  const [at = 0] = inputs.get(position) ?? [];
  if (at === 0) return true;
  if (!left) throw new Failure('lane_lost', 'never', 'what the sequence has computed so far is gone; begin it anew');
  return false;
}

export function stateBytes({ outer, room, row_bytes }: State): number {
  return outer * room * row_bytes;
}

/** The buffers of programs with as many rows. */
export interface KeptSet {
  readonly kept: Kept;
  readonly buffers: readonly GPUBuffer[];
  users: number;
}

/** A set of buffers for each number of rows that there is a program for. */
export class KeptBuffers {
  readonly #sets = new Map<number, KeptSet>();
  /** What the last step has left. */
  #last: KeptSet | null = null;

  constructor(private readonly device: GPUDevice) {}

  /** The set of a program, which has made buffers for one that is not there. */
  take(kept: Kept, make: (state: State) => GPUBuffer): KeptSet {
    const set = this.#sets.get(kept.rows) ?? { kept, buffers: kept.states.map(make), users: 0 };
    this.#sets.set(kept.rows, set);
    set.users += 1;
    return set;
  }

  /** A program of this set has ended. */
  leave(set: KeptSet): void {
    set.users -= 1;
    this.#drop(set);
  }

  /** Has what the steps before have left in this set; zeros for the first of a sequence. */
  carry(set: KeptSet, inputs: ReadonlyMap<string, Words>): void {
    const last = this.#last;
    const fresh = begins(set.kept, inputs, last !== null);
    if (!fresh && last === set) return;
    const encoder = this.device.createCommandEncoder();
    // What an earlier sequence has left is not seen, but a number that is none would be.
    if (fresh) for (const buffer of set.buffers) encoder.clearBuffer(buffer);
    else if (last !== null) copy(encoder, last, set);
    this.device.queue.submit([encoder.finish()]);
    this.#last = set;
    if (last !== null) this.#drop(last);
  }

  close(): void {
    this.#last = null;
    for (const set of this.#sets.values()) this.#drop({ ...set, users: 0 });
  }

  #drop({ kept, buffers, users }: KeptSet): void {
    if (users > 0 || this.#last?.kept.rows === kept.rows) return;
    this.#sets.delete(kept.rows);
    for (const buffer of buffers) buffer.destroy();
  }
}

function copy(encoder: GPUCommandEncoder, from: KeptSet, to: KeptSet): void {
  const rows = Math.min(from.kept.rows, to.kept.rows);
  to.kept.states.forEach((state, i) => {
    const [was, source, target] = [from.kept.states[i], from.buffers[i], to.buffers[i]];
    if (was === undefined || source === undefined || target === undefined) return;
    for (let outer = 0; outer < state.outer; outer += 1) {
      const [start, end] = [outer * was.room * was.row_bytes, outer * state.room * state.row_bytes];
      encoder.copyBufferToBuffer(source, start, target, end, rows * state.row_bytes);
    }
  });
}

/** Rows that lay in a memory, apart from it. */
export interface Saved {
  readonly kept: Kept;
  readonly states: readonly Bytes[];
}

export function save(kept: Kept, memory: Bytes): Saved {
  return { kept, states: kept.states.map((state) => memory.slice(state.place, state.place + stateBytes(state))) };
}

/** Puts rows to where a program has them; zeros where there are none. */
export function restore(saved: Saved | null, kept: Kept, memory: Bytes): void {
  kept.states.forEach((state, i) => {
    memory.fill(0, state.place, state.place + stateBytes(state));
    const [was, bytes] = [saved?.kept.states[i], saved?.states[i]];
    if (saved === null || was === undefined || bytes === undefined) return;
    const length = Math.min(saved.kept.rows, kept.rows) * state.row_bytes;
    for (let outer = 0; outer < state.outer; outer += 1) {
      const from = outer * was.room * was.row_bytes;
      memory.set(bytes.subarray(from, from + length), state.place + outer * state.room * state.row_bytes);
    }
  });
}
