/** Moments, outcomes and states in words. */

import { digits } from '../report/words.ts';

const DAY_MS = 86_400_000;

const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const MINUTE = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const DATE = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });

/** By the local clock, as fine as a span of so many milliseconds needs it. */
export function clock(ms: number, span: number): string {
  const format = span > DAY_MS ? DATE : span > 1_200_000 ? MINUTE : TIME;
  return format.format(ms);
}

export function dateAndTime(us: number): string {
  const at = new Date(us / 1000);
  return `${at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' })}, ${TIME.format(at)}`;
}

export function time(us: number | null): string {
  if (us === null) {
    return '–';
  }
  return us < 1000 ? `${us.toFixed(0)} µs` : us < 1e6 ? `${digits(us / 1000)} ms` : `${digits(us / 1e6)} s`;
}

export function bytes(count: number | null): string {
  if (count === null) {
    return '–';
  }
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let [value, unit] = [count, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value.toFixed(0) : digits(value)} ${units[unit] ?? ''}`;
}

/** No finer than an estimate is. */
export function remaining(us: number): string {
  const seconds = Math.ceil(us / 1e6);
  if (seconds < 60) {
    return `${seconds} s`;
  }
  if (seconds < 600) {
    const round = Math.round(seconds / 5) * 5;
    return `${Math.floor(round / 60)} min ${round % 60} s`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Error codes are words with lines between them. */
export function outcomeWords(outcome: string): string {
  return outcome === 'ok' ? 'ok' : outcome.replaceAll('_', ' ');
}

export function plural(count: number, one: string, more = `${one}s`): string {
  return `${count.toLocaleString('en')} ${count === 1 ? one : more}`;
}
