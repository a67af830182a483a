/** Times as the protocol states them: whole microseconds between two readings of the lane's own clock. */
export function micros(from: number, to: number): number {
  return Math.round((to - from) * 1000);
}
