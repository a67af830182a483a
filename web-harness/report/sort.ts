/** Rows in the order of one of their columns. */

import type { Value } from './csv.ts';

const TEXTS = new Intl.Collator('en', { numeric: true });

function compare(a: Value, b: Value): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : TEXTS.compare(String(a), String(b));
}

/** What is null comes last either way; equal rows keep their order. */
export function sorted<T>(rows: readonly T[], key: (row: T) => Value, descending: boolean): T[] {
  return [...rows].sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left === null || right === null) {
      return Number(left === null) - Number(right === null);
    }
    return descending ? compare(right, left) : compare(left, right);
  });
}
