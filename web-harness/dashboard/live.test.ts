/** The connection: subscriptions that are confirmed, and losses that are waited out. */

import { describe, expect, it } from 'vitest';
import type { Told } from './documents.ts';
import { Live, patience, type Socket, type Standing } from './live.ts';

class FakeSocket implements Socket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((message: { readonly data: unknown }) => void) | null = null;
  readonly sent: string[] = [];
  isClosed = false;

  send(text: string): void {
    this.sent.push(text);
  }

  close(): void {
    this.isClosed = true;
  }

  opens(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  says(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  /** Refuses what was sent last, as the daemon does once it has read the subscription before it. */
  confirms(): void {
    const { id } = JSON.parse(this.sent.at(-1) ?? '{}') as { id: string };
    this.says({ type: 'error', id });
  }

  breaks(): void {
    this.readyState = 3;
    this.onclose?.();
  }
}

function stage(): { live: Live; sockets: FakeSocket[]; stood: string[]; heard: Told[]; timers: { ms: number; call: () => void }[] } {
  const [sockets, stood, heard, timers]: [FakeSocket[], string[], Told[], { ms: number; call: () => void }[]] = [[], [], [], []];
  const open = (): Socket => {
    const socket = new FakeSocket();
    sockets.push(socket);
    return socket;
  };
  const after = (ms: number, call: () => void): (() => void) => {
    const timer = { ms, call };
    timers.push(timer);
    return () => { timers.splice(timers.indexOf(timer), 1); };
  };
  const stands = (standing: Standing): void => { stood.push(standing.state); };
  const live = new Live({ open, after, chance: () => 1, now: () => 0 }, stands, (told) => { heard.push(told); });
  return { live, sockets, stood, heard, timers };
}

describe('the connection', () => {
  it('is live once a subscription has been read, and follows another view’s topics', async () => {
    const { live, sockets, stood, heard } = stage();
    live.start();
    const following = live.follow(['pool']);
    sockets[0]?.opens();
    expect(JSON.parse(sockets[0]?.sent[0] ?? '')).toEqual({ type: 'subscribe', topics: ['pool'] });
    expect(stood).toEqual(['connecting']);
    sockets[0]?.confirms();
    await following;
    expect(stood).toEqual(['connecting', 'live']);
    const next = live.follow(['runs']);
    expect(sockets[0]?.sent).toHaveLength(4);
    sockets[0]?.says({ type: 'error', id: 'subscribed-1' });
    sockets[0]?.confirms();
    await next;
    await live.follow(['runs']);
    sockets[0]?.says({ type: 'event', topic: 'runs', seq: 1, lagged: 0, event: {} });
    expect(heard.map(({ topic }) => topic)).toEqual(['runs']);
    expect(stood).toEqual(['connecting', 'live']);
  });

  it('comes back ever more patiently, and at once when it is asked to', async () => {
    const { live, sockets, stood, timers } = stage();
    live.start();
    const following = live.follow(['pool']);
    sockets[0]?.breaks();
    await following;
    expect([patience(0, 0), patience(0, 1), patience(3, 1), patience(40, 1)]).toEqual([250, 500, 4000, 30_000]);
    for (const ms of [500, 1000, 2000]) {
      expect(timers.at(-1)?.ms).toBe(ms);
      timers.at(-1)?.call();
      sockets.at(-1)?.breaks();
    }
    live.hurry();
    sockets.at(-1)?.opens();
    sockets.at(-1)?.confirms();
    expect(stood.slice(-3)).toEqual(['lost', 'connecting', 'live']);
    sockets.at(-1)?.breaks();
    expect(timers.at(-1)?.ms).toBe(500);
  });

  it('stays away once it is ended', () => {
    const { live, sockets, stood, timers } = stage();
    live.start();
    sockets[0]?.opens();
    live.stop();
    expect(sockets[0]?.isClosed).toBe(true);
    sockets[0]?.breaks();
    live.hurry();
    expect([sockets.length, timers.length, stood.at(-1)]).toEqual([1, 0, 'ended']);
  });
});
