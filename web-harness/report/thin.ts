/** Fewer points for drawing; figures are computed of all samples, elsewhere. */

/** At most `most` of `count` places, evenly over all, the first and the last among them. */
export function thinned(count: number, most: number): number[] {
  if (count <= most) {
    return Array.from({ length: count }, (_, at) => at);
  }
  return Array.from({ length: most }, (_, at) => Math.round((at * (count - 1)) / (most - 1)));
}

const GOLDEN = 0.618_033_988_75;

/** Where a point stands across its strip, from 0 to 1: the same each time, and neighbours apart. */
export function across(at: number): number {
  return (at * GOLDEN) % 1;
}
