/** The daemon's events: a WebSocket that is opened again when it is lost, ever more patiently. */

import type { Told, Topic } from './documents.ts';

/** The part of a WebSocket that is used. */
export interface Socket {
  readonly readyState: number;
  onopen: (() => void) | null;
  onclose: (() => void) | null;
  onmessage: ((message: { readonly data: unknown }) => void) | null;
  send: (text: string) => void;
  close: () => void;
}

export interface Surroundings {
  readonly open: () => Socket;
  /** Calls after so many milliseconds, unless what it answers is called before. */
  readonly after: (ms: number, call: () => void) => () => void;
  /** From 0 to 1. */
  readonly chance: () => number;
  readonly now: () => number;
}

export type Standing =
  | { readonly state: 'connecting' | 'live' | 'ended' }
  /** `at` is when it is tried again, in milliseconds. */
  | { readonly state: 'lost'; readonly at: number };

const FIRST_MS = 500;
const LONGEST_MS = 30_000;
const OPEN = 1;

/** How the message is called whose refusal tells that a subscription was read; no subscription has this number. */
const SUBSCRIBED = 'subscribed-';
const NONE = -1;

interface Message extends Told {
  readonly type: string;
  readonly id?: string | null;
}

/** Doubled with each attempt in a row, and half of it by chance, so that not all pages come back at once. */
export function patience(attempt: number, chance: number): number {
  const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
  return longest * (0.5 + chance / 2);
}

export class Live {
  readonly #surroundings: Surroundings;
  readonly #stands: (standing: Standing) => void;
  readonly #hear: (told: Told) => void;
  #topics: readonly Topic[] = [];
  #socket: Socket | null = null;
  #attempts = 0;
  #forget: (() => void) | null = null;
  #wanted = false;
  /** Subscriptions so far, and the last one that the daemon has read. */
  #subscribed = 0;
  #confirmed = NONE;
  #waiting: (() => void)[] = [];

  constructor(surroundings: Surroundings, stands: (standing: Standing) => void, hear: (told: Told) => void) {
    this.#surroundings = surroundings;
    this.#stands = stands;
    this.#hear = hear;
  }

  start(): void {
    if (!this.#wanted) {
      this.#wanted = true;
      this.#open();
    }
  }

  stop(): void {
    this.#wanted = false;
    this.#attempts = 0;
    this.#forget?.();
    this.#forget = null;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#release();
    this.#stands({ state: 'ended' });
  }

  /** Does not wait any longer, when it is waiting. */
  hurry(): void {
    if (this.#wanted && this.#forget !== null) {
      this.#forget();
      this.#open();
    }
  }

  /** Resolves when events of these topics come, so that nothing is missed that happens later; or when none can come. */
  async follow(topics: readonly Topic[]): Promise<void> {
    if (topics.join() !== this.#topics.join()) {
      this.#topics = topics;
      this.#subscribe();
    }
    const isThere = this.#socket?.readyState === OPEN && this.#confirmed === this.#subscribed;
    if (!isThere && this.#socket !== null) {
      await new Promise<void>((resolve) => { this.#waiting.push(resolve); });
    }
  }

  #subscribe(): void {
    if (this.#socket?.readyState === OPEN) {
      this.#subscribed += 1;
      this.#socket.send(JSON.stringify({ type: 'subscribe', topics: this.#topics }));
      // Nothing answers a subscription, but messages are read in their order, and this one is refused.
      this.#socket.send(JSON.stringify({ type: 'cancel', id: `${SUBSCRIBED}${this.#subscribed}` }));
    }
  }

  #heard(message: Message): void {
    if (message.type === 'event') {
      this.#hear(message);
    } else if (message.id === `${SUBSCRIBED}${this.#subscribed}`) {
      const isFirst = this.#confirmed === NONE;
      this.#confirmed = this.#subscribed;
      this.#release();
      if (isFirst) {
        this.#attempts = 0;
        this.#stands({ state: 'live' });
      }
    }
  }

  #release(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    waiting.forEach((resolve) => { resolve(); });
  }

  #open(): void {
    this.#forget = null;
    this.#stands({ state: 'connecting' });
    const socket = this.#surroundings.open();
    this.#socket = socket;
    this.#confirmed = NONE;
    socket.onopen = () => { this.#subscribe(); };
    socket.onmessage = ({ data }) => {
      if (typeof data === 'string' && this.#socket === socket) {
        this.#heard(JSON.parse(data) as Message);
      }
    };
    socket.onclose = () => {
      if (this.#socket === socket) {
        this.#lost();
      }
    };
  }

  #lost(): void {
    this.#socket = null;
    const { after, chance, now } = this.#surroundings;
    const ms = patience(this.#attempts, chance());
    this.#attempts += 1;
    this.#forget = after(ms, () => { this.#open(); });
    this.#release();
    this.#stands({ state: 'lost', at: now() + ms });
  }
}
