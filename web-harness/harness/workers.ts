/**
 * The Workers of a page's lanes: started, watched until they end, ended.
 * It owns the Workers and never speaks to the daemon.
 */

import type { LaneStart, LaneWord } from './laneworker.ts';
import { lifelineCut } from './lifeline.ts';

export type LaneName = number | string;

/** From a Worker's start to its first word, before which nothing tells that it ended; a loaded machine takes seconds. */
const BEGIN_WITHIN_MS = 60_000;

interface Running {
  readonly worker: Worker;
  /** Ends what waits for the Worker. */
  readonly over: AbortController;
}

export class Workers {
  readonly #running = new Map<LaneName, Running>();

  constructor(
    private readonly make: (name: string) => Worker,
    /** Called once for each Worker, after which it is ended. */
    private readonly exited: (lane: LaneName, message: string) => void,
  ) {}

  start(lane: LaneName, start: LaneStart): void {
    if (this.#running.has(lane)) {
      this.exited(lane, 'a lane of this name runs already');
      return;
    }
    const worker = this.make(`lane ${lane}`);
    const over = new AbortController();
    this.#running.set(lane, { worker, over });
    const silent = setTimeout(() => {
      this.end(lane, `the Worker did not begin within ${BEGIN_WITHIN_MS / 1000} s`);
    }, BEGIN_WITHIN_MS);
    over.signal.addEventListener('abort', () => {
      clearTimeout(silent);
    });
    worker.onmessage = ({ data }: MessageEvent<LaneWord>) => {
      if ('reason' in data) {
        this.end(lane, data.reason);
        return;
      }
      clearTimeout(silent);
      void this.#watch(lane, start.ticket, over.signal);
    };
    worker.onerror = (event) => {
      this.end(lane, event.message === '' ? 'the Worker could not be loaded' : event.message);
    };
    worker.postMessage(start);
  }

  end(lane: LaneName, message: string): void {
    const running = this.#running.get(lane);
    if (running === undefined) return;
    this.#running.delete(lane);
    stop(running);
    this.exited(lane, message);
  }

  endAll(): void {
    for (const running of this.#running.values()) stop(running);
    this.#running.clear();
  }

  async #watch(lane: LaneName, ticket: string, over: AbortSignal): Promise<void> {
    try {
      await lifelineCut(ticket, over);
    } catch (error) {
      if (over.aborted) return;
      throw error;
    }
    this.end(lane, 'the Worker ended by itself');
  }
}

function stop({ worker, over }: Running): void {
  over.abort();
  worker.terminate();
}
