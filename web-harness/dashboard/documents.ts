/** What the daemon tells, as far as the dashboard shows it; it may tell more. */

import type { Interval } from '../report/document.ts';

export interface LaneMemory {
  readonly wasm_bytes: number;
  readonly gpu_bytes: number;
}

export interface Held {
  readonly session: string;
  readonly state: string;
}

export interface Capability {
  readonly engine: string;
  readonly threads: number;
  readonly adapter: { readonly vendor: string; readonly description: string; readonly software: boolean } | null;
}

export interface Lane {
  readonly lane: string;
  readonly instance: string;
  readonly browser: string;
  readonly backend: string;
  readonly state: string;
  readonly reason: string | null;
  readonly capability: Capability | null;
  readonly memory: LaneMemory | null;
  readonly load?: { readonly running: number; readonly sessions: readonly Held[] } | null;
}

export interface Instance {
  readonly instance: string;
  readonly browser: string;
  readonly browser_version: string | null;
  readonly state: string;
  readonly reason: string | null;
  readonly gpu: string | null;
  readonly launches: number;
  readonly executed: number;
  readonly memory_bytes: number | null;
  readonly lease: string | null;
  readonly lanes: Readonly<Record<string, Lane>>;
}

export interface LastMinute {
  readonly answered: number;
  readonly failed: Readonly<Record<string, number>>;
  readonly p50_us: number | null;
  readonly p95_us: number | null;
  readonly answered_by_second: readonly number[];
  readonly failed_by_second: readonly number[];
}

export interface Activity {
  readonly at_us: number;
  readonly pending: number;
  readonly queued: number;
  readonly lost_runs: number;
  readonly last_minute: LastMinute;
  readonly instances: readonly {
    readonly instance: string;
    readonly executed: number;
    readonly memory_bytes: number | null;
  }[];
  readonly lanes: readonly {
    readonly lane: string;
    readonly state: string;
    readonly running: number;
    readonly sessions: readonly Held[];
    readonly memory: LaneMemory | null;
  }[];
}

export interface Timing {
  readonly queue: number;
  readonly transfer: number;
  readonly decode: number;
  readonly compute: number;
  readonly encode: number;
  readonly total: number;
}

export interface Fallback {
  readonly wanted: string;
  readonly reason: string;
}

export interface Provenance {
  readonly instance: string;
  readonly lane: string;
  readonly browser: string;
  readonly browser_version: string;
  readonly backend: string;
  readonly placement: Readonly<Record<string, number>>;
  readonly adapter: { readonly vendor: string; readonly description: string } | null;
  readonly software_adapter: boolean;
  readonly engine: string;
  readonly threads: number;
  readonly model_digest: string;
  readonly verdict: string;
  readonly plan: string;
  readonly attempt: number;
  readonly batch: number;
  readonly fallback: Fallback | null;
  readonly stages?: readonly StageRun[];
}

export interface StageRun extends Provenance {
  readonly stage: number;
  readonly run: string;
  readonly bytes_in: number;
  readonly bytes_out: number;
  readonly timing_us: Timing;
}

export interface Run {
  readonly run: string;
  readonly request: string | null;
  readonly accepted_at_us: number;
  readonly caller: string;
  readonly model: string;
  readonly provenance: Provenance | null;
  readonly timing: Timing;
  readonly error: { readonly code: string; readonly message: string; readonly retry: string } | null;
}

/** Columns, the newest run first. */
export interface RunTimes {
  readonly accepted_at_us: readonly number[];
  readonly total_us: readonly number[];
  readonly outcome: readonly number[];
  readonly lane: readonly (number | null)[];
  readonly outcomes: readonly string[];
  readonly lanes: readonly string[];
}

export interface PlanStage {
  readonly model: string;
  readonly lane?: string;
  readonly browser?: string;
  readonly backend?: string;
  readonly inputs: readonly { readonly name: string; readonly from?: number }[];
  readonly outputs: readonly string[];
}

export interface Recovery {
  readonly plan: string;
  readonly stage: number;
  readonly at_us: number;
  readonly lane: string;
  readonly fallback: Fallback | null;
  readonly took_us: number | null;
}

export interface Plan {
  readonly id: string;
  readonly model: string;
  readonly name: string | null;
  readonly shards: readonly (string | null)[];
  readonly stages: readonly PlanStage[];
  readonly outputs: readonly { readonly name: string; readonly by: number }[];
  readonly fallback: string;
  readonly activations: string;
  readonly error: number | null;
  readonly made_at_us: number;
  readonly unusable: string | null;
  readonly standing: boolean;
  readonly recoveries?: readonly Recovery[];
}

export interface Suite {
  readonly id: string;
  readonly suite: string;
  readonly cells: number;
  readonly ended: number;
  readonly failed: number;
  readonly now: string | null;
  readonly remaining_us: number | null;
  readonly at_most_us: number;
  readonly caller: string;
  readonly began_at_us: number;
  readonly told_at_us: number;
}

/** A suite of which runs are kept, and what its history can be narrowed to. */
export interface KeptSuite {
  readonly suite: string;
  readonly runs: number;
  readonly machines: readonly { readonly id: string; readonly name: string; readonly runs: number }[];
  readonly branches: readonly string[];
  readonly models: readonly string[];
  readonly browsers: readonly string[];
  readonly backends: readonly string[];
  readonly scenarios: readonly string[];
  readonly precisions: readonly string[];
  readonly asked: readonly string[];
}

/** Something that is not the same in two runs. */
export interface Difference {
  readonly part: string;
  readonly base: string;
  readonly head: string;
}

/** A cell's median in one run. */
export interface Measured {
  readonly run: string;
  readonly started_at_us: number;
  readonly commit: string;
  readonly branch: string | null;
  readonly samples: number;
  readonly median_us: Interval;
  /** In what the run differs from the one before. */
  readonly events: readonly Difference[];
}

export interface Change {
  /** The place of the first point after it. */
  readonly at: number;
  readonly before_us: number;
  readonly after_us: number;
  readonly ratio: number;
  readonly probability: number;
}

/** A cell over runs, the oldest first. */
export interface Series {
  readonly model: string;
  readonly browser: string;
  readonly backend: string;
  readonly scenario: string;
  readonly precision: string | null;
  readonly asked: string;
  readonly points: readonly Measured[];
  readonly changes: readonly Change[];
}

export interface History {
  /** The id of the machine that the series are of. */
  readonly machine: string | null;
  /** What `before` is for the runs before these. */
  readonly earlier_us: number | null;
  readonly series: readonly Series[];
  readonly elsewhere: readonly { readonly run: string; readonly differences: readonly Difference[] }[];
}

export interface Model {
  readonly name: string;
  readonly digest: string;
}

export interface List<T> {
  readonly items: readonly T[];
  readonly cursor: string | null;
}

export type Topic = 'pool' | 'runs' | 'plans' | 'activity' | 'suites';

export interface Told {
  readonly topic: Topic;
  readonly seq: number;
  readonly lagged: number;
  readonly event: unknown;
}

export function outcomeOf(run: Run): string {
  return run.error?.code ?? 'ok';
}
