/**
 * How the page learns that a lane's Worker is gone: a Worker that ends by itself raises no event, but the lock that it
 * held is free.
 * It owns that lock and never ends a Worker.
 */

/** Locks belong to the origin, which several pages may share; a ticket is nobody else's. */
function lockOf(ticket: string): string {
  return `weft lane ${ticket}`;
}

/** Absent in browsers without Web Locks, whatever the type says; their lanes are known by their links alone. */
function locks(): LockManager | undefined {
  return navigator.locks;
}

/** Holds the Worker's lock for as long as it lives; answers once it is held. */
export function holdLifeline(ticket: string): Promise<void> {
  const manager = locks();
  if (manager === undefined) return Promise.resolve();
  return new Promise((held, refused) => {
    const forever = (): Promise<never> => {
      held();
      return new Promise(() => undefined);
    };
    manager.request(lockOf(ticket), forever).catch(refused);
  });
}

/** Resolves once the Worker that held its lifeline is gone; `given_up` ends the wait without an answer. */
export async function lifelineCut(ticket: string, given_up: AbortSignal): Promise<void> {
  const manager = locks();
  if (manager === undefined) return new Promise(() => undefined);
  await manager.request(lockOf(ticket), { signal: given_up }, () => undefined);
}
