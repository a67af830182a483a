/**
 * The order of a lane's work: one job runs, the others wait in the order in which they came.
 * It owns the queue and the marks of cancelled jobs and never runs anything.
 */

/**
 * The daemon sends at most one step ahead; loads of several models may wait beside it.
 * More than this many waiting jobs is a daemon that does not count.
 */
export const WAITING_JOBS = 16;

export type CancelOutcome = 'dropped' | 'running' | 'unknown';

interface Identified {
  readonly message: { readonly type: string; readonly id: number };
}

export class JobQueue<J extends Identified> {
  readonly #waiting: J[] = [];
  #running: J | null = null;
  #discarded = false;

  /** Refuses the job when too many wait. */
  accept(job: J): boolean {
    if (this.#waiting.length >= WAITING_JOBS) return false;
    this.#waiting.push(job);
    return true;
  }

  get idle(): boolean {
    return this.#running === null;
  }

  /** Starts the next job; the one before must have finished. */
  start(): J | null {
    this.#running = this.#waiting.shift() ?? null;
    this.#discarded = false;
    return this.#running;
  }

  /** Whether the running job's answer is no longer wanted. */
  get discarded(): boolean {
    return this.#discarded;
  }

  /** Takes a waiting step out, or marks the running one; loads are not cancelled. */
  cancel(id: number): CancelOutcome {
    if (this.#running !== null && isStep(this.#running, id)) {
      this.#discarded = true;
      return 'running';
    }
    const at = this.#waiting.findIndex((job) => isStep(job, id));
    if (at < 0) return 'unknown';
    this.#waiting.splice(at, 1);
    return 'dropped';
  }
}

function isStep(job: Identified, id: number): boolean {
  return job.message.type === 'step' && job.message.id === id;
}
