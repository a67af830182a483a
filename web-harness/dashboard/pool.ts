/** Browsers and lanes as they are, put together from a list, events and figures. Pure. */

import type { Activity, Held, Instance, Lane, LaneMemory } from './documents.ts';

export interface ShownLane {
  readonly lane: string;
  readonly backend: string;
  readonly state: string;
  readonly reason: string | null;
  readonly engine: string;
  readonly threads: number | null;
  readonly adapter: string | null;
  readonly software: boolean;
  readonly running: number;
  readonly sessions: readonly Held[];
  readonly memory: LaneMemory | null;
}

export interface ShownInstance {
  readonly instance: string;
  readonly browser: string;
  readonly version: string | null;
  readonly state: string;
  readonly reason: string | null;
  readonly lease: string | null;
  readonly launches: number;
  readonly executed: number | null;
  readonly memory: number | null;
  readonly lanes: readonly ShownLane[];
}

interface Load {
  readonly state: string;
  readonly running: number;
  readonly sessions: readonly Held[];
  readonly memory: LaneMemory | null;
}

/** What `pool` tells of an instance that is no more. */
interface Gone {
  readonly instance: string;
  readonly state: 'gone';
}

/** Whether one that is ready also computes, its lanes tell. */
function plain(state: string): string {
  return state === 'busy' ? 'ready' : state;
}

function adapterWords(lane: Lane): string | null {
  const adapter = lane.capability?.adapter;
  if (adapter === undefined || adapter === null) {
    return null;
  }
  return [adapter.vendor, adapter.description].find((text) => text !== '') ?? 'an adapter without a name';
}

export class Pool {
  readonly #instances = new Map<string, Instance>();
  readonly #native = new Map<string, Lane>();
  readonly #loads = new Map<string, Load>();

  /** Begins anew with what the routes tell. */
  set(instances: readonly Instance[], lanes: readonly Lane[]): void {
    this.#instances.clear();
    this.#native.clear();
    this.#loads.clear();
    for (const instance of instances) {
      this.#instances.set(instance.instance, instance);
    }
    for (const lane of lanes) {
      if (!this.#instances.has(lane.instance)) {
        this.#native.set(lane.lane, lane);
      }
      if (lane.load) {
        this.#loads.set(lane.lane, { ...lane.load, state: lane.state, memory: lane.memory });
      }
    }
  }

  /** Answers what is worth saying aloud, if anything. */
  tell(event: Instance | Gone): string | null {
    const before = this.#instances.get(event.instance);
    if (event.state === 'gone') {
      this.#instances.delete(event.instance);
      return before === undefined ? null : `${event.instance} is gone`;
    }
    const now = event as Instance;
    this.#instances.set(now.instance, now);
    if (before !== undefined && plain(before.state) === plain(now.state)) {
      return null;
    }
    return `${now.instance} is ${now.state}${now.reason === null ? '' : `: ${now.reason}`}`;
  }

  follow(activity: Activity): void {
    this.#loads.clear();
    for (const lane of activity.lanes) {
      this.#loads.set(lane.lane, lane);
    }
    for (const { instance, ...figures } of activity.instances) {
      const known = this.#instances.get(instance);
      if (known !== undefined) {
        this.#instances.set(instance, { ...known, ...figures });
      }
    }
  }

  lane(name: string): ShownLane | null {
    return this.list().flatMap(({ lanes }) => lanes).find(({ lane }) => lane === name) ?? null;
  }

  list(): ShownInstance[] {
    const shown = [...this.#instances.values()].map((instance): ShownInstance => {
      const lanes = Object.values(instance.lanes).map((lane) => this.#shown(lane));
      const busy = lanes.some(({ running }) => running > 0);
      return {
        instance: instance.instance,
        browser: instance.browser,
        version: instance.browser_version,
        state: plain(instance.state) === 'ready' && busy ? 'busy' : plain(instance.state),
        reason: instance.reason,
        lease: instance.lease,
        launches: instance.launches,
        executed: instance.executed,
        memory: instance.memory_bytes,
        lanes,
      };
    });
    shown.sort((a, b) => a.instance.localeCompare(b.instance, 'en', { numeric: true }));
    const native = [...this.#native.values()].map((lane) => this.#shown(lane));
    if (native.length > 0) {
      shown.push({
        instance: 'native',
        browser: 'native',
        version: null,
        state: native.some(({ running }) => running > 0) ? 'busy' : 'ready',
        reason: null,
        lease: null,
        launches: 0,
        executed: null,
        memory: null,
        lanes: native,
      });
    }
    return shown;
  }

  #shown(lane: Lane): ShownLane {
    const load = this.#loads.get(lane.lane);
    // An event tells whether it serves, the figures what it does then.
    const serves = ['ready', 'loading', 'executing'].includes(lane.state);
    return {
      lane: lane.lane,
      backend: lane.backend,
      state: serves ? load?.state ?? 'ready' : lane.state,
      reason: lane.reason,
      engine: lane.capability?.engine ?? '',
      threads: lane.capability?.threads ?? null,
      adapter: adapterWords(lane),
      software: lane.capability?.adapter?.software === true,
      running: serves ? load?.running ?? 0 : 0,
      sessions: serves ? load?.sessions ?? [] : [],
      memory: serves ? load?.memory ?? lane.memory : null,
    };
  }
}

/** The names of what a lane holds: sessions are called by their files, and with sizes where these are fixed. */
export function heldNames(sessions: readonly Held[], names: ReadonlyMap<string, string>): string[] {
  const held = sessions.filter(({ state }) => state !== 'refused').map(({ session, state }) => {
    const [digest = '', ...sizes] = session.split(',');
    const name = names.get(digest) ?? digest.slice(0, 8);
    const doing = state === 'preparing' ? ' (loading)' : '';
    return `${name}${sizes.length > 0 ? ` ${sizes.join(' ')}` : ''}${doing}`;
  });
  return held.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
}
