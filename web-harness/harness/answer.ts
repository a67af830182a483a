/**
 * How much a lane may answer.
 * It owns the limit; the daemon ends a link that announces more.
 */

import { Failure } from './failure.ts';

/** The largest body that the daemon takes; `docs/protocol.md` states it. */
export const ANSWER_BYTES_MAX = 1024 * 1024 * 1024;

/** Refuses an answer that the daemon would not take; it would end the link instead. */
export function checkAnswerBytes(sizes: readonly number[]): void {
  let total = 0;
  for (const size of sizes) total += size;
  if (total <= ANSWER_BYTES_MAX) return;
  const message = `the outputs take ${total} bytes together, and an answer holds ${ANSWER_BYTES_MAX}`;
  throw new Failure('out_of_memory', 'elsewhere', message);
}
