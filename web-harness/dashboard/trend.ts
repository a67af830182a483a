/** A cell's medians over runs: as what they are shown, and where on a chart. */

import type { Interval } from '../report/document.ts';
import { axis, linearTicks, logTicks } from '../report/ticks.ts';
import { digits } from '../report/words.ts';
import type { Address } from './address.ts';
import type { Change, Difference, History, Measured, Series } from './documents.ts';

export const METRICS = ['time', 'rate', 'relative'] as const;
export type Metric = (typeof METRICS)[number];

export const METRIC_WORDS: Readonly<Record<Metric, { readonly name: string; readonly unit: string }>> = {
  time: { name: 'Median time', unit: 'ms' },
  rate: { name: 'Requests per second', unit: 'per second' },
  relative: { name: 'Time over the first run’s', unit: '× the first' },
};

/** Requests that a sample's time is of, where they are sent at once and so tell what a lane gets done. */
const AT_ONCE: Readonly<Partial<Record<string, number>>> = { multi_stream: 8, offline: 1 };

/** Parts of an event that most runs of a CI have. */
const USUAL = ["weft's commit", 'branch'];

const COMMIT_DIGITS = 10;

/** A series in the unit that is shown. */
export interface Trend {
  readonly series: Series;
  readonly values: readonly Interval[];
  /** Means from each change until the next, and the place of the first point of each. */
  readonly levels: readonly { readonly from: number; readonly value: number }[];
}

export function metricOf(word: string): Metric {
  return METRICS.find((metric) => metric === word) ?? 'time';
}

/** Null where the metric says nothing of such cells. */
export function trend(series: Series, metric: Metric): Trend | null {
  const [first] = series.points;
  const requests = AT_ONCE[series.scenario];
  if (first === undefined || (metric === 'rate' && requests === undefined)) {
    return null;
  }
  const of = (us: number): number =>
    metric === 'time' ? us / 1000 : metric === 'relative' ? us / first.median_us.value : (requests ?? 0) * 1e6 / us;
  const values = series.points.map(({ median_us: { value, low, high } }) =>
    metric === 'rate' ? { value: of(value), low: of(high), high: of(low) } : { value: of(value), low: of(low), high: of(high) });
  const levels = series.changes.length === 0
    ? []
    : [{ from: 0, us: series.changes[0]?.before_us ?? 0 }, ...series.changes.map(({ at, after_us: us }) => ({ from: at, us }))];
  return { series, values, levels: levels.map(({ from, us }) => ({ from, value: of(us) })) };
}

/** By how much a change had it take more or less time. */
export function size({ ratio }: Pick<Change, 'ratio'>): string {
  const percent = (ratio - 1) * 100;
  return `${percent < 0 ? '−' : '+'}${digits(Math.abs(percent))} % time`;
}

/** What else differed, but for what differs in most runs. */
export function known(events: readonly Difference[]): Difference[] {
  return events.filter(({ part }) => !USUAL.includes(part));
}

export function eventWords(events: readonly Difference[]): string {
  const short = (part: string, text: string): string =>
    /commit|file/.test(part) ? text.slice(0, COMMIT_DIGITS) : text;
  return events.map(({ part, base, head }) => `${part}: ${short(part, base)} → ${short(part, head)}`).join('; ');
}

/** The address of the runs before those that are shown, and of the newest; null where there is none or they are shown. */
export function pages(
  address: Address, { machine, earlier_us: earlier }: Pick<History, 'machine' | 'earlier_us'>,
): { readonly older: Address | null; readonly newest: Address | null } {
  const elsewhere = { ...address, run: '' };
  return {
    // The newest of the older runs may be another machine's.
    older: earlier === null ? null : { ...elsewhere, machine: machine ?? address.machine, before: String(earlier) },
    newest: address.before === '' ? null : { ...elsewhere, before: '' },
  };
}

export interface Moment {
  readonly run: string;
  readonly at_us: number;
}

/** The runs that the series have points of, the oldest first. */
export function moments(all: readonly Series[]): Moment[] {
  const found = new Map<string, Moment>();
  for (const { points } of all) {
    for (const { run, started_at_us: at_us } of points) {
      found.set(run, { run, at_us });
    }
  }
  return [...found.values()].sort((a, b) => a.at_us - b.at_us);
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Room for the axes. */
export const ROOM = { left: 52, right: 14, top: 22, bottom: 26 } as const;

export interface Placed {
  readonly x: number;
  readonly y: number;
  /** The interval's ends. */
  readonly low: number;
  readonly high: number;
}

export interface Layout {
  readonly points: readonly Placed[];
  readonly ticks: readonly { readonly y: number; readonly value: number }[];
  readonly dates: readonly { readonly x: number; readonly at_us: number }[];
  readonly levels: readonly { readonly from: number; readonly to: number; readonly y: number }[];
  /** Between the points around them. */
  readonly changes: readonly { readonly x: number; readonly change: Change }[];
  readonly events: readonly { readonly x: number; readonly point: Measured }[];
}

const TICK_HEIGHT = 36;
const DATE_WIDTH = 112;

/** Each run is one step to the right, so that those of one hour are told apart beside those of months. */
export function layout({ series, values, levels }: Trend, runs: readonly Moment[], { width, height }: Size): Layout {
  const bounds = axis([...values.flatMap(({ low, high }) => [low, high]), ...levels.map(({ value }) => value)], 8);
  const scale = bounds.type === 'log' ? Math.log : (value: number): number => value;
  const [bottom, top] = [scale(bounds.domain[0]), scale(bounds.domain[1])];
  const tall = height - ROOM.top - ROOM.bottom;
  const y = (value: number): number => ROOM.top + (top - scale(value)) / (top - bottom) * tall;
  const wide = width - ROOM.left - ROOM.right;
  const step = runs.length < 2 ? 0 : wide / (runs.length - 1);
  const column = (at: number): number => ROOM.left + (runs.length < 2 ? wide / 2 : at * step);
  const places = new Map(runs.map(({ run }, at) => [run, column(at)]));
  const xs = series.points.map(({ run }) => places.get(run) ?? ROOM.left);
  const x = (at: number): number => xs[at] ?? ROOM.left;
  const between = (at: number): number => (x(Math.max(0, at - 1)) + x(at)) / 2;
  const most = Math.max(2, Math.floor(tall / TICK_HEIGHT));
  const ticks = bounds.type === 'log' ? logTicks(...bounds.domain, most) : linearTicks(...bounds.domain, most);
  const fits = Math.max(1, Math.floor(wide / DATE_WIDTH));
  const every = Math.max(1, Math.ceil(runs.length / fits));
  return {
    points: values.map(({ value, low, high }, at) => ({ x: x(at), y: y(value), low: y(low), high: y(high) })),
    ticks: ticks.map((value) => ({ value, y: y(value) })),
    dates: runs.flatMap(({ at_us }, at) => at % every === 0 ? [{ x: column(at), at_us }] : []),
    levels: levels.map(({ from, value }, at) => {
      const next = levels[at + 1];
      const last = x(xs.length - 1);
      return { from: from === 0 ? x(0) : between(from), to: next === undefined ? last : between(next.from), y: y(value) };
    }),
    changes: series.changes.map((change) => ({ x: between(change.at), change })),
    events: series.points.flatMap((point, at) => known(point.events).length === 0 ? [] : [{ x: x(at), point }]),
  };
}

/** The place of the point that is nearest across. */
export function nearestAcross(points: readonly Placed[], x: number): number | null {
  let best: number | null = null;
  points.forEach((point, at) => {
    if (best === null || Math.abs(point.x - x) < Math.abs((points[best]?.x ?? Infinity) - x)) {
      best = at;
    }
  });
  return best;
}
