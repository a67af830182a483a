/** Requests as points of a chart: kept in columns, counted into pixels. Pure. */

import type { RunTimes } from './documents.ts';

/** As many as the daemon tells at once. */
export const POINTS_MAX = 100_000;

export interface Point {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly ms: number;
  readonly outcome: string;
  readonly lane: string | null;
}

/** Words by the order of their first use. */
class Words {
  readonly list: string[] = [];
  readonly #places = new Map<string, number>();

  place(word: string): number {
    let place = this.#places.get(word);
    if (place === undefined) {
      place = this.list.push(word) - 1;
      this.#places.set(word, place);
    }
    return place;
  }
}

/** The lane's name of a run that never got one. */
const NO_LANE = '';

/** The newest points; the oldest make room. */
export class Points {
  readonly at = new Float64Array(POINTS_MAX);
  readonly ms = new Float32Array(POINTS_MAX);
  /** What `height` makes of each. */
  readonly heights = new Float32Array(POINTS_MAX);
  readonly #outcome = new Uint8Array(POINTS_MAX);
  readonly #lane = new Uint16Array(POINTS_MAX);
  readonly #outcomes = new Words();
  readonly #lanes = new Words();
  #next = 0;
  #size = 0;

  constructor() {
    this.#outcomes.place('ok');
  }

  get size(): number {
    return this.#size;
  }

  set(times: RunTimes): void {
    this.#next = 0;
    this.#size = 0;
    for (let at = times.accepted_at_us.length - 1; at >= 0; at -= 1) {
      const lane = times.lane[at] ?? null;
      this.add({
        at: (times.accepted_at_us[at] ?? 0) / 1000,
        ms: (times.total_us[at] ?? 0) / 1000,
        outcome: times.outcomes[times.outcome[at] ?? 0] ?? 'ok',
        lane: lane === null ? null : times.lanes[lane] ?? null,
      });
    }
  }

  add(point: Point): void {
    const place = this.#next;
    this.at[place] = point.at;
    this.ms[place] = point.ms;
    this.heights[place] = height(point.ms);
    this.#outcome[place] = this.#outcomes.place(point.outcome);
    this.#lane[place] = this.#lanes.place(point.lane ?? NO_LANE);
    this.#next = (place + 1) % POINTS_MAX;
    this.#size = Math.min(this.#size + 1, POINTS_MAX);
  }

  /** Places of the points, the oldest first as they were recorded. In any order they are those below `size`. */
  place(nth: number): number {
    return (this.#next - this.#size + nth + POINTS_MAX) % POINTS_MAX;
  }

  isFailed(place: number): boolean {
    return this.#outcome[place] !== 0;
  }

  point(place: number): Point {
    const lane = this.#lanes.list[this.#lane[place] ?? 0] ?? NO_LANE;
    return {
      at: this.at[place] ?? 0,
      ms: this.ms[place] ?? 0,
      outcome: this.#outcomes.list[this.#outcome[place] ?? 0] ?? 'ok',
      lane: lane === NO_LANE ? null : lane,
    };
  }

  /** The group of each lane's points, by the lanes' places. */
  groups(of: (lane: string) => number): Uint8Array {
    return Uint8Array.from(this.#lanes.list, of);
  }

  lanePlace(place: number): number {
    return this.#lane[place] ?? 0;
  }
}

/** A chart's inside, in device pixels, and what it shows: milliseconds since the epoch across, heights up. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly from: number;
  readonly to: number;
  readonly low: number;
  readonly high: number;
}

export interface Extent {
  readonly from: number;
  readonly to: number;
  readonly low: number;
  readonly high: number;
}

/** Shorter times are drawn as this. */
const LEAST_MS = 0.01;

export function height(ms: number): number {
  return Math.log10(Math.max(LEAST_MS, ms));
}

/** What all points take up; null without any. */
export function extent(points: Points, from: number, to: number): Extent | null {
  let [first, last, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let place = 0; place < points.size; place += 1) {
    const at = points.at[place] ?? 0;
    const up = points.heights[place] ?? 0;
    if (at >= from && at <= to) {
      first = Math.min(first, at);
      last = Math.max(last, at);
      low = Math.min(low, up);
      high = Math.max(high, up);
    }
  }
  return first > last ? null : { from: first, to: last, low, high };
}

/** The group that failures are in, whatever their lane. */
export const FAILED = 255;

/** Points per pixel, and of which group the pixel is; failures are seen before all others. */
export interface Raster {
  readonly counts: Uint32Array;
  readonly groups: Uint8Array;
  /** The most in one pixel. */
  readonly most: number;
  readonly shown: number;
  readonly used: ReadonlySet<number>;
}

/** The pixels of a point, as distances from its first one: a disc, as round as pixels allow. */
function disc(size: number, width: number): Int32Array {
  const middle = (size - 1) / 2;
  const reach = (size / 2) ** 2;
  const pixels: number[] = [];
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      if (size < 3 || (x - middle) ** 2 + (y - middle) ** 2 <= reach) {
        pixels.push(y * width + x);
      }
    }
  }
  return Int32Array.from(pixels);
}

/** Counts every point of the frame; a point is `size` pixels wide and high. */
export function raster(points: Points, frame: Frame, size: number, groupsOfLanes: Uint8Array): Raster {
  const { width, height: rows } = frame;
  const counts = new Uint32Array(width * rows);
  const groups = new Uint8Array(width * rows);
  const used = new Uint8Array(FAILED + 1);
  let [most, shown] = [0, 0];
  const across = (width - size) / Math.max(1, frame.to - frame.from);
  const up = (rows - size) / Math.max(1e-9, frame.high - frame.low);
  const pixels = disc(size, width);
  for (let nth = 0; nth < points.size; nth += 1) {
    const place = points.place(nth);
    const x = Math.round(((points.at[place] ?? 0) - frame.from) * across);
    const y = Math.round((frame.high - (points.heights[place] ?? 0)) * up);
    if (x < 0 || y < 0 || x > width - size || y > rows - size) {
      continue;
    }
    shown += 1;
    const group = points.isFailed(place) ? FAILED : groupsOfLanes[points.lanePlace(place)] ?? 0;
    used[group] = 1;
    const first = y * width + x;
    for (const further of pixels) {
      const pixel = first + further;
      const count = (counts[pixel] ?? 0) + 1;
      counts[pixel] = count;
      if (count > most) {
        most = count;
      }
      if (groups[pixel] !== FAILED) {
        groups[pixel] = group;
      }
    }
  }
  return { counts, groups, most, shown, used: new Set([...used.keys()].filter((group) => used[group] === 1)) };
}

/** How wide a point is drawn, in CSS pixels. */
export function pointSize(count: number): number {
  return count <= 500 ? 6 : count <= 3000 ? 5 : count <= 20_000 ? 3 : 1.5;
}

/** The point nearest to a place of the frame, in its pixels, if one is within reach. */
export function nearest(points: Points, frame: Frame, x: number, y: number, reach: number): number | null {
  let [found, best]: [number | null, number] = [null, reach * reach];
  const across = frame.width / (frame.to - frame.from);
  const up = frame.height / (frame.high - frame.low);
  for (let place = 0; place < points.size; place += 1) {
    const dx = ((points.at[place] ?? 0) - frame.from) * across - x;
    const dy = (frame.high - (points.heights[place] ?? 0)) * up - y;
    const distance = dx * dx + dy * dy;
    if (distance <= best) {
      [found, best] = [place, distance];
    }
  }
  return found;
}

/** The next point of the frame in time, or the one before; the last of all when there is none to begin from. */
export function neighbour(points: Points, frame: Frame, from: number | null, step: 1 | -1): number | null {
  const way = from === null ? -1 : step;
  const start = from === null ? Infinity : points.at[from] ?? 0;
  let [found, best, isPast]: [number | null, number, boolean] = [null, 0, false];
  for (let nth = 0; nth < points.size; nth += 1) {
    // Those of one moment in the order in which they came.
    const place = points.place(way === 1 ? nth : points.size - 1 - nth);
    const at = points.at[place] ?? 0;
    const isBeyond = way === 1 ? at > start : at < start;
    const isNearer = found === null || (way === 1 ? at < best : at > best);
    if ((isBeyond || (at === start && isPast)) && isNearer && at >= frame.from && at <= frame.to) {
      [found, best] = [place, at];
    }
    isPast ||= place === from;
  }
  return found;
}

/** Percentiles of a span, as heights. */
export interface Column {
  readonly at: number;
  readonly p50: number;
  readonly p95: number;
}

/** A column of fewer says nothing about its ninety-fifth percentile. */
const COLUMN_MIN = 20;

/**
 * The percentiles of the answers in each of up to `most` equal spans of the frame, as exact as its rows of pixels; null
 * where there are too few.
 */
export function columns(points: Points, frame: Frame, most: number): (Column | null)[] {
  const count = Math.max(1, Math.min(most, Math.floor(points.size / (2 * COLUMN_MIN))));
  const rows = frame.height;
  const counts = new Uint32Array(count * rows);
  const sums = new Uint32Array(count);
  const across = count / (frame.to - frame.from);
  const up = rows / (frame.high - frame.low);
  for (let place = 0; place < points.size; place += 1) {
    const at = (points.at[place] ?? 0) - frame.from;
    if (at < 0 || points.isFailed(place)) {
      continue;
    }
    const span = Math.min(count, Math.floor(at * across));
    const column = span === count && (points.at[place] ?? 0) <= frame.to ? count - 1 : span;
    const row = Math.min(rows - 1, Math.max(0, Math.floor(((points.heights[place] ?? 0) - frame.low) * up)));
    if (column < count) {
      counts[column * rows + row] = (counts[column * rows + row] ?? 0) + 1;
      sums[column] = (sums[column] ?? 0) + 1;
    }
  }
  return Array.from(sums, (sum, column) => {
    if (sum < COLUMN_MIN) {
      return null;
    }
    const reached = (share: number): number => {
      let [row, below] = [column * rows, counts[column * rows] ?? 0];
      while (below < sum * share) {
        row += 1;
        below += counts[row] ?? 0;
      }
      return frame.low + (row - column * rows + 0.5) / up;
    };
    return { at: frame.from + (column + 0.5) / across, p50: reached(0.5), p95: reached(0.95) };
  });
}

const STEPS_S = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
];

/** Round moments between two, in the local clock: no more than `most`. `offset` is that clock's minutes behind UTC. */
export function timeTicks(from: number, to: number, most: number, offset: number): number[] {
  const step = (STEPS_S.find((seconds) => (to - from) / 1000 / seconds <= most) ?? 604_800 * 4) * 1000;
  const behind = offset * 60_000;
  const first = Math.ceil((from - behind) / step) * step + behind;
  return Array.from({ length: Math.max(0, Math.floor((to - first) / step) + 1) }, (_, at) => first + at * step);
}
