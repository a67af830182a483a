/** The report's numbers, as the program that wrote the page computed them. Later documents may hold more. */

export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export type Outcome = 'ok' | 'wrong' | 'failed' | 'timed_out' | 'skipped' | 'excluded';

export interface Cell {
  readonly model: string;
  readonly browser: string;
  readonly backend: string;
  readonly scenario: string;
  readonly outcome: Outcome;
  readonly reason: string | null;
  readonly error: number | null;
  readonly tolerance: number;
  readonly samples_us: readonly number[];
  readonly warm_up_us: readonly number[];
  readonly warm: boolean;
  /** What one request takes, where the graph tells: operations, bytes, and of how many of its nodes. */
  readonly work?: { readonly flops: number; readonly bytes: number; readonly nodes: number; readonly known: number };
}

export interface Place {
  readonly browser_version: string | null;
  readonly engine: string;
  readonly threads: number;
  readonly adapter: string | null;
  readonly software_adapter: boolean;
  readonly sandbox: boolean | null;
  readonly gpu: string | null;
}

export interface Environment {
  readonly weft: string;
  readonly commit: string;
  readonly processor: string;
  readonly cores: number;
  readonly memory_bytes: number;
  readonly kernel: string;
  readonly cpu_limit: string | null;
  readonly memory_limit: string | null;
  readonly places: Readonly<Record<string, Place>>;
}

export interface Results {
  readonly id: string;
  readonly suite: string;
  readonly suite_sha256: string;
  readonly started_at_us: number;
  readonly ended_at_us: number;
  readonly complete: boolean;
  readonly warnings: readonly string[];
  readonly calibration_us: readonly [number, number];
  /** Bytes per second that copies read and wrote. */
  readonly copied?: number;
  readonly environment: Environment;
  readonly cells: readonly Cell[];
}

/** Of a cell that is ok. Times are in microseconds. */
export interface Shown {
  readonly figures: {
    readonly samples: number;
    readonly median: Interval;
    readonly p90: number | null;
    readonly p99: number | null;
    readonly min: number;
    readonly max: number;
    readonly outliers: number;
  };
  readonly quartiles: readonly [number, number];
  readonly whiskers: readonly [number, number];
  readonly outliers: readonly number[];
  readonly requests_per_second: Interval | null;
  readonly over_native: Interval | null;
  /** What a median cold start is made of, in its order. */
  readonly cold: readonly { readonly name: string; readonly median_us: number }[];
  readonly attained: { readonly intensity: number; readonly flops_per_second: Interval } | null;
}

export interface Fastest {
  readonly cell: number;
  readonly next: { readonly cell: number; readonly ratio: Interval } | null;
}

/** Cells that differ in their lanes alone, as places among the result's. */
export interface Group {
  readonly model: string;
  readonly scenario: string;
  readonly cells: readonly number[];
  readonly native: number | null;
  readonly of_all: Fastest | null;
  readonly of_browsers: Fastest | null;
}

export interface Report {
  readonly results: Results;
  readonly cells: readonly (Shown | null)[];
  /** How each cell was asked: its scenario, with what varies beside its lane. */
  readonly asked: readonly string[];
  readonly groups: readonly Group[];
  /** The most operations per second that a cell came to. */
  readonly highest: number | null;
}

/** A cell with what its samples say. */
export interface Row {
  readonly cell: Cell;
  readonly lane: string;
  readonly shown: Shown | null;
}

export interface Measured extends Row {
  readonly shown: Shown;
}

export function laneOf(cell: Cell): string {
  return `${cell.browser}/${cell.backend}`;
}

/** A report of thousands of cells is asked for each of them many times. */
const known = new WeakMap<Report, Row[]>();

function rowsOf(report: Report): Row[] {
  const rows = report.results.cells.map((cell, at) => {
    const scenario = report.asked[at] ?? cell.scenario;
    return { cell: { ...cell, scenario }, lane: laneOf(cell), shown: report.cells[at] ?? null };
  });
  known.set(report, rows);
  return rows;
}

export function row(report: Report, at: number): Row {
  const found = (known.get(report) ?? rowsOf(report))[at];
  if (found === undefined) {
    throw new Error(`the report has no cell ${at}`);
  }
  return found;
}

export function isMeasured(row: Row): row is Measured {
  return row.shown !== null;
}

/** The group's cells that are right, the fastest first. */
export function ranked(report: Report, group: Group): Measured[] {
  const rows = group.cells.map((at) => row(report, at)).filter(isMeasured);
  return rows.sort((a, b) => a.shown.figures.median.value - b.shown.figures.median.value);
}

/** What is to be kept in mind with a cell's times. */
export function caveats(report: Report, { cell, lane }: Row): string[] {
  const software = report.results.environment.places[lane]?.software_adapter === true;
  return [...(cell.warm ? [] : ['still warming up']), ...(software ? ['on a software adapter'] : [])];
}
