/** Numbers, times and the document's names in words. */

import type { Interval, Outcome } from './document.ts';

/** By decimals. Made once: to make one takes much longer than to write a number by it. */
const DECIMALS = [0, 1, 2, 3].map((decimals) =>
  new Intl.NumberFormat('en', { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
const ROUND = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/** Three digits that mean something, and no more. */
export function digits(value: number): string {
  const size = Math.abs(value);
  if (size === 0) {
    return '0';
  }
  const decimals = size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : size >= 0.00995 ? 3 : -1;
  return DECIMALS[decimals]?.format(value) ?? value.toExponential(1);
}

/** A tick is a round number already. */
export function tickWord(value: number): string {
  return ROUND.format(Number(value.toPrecision(3)));
}

export function milliseconds(us: number): string {
  return digits(us / 1000);
}

/** `scale` is what a unit of it is shown as. */
export function range(interval: Pick<Interval, 'low' | 'high'>, scale = 1): string {
  // Joined, so that no line ends within.
  return `${digits(interval.low * scale)}\u2060–\u2060${digits(interval.high * scale)}`;
}

export function bounded(interval: Interval, scale = 1): string {
  return `${digits(interval.value * scale)} (${range(interval, scale)})`;
}

export function moment(us: number): string {
  return `${new Date(us / 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

export function duration(us: number): string {
  const seconds = Math.round(us / 1e6);
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  return minutes === 0 ? `${seconds} s` : `${minutes} min ${rest} s`;
}

export function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** As much of it as tells it from others, and whether files were changed. */
export function commitWords(commit: string): string {
  return commit === 'unknown' ? 'commit unknown' : `commit ${commit.slice(0, 10)}${commit.endsWith('-dirty') ? '-dirty' : ''}`;
}

const OUTCOMES: Readonly<Record<Outcome, string>> = {
  ok: 'right',
  wrong: 'wrong',
  failed: 'failed',
  timed_out: 'timed out',
  skipped: 'skipped',
  excluded: 'excluded',
};

export function outcomeWord(outcome: Outcome): string {
  return OUTCOMES[outcome];
}

/** What is sent, and what a sample is. */
const SCENARIOS: Readonly<Partial<Record<string, readonly [string, string]>>> = {
  single_stream: ['one request after the other', 'what one request computes, outputs read back'],
  multi_stream: ['eight requests at once', 'the time until the last of eight answers'],
  server: ['arrivals by chance at a rate', 'the time until an answer, from when it was to be sent'],
  cold_start: ['from a cold start', 'the time from the start until the first answer'],
  concurrent: ['one of each of the suite’s models at once in the same lane', 'the time until this model’s answer'],
  soak: ['one after the other for a long time', 'the median of what requests computed in an interval'],
  offline: ['thirty-two requests at once', 'the time until the last answer, over the number of requests'],
};

/** Of a scenario, and of what varies beside it: `server 20/s`. */
export function scenarioWords(asked: string): string {
  const [scenario = '', ...varied] = asked.split(' ');
  const words = SCENARIOS[scenario]?.[0] ?? scenario.replaceAll('_', ' ');
  return [words, ...(varied.length > 0 ? [varied.join(' ')] : [])].join(', ');
}

export function sampleWords(asked: string): string {
  return SCENARIOS[asked.split(' ')[0] ?? '']?.[1] ?? 'what the suite measures for this scenario';
}

const LETTERS = new Intl.Segmenter('en', { granularity: 'grapheme' });

export function letters(text: string): string[] {
  return Array.from(LETTERS.segment(text), ({ segment }) => segment);
}

/** No longer than `most`, with the start that tells it from others. */
export function shortened(text: string, most: number): string {
  const all = letters(text);
  return all.length <= most ? text : `${all.slice(0, most - 1).join('')}…`;
}

/** A name that any file system takes. */
export function fileName(...parts: readonly string[]): string {
  const plain = parts.join('-').replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[-.]+|-+$/g, '');
  return plain.slice(0, 120) || 'report';
}
