/** What the daemon is asked over HTTP. */

/** It wants to know who asks. */
export class NotLoggedIn extends Error {}

/** An answer other than the one asked for, in the daemon's words. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

interface Problem {
  readonly detail?: string;
  readonly title?: string;
}

async function answer<T>(response: Response): Promise<T> {
  if (response.ok) {
    return await response.json() as T;
  }
  const problem = await response.json().catch(() => ({})) as Problem;
  const message = problem.detail ?? problem.title ?? `status ${response.status}`;
  throw response.status === 401 ? new NotLoggedIn(message) : new Refused(response.status, message);
}

export async function ask<T>(path: string, signal?: AbortSignal): Promise<T> {
  return answer(await fetch(path, { cache: 'no-store', ...(signal === undefined ? {} : { signal }) }));
}

export interface Session {
  readonly caller: string | null;
  readonly scopes: readonly string[];
}

export async function logIn(key: string): Promise<Session> {
  return answer(await fetch('/api/v1/session', { method: 'POST', headers: { authorization: `Bearer ${key}` } }));
}

export async function logOut(): Promise<Session> {
  return answer(await fetch('/api/v1/session', { method: 'DELETE' }));
}
