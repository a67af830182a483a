/**
 * Listens to what the engine writes to the console.
 * It owns the console's methods of this Worker from `installTap` on, because the engine binds them once when
 * it starts; while nothing is recorded, every line goes to the real console.
 */

const METHODS = ['log', 'error', 'warn', 'info', 'debug'] as const;

export interface ConsoleTap {
  /** Runs `work` and answers its outcome with the lines written meanwhile. */
  record<T>(work: () => Promise<T>): Promise<{ outcome: T; lines: string[] }>;
}

export function installTap(target: Console): ConsoleTap {
  let recorded: string[] | null = null;
  for (const method of METHODS) {
    const original = target[method].bind(target);
    target[method] = (...words: unknown[]) => {
      if (recorded === null) original(...words);
      else recorded.push(words.map(String).join(' '));
    };
  }
  return {
    async record(work) {
      const lines: string[] = [];
      recorded = lines;
      try {
        return { outcome: await work(), lines };
      } finally {
        recorded = null;
      }
    },
  };
}
