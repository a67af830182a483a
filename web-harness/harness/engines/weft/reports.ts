/**
 * What a WebGPU device reports of what was asked of it.
 * It owns the error scopes and never touches what was made in them.
 */

import { Failure } from '../../failure.ts';

/** The innermost last, so that it is told first: want of memory is the reason of what follows from it. */
const FILTERS = ['internal', 'validation', 'out-of-memory'] as const;

/** Listens from now on; the answer, called once, stops listening and tells what went wrong meanwhile. */
export function listen(device: GPUDevice): () => Promise<Failure | null> {
  for (const filter of FILTERS) device.pushErrorScope(filter);
  return async () => {
    // A lost device has nothing to report.
    const scopes = FILTERS.map(() => device.popErrorScope().catch(() => null));
    const error = (await Promise.all(scopes)).find((reported) => reported !== null);
    return error === undefined ? null : failureOf(error);
  };
}

/** Does what is asked of a device; fails with what the device reports of it. */
export async function reported<T>(device: GPUDevice, work: () => Promise<T>): Promise<T> {
  const told = listen(device);
  let done: T;
  try {
    done = await work();
  } catch (error) {
    const failure = await told();
    // A failure says which kernel it was, but want of memory is the reason of whatever follows from it.
    if (failure === null || (error instanceof Failure && failure.code !== 'out_of_memory')) throw error;
    throw failure;
  }
  const failure = await told();
  if (failure !== null) throw failure;
  return done;
}

function failureOf(error: GPUError): Failure {
  const code = error instanceof GPUOutOfMemoryError ? 'out_of_memory' : 'internal';
  return new Failure(code, 'elsewhere', `WebGPU reported: ${error.message}`);
}
