/** What the margins recommend, in sentences; only those whose interval leaves out one. */

import { caveats, type Fastest, type Group, type Report, row } from './document.ts';
import { bounded, digits, range, scenarioWords } from './words.ts';

export interface Advice {
  readonly recommended: readonly string[];
  /** Lanes that the samples do not tell apart. */
  readonly undecided: readonly string[];
}

function named(report: Report, at: number): string {
  const found = row(report, at);
  const notes = caveats(report, found);
  return notes.length === 0 ? found.lane : `${found.lane} (${notes.join(', ')})`;
}

function said(report: Report, group: Group, { cell, next }: Fastest, among: string): [keyof Advice, string] | null {
  if (next === null) {
    return null;
  }
  const what = `${group.model}, ${scenarioWords(group.scenario)}`;
  const [first, second] = [named(report, cell), named(report, next.cell)];
  if (next.ratio.low > 1) {
    const margin = `${digits(next.ratio.value)} times as long (95 % interval ${range(next.ratio)})`;
    return ['recommended', `${what}: ${among} use ${first}. The next, ${second}, takes ${margin}.`];
  }
  const ratio = `${bounded(next.ratio)} times its time`;
  return ['undecided', `${what}: ${among} ${first} is the fastest by its median, and ${second} takes ${ratio}.`];
}

export function advice(report: Report): Advice {
  const told: Record<keyof Advice, string[]> = { recommended: [], undecided: [] };
  for (const group of report.groups) {
    const { of_all: all, of_browsers: browsers } = group;
    const same = all?.cell === browsers?.cell && all?.next?.cell === browsers?.next?.cell;
    const pairs = [
      all === null ? null : said(report, group, all, 'of all lanes'),
      browsers === null || same ? null : said(report, group, browsers, 'of the browsers'),
    ];
    for (const pair of pairs) {
      if (pair !== null) {
        told[pair[0]].push(pair[1]);
      }
    }
  }
  return told;
}
