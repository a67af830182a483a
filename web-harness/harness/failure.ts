/**
 * What went wrong in a job, as the daemon needs to know it: a code and where a retry makes sense.
 * It owns the reading of the engine's error texts and never hides one.
 */

import { MessageError } from '../protocol/reader.ts';
import type { FailureCode, Retry } from '../protocol/messages.ts';
import { TensorError } from './tensors.ts';

export class Failure extends Error {
  constructor(
    readonly code: FailureCode,
    readonly retry: Retry,
    message: string,
    /** The engine cannot go on: the lane ends after its answer. */
    readonly fatal = false,
  ) {
    super(message);
    this.name = 'Failure';
  }
}

/** The engine's own status codes that blame what it was given: argument, protobuf, graph. */
const BLAMES_INPUT = new Set([2, 7, 10]);

/** A size that overflows is one that 32 bits of addresses cannot hold. */
const OUT_OF_MEMORY =
  /out of memory|SafeIntOnOverflow|bad_alloc|\boom\b|failed to allocate|allocation (?:failed|size)|cannot enlarge memory|maximum memory size/i;

export function classify(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof TensorError || error instanceof MessageError) {
    return new Failure('invalid_request', 'never', message);
  }
  // A trap leaves the engine's memory in an unknown state.
  const fatal = error instanceof WebAssembly.RuntimeError;
  if (OUT_OF_MEMORY.test(message)) return new Failure('out_of_memory', 'elsewhere', message, fatal);
  const status = /ERROR_CODE: (\d+)/.exec(message)?.[1];
  if (status !== undefined && BLAMES_INPUT.has(Number(status))) {
    return new Failure('invalid_request', 'never', message);
  }
  return new Failure('internal', 'elsewhere', message, fatal);
}
