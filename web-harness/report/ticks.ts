/** An axis that is linear while that shows the values, and logarithmic where they are of several sizes. */

export interface Axis {
  readonly type: 'linear' | 'log';
  readonly domain: readonly [number, number];
  /** Null where the chart library's are good. */
  readonly ticks: readonly number[] | null;
}

/** Values that are further apart than this are not told apart on a linear axis. */
const LINEAR_MAX = 6;

/** Round numbers within the domain, fewer where more than `most` would stand there. */
export function logTicks(low: number, high: number, most: number): number[] {
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const found: number[] = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      found.push(...steps.map((step) => Number(`${step}e${power}`)));
    }
    const within = found.filter((tick) => tick >= low && tick <= high);
    if (within.length <= most) {
      return within;
    }
    if (steps.length === 1) {
      const every = Math.ceil(within.length / most);
      return within.filter((_, at) => at % every === 0);
    }
  }
  return [];
}

/** Round numbers within the domain, as many as stand there well, `most` at most. */
export function linearTicks(low: number, high: number, most: number): number[] {
  const size = 10 ** Math.floor(Math.log10((high - low) / most));
  const within = [1, 2, 5, 10].map((step) => {
    // Not quite whole where the division is not exact.
    const [first, last] = [Math.ceil(low / step / size - 1e-9), Math.floor(high / step / size + 1e-9)];
    return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step * size).toPrecision(12)));
  });
  return within.find((ticks) => ticks.length <= most) ?? [];
}

/** The axis for these values, with a little room at its ends. */
export function axis(values: readonly number[], most: number): Axis {
  let [low, high] = [Infinity, 0];
  for (const value of values) {
    if (value > 0) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (high === 0) {
    return { type: 'linear', domain: [0, 1], ticks: null };
  }
  if (high / low <= LINEAR_MAX) {
    const room = (high - low || high) * 0.08;
    return { type: 'linear', domain: [Math.max(0, low - room), high + room], ticks: null };
  }
  const room = (high / low) ** 0.04;
  const domain = [low / room, high * room] as const;
  return { type: 'log', domain, ticks: logTicks(...domain, most) };
}
