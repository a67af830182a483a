/** The parts of the page that are read: what was measured, where, and what came out. */

import { advice } from './advice.ts';
import { caveats, type Group, isMeasured, type Outcome, type Report, type Row, row } from './document.ts';
import { element } from './dom.ts';
import { type Column, plain, table } from './table.ts';
import {
  bounded, commitWords, digits, duration, gibibytes, milliseconds, moment, outcomeWord, range, sampleWords, scenarioWords,
} from './words.ts';

const OUTCOMES: readonly Outcome[] = ['ok', 'wrong', 'failed', 'timed_out', 'skipped', 'excluded'];

export function head({ results }: Report): HTMLElement {
  const { environment: machine, cells } = results;
  const state = results.complete
    ? element('span', { class: 'state' }, 'complete')
    : element('span', { class: 'state partial' }, 'partial');
  const counts = OUTCOMES.flatMap((outcome) => {
    const count = cells.filter((cell) => cell.outcome === outcome).length;
    return count === 0 ? [] : [element('li', { class: outcome }, element('b', {}, String(count)), ` ${outcomeWord(outcome)}`)];
  });
  const warnings = [
    ...(results.complete ? [] : ['This result is partial: the run was interrupted or its budget ended, so not every cell had its turn.']),
    ...results.warnings,
  ];
  return element('header', {},
    element('p', { class: 'kind' }, 'weft benchmark report'),
    element('h1', {}, results.suite, ' ', state),
    element('p', {}, `${moment(results.started_at_us)}, ${duration(results.ended_at_us - results.started_at_us)} · ${machine.processor}, ${machine.cores} cores · weft ${machine.weft}, ${commitWords(machine.commit)} · ${results.id}`),
    element('ul', { class: 'counts', 'aria-label': 'Cells' }, ...counts),
    ...(warnings.length === 0 ? [] : [element('aside', { 'aria-label': 'Warnings' },
      element('ul', {}, ...warnings.map((warning) => element('li', {}, warning))))]));
}

/** A group whose fastest lane is known. */
function fastestColumns(report: Report): Column<Group>[] {
  const all = ({ of_all: fastest }: Group): Row | null => (fastest === null ? null : row(report, fastest.cell));
  const browser = ({ of_browsers: fastest }: Group): Row | null => (fastest === null ? null : row(report, fastest.cell));
  const next = ({ of_all: fastest }: Group): Row | null => (fastest?.next == null ? null : row(report, fastest.next.cell));
  const noted = (found: Row | null): string => (found === null ? '–' : [found.lane, ...caveats(report, found)].join(', '));
  const median = (found: Row | null): string => {
    const figures = found?.shown?.figures;
    return figures === undefined ? '–' : bounded(figures.median, 1e-3);
  };
  return [
    { name: 'Model', value: ({ model }) => model },
    { name: 'Requests', value: ({ scenario }) => scenarioWords(scenario) },
    { name: 'Fastest lane', value: (group) => all(group)?.lane ?? null, text: (group) => noted(all(group)) },
    { name: 'Median, ms (95 %)', value: (group) => all(group)?.shown?.figures.median.value ?? null, text: (group) => median(all(group)) },
    { name: 'Next lane', value: (group) => next(group)?.lane ?? null, text: (group) => noted(next(group)) },
    {
      name: 'Its time, times the fastest’s (95 %)',
      value: ({ of_all: fastest }) => fastest?.next?.ratio.value ?? null,
      text: ({ of_all: fastest }) => (fastest?.next == null ? '–' : bounded(fastest.next.ratio)),
    },
    { name: 'Fastest in a browser', value: (group) => browser(group)?.lane ?? null, text: (group) => noted(browser(group)) },
    { name: 'The browser’s median, ms (95 %)', value: (group) => browser(group)?.shown?.figures.median.value ?? null, text: (group) => median(browser(group)) },
    {
      name: 'Its time, times native’s (95 %)',
      value: (group) => browser(group)?.shown?.over_native?.value ?? null,
      text: (group) => {
        const ratio = browser(group)?.shown?.over_native ?? null;
        return ratio === null ? '–' : bounded(ratio);
      },
    },
  ];
}

export function overview(report: Report): HTMLElement[] {
  const { recommended, undecided } = advice(report);
  const list = (sentences: readonly string[]): HTMLElement =>
    element('ul', {}, ...sentences.map((sentence) => element('li', {}, sentence)));
  return [
    table('Fastest lanes', fastestColumns(report), report.groups),
    element('h3', {}, 'Recommendations'),
    recommended.length === 0 ? element('p', {}, 'None: no lane is ahead of the next by more than chance.') : list(recommended),
    ...(undecided.length === 0 ? [] : [element('h3', {}, 'Not told apart by these samples'), list(undecided)]),
  ];
}

export function absent(report: Report): HTMLElement[] {
  const rows = report.results.cells.map((_, at) => row(report, at)).filter(({ cell }) => cell.outcome !== 'ok');
  rows.sort((a, b) => OUTCOMES.indexOf(a.cell.outcome) - OUTCOMES.indexOf(b.cell.outcome));
  if (rows.length === 0) {
    return [element('p', {}, 'Every cell was measured, and right.')];
  }
  const columns: Column<Row>[] = [
    { name: 'Outcome', value: ({ cell }) => outcomeWord(cell.outcome) },
    { name: 'Model', value: ({ cell }) => cell.model },
    { name: 'Lane', value: ({ lane }) => lane },
    { name: 'Requests', value: ({ cell }) => scenarioWords(cell.scenario) },
    { name: 'Reason', value: ({ cell }) => cell.reason },
    { name: 'Samples kept', value: ({ cell }) => cell.samples_us.length },
  ];
  return [table('Cells that were not measured or not right', columns, rows)];
}

export function environment({ results }: Report): HTMLElement[] {
  const { environment: machine, calibration_us: [before, after] } = results;
  const places = Object.entries(machine.places);
  return [
    plain(['Machine', ''], [
      ['Processor', `${machine.processor}, ${machine.cores} cores`],
      ['Memory', gibibytes(machine.memory_bytes)],
      ['Kernel', machine.kernel],
      ['Limit of processor time', machine.cpu_limit ?? 'none'],
      ['Limit of memory', machine.memory_limit ?? 'none'],
      ['The same work before and after', `${milliseconds(before)} ms and ${milliseconds(after)} ms`],
      ['The same bytes copied, best of nine', results.copied === undefined ? 'not measured' : `${digits(results.copied / 1e9)} GB/s read and written`],
      ['weft', `${machine.weft}, ${machine.commit === 'unknown' ? commitWords(machine.commit) : `commit ${machine.commit}`}`],
      ['Suite', `${results.suite}, SHA-256 ${results.suite_sha256}`],
    ]),
    plain(['Lane', 'Browser', 'Engine', 'Threads', 'Adapter', 'Sandbox', 'GPU flags'], places.map(([lane, place]) => [
      lane,
      place.browser_version ?? '–',
      place.engine,
      String(place.threads),
      place.software_adapter ? `${place.adapter ?? ''} (software)`.trim() : (place.adapter ?? '–'),
      place.sandbox === null ? '–' : place.sandbox ? 'on' : 'off',
      place.gpu ?? '–',
    ])),
  ];
}

export function cells(report: Report): HTMLElement[] {
  const time = (name: string, of: (shown: NonNullable<Row['shown']>) => number | null): Column<Row> => ({
    name,
    value: ({ shown }) => {
      const us = shown === null ? null : of(shown);
      return us === null ? null : us / 1000;
    },
    text: ({ shown }) => {
      const us = shown === null ? null : of(shown);
      return us === null ? '–' : milliseconds(us);
    },
  });
  const count = (name: string, of: (shown: NonNullable<Row['shown']>) => number): Column<Row> =>
    ({ name, value: ({ shown }) => (shown === null ? null : of(shown)), text: ({ shown }) => (shown === null ? '–' : String(of(shown))) });
  const columns: Column<Row>[] = [
    { name: 'Model', value: ({ cell }) => cell.model },
    { name: 'Lane', value: ({ lane }) => lane },
    { name: 'Requests', value: ({ cell }) => scenarioWords(cell.scenario) },
    { name: 'Outcome', value: ({ cell }) => outcomeWord(cell.outcome), text: ({ cell, shown }) => (shown !== null && !cell.warm ? 'right, was still warming up' : outcomeWord(cell.outcome)) },
    time('Median, ms', ({ figures }) => figures.median.value),
    {
      name: '95 % interval, ms',
      value: ({ shown }) => (shown === null ? null : shown.figures.median.low / 1000),
      text: ({ shown }) => (shown === null ? '–' : range(shown.figures.median, 1e-3)),
    },
    time('90th percentile, ms', ({ figures }) => figures.p90),
    time('99th percentile, ms', ({ figures }) => figures.p99),
    time('Least, ms', ({ figures }) => figures.min),
    time('Greatest, ms', ({ figures }) => figures.max),
    count('Samples', ({ figures }) => figures.samples),
    count('Outliers', ({ figures }) => figures.outliers),
    { name: 'Error', value: ({ cell }) => cell.error, text: ({ cell }) => (cell.error === null ? '–' : digits(cell.error)) },
    { name: 'Tolerance', value: ({ cell }) => cell.tolerance, text: ({ cell }) => digits(cell.tolerance) },
  ];
  return [table('Cells', columns, report.results.cells.map((_, at) => row(report, at)))];
}

export function method(report: Report): HTMLElement[] {
  const scenarios = [...new Set(report.results.cells.map(({ scenario }) => scenario))];
  const terms = (pairs: readonly (readonly [string, string])[]): HTMLElement =>
    element('dl', {}, ...pairs.flatMap(([term, text]) => [element('dt', {}, term), element('dd', {}, text)]));
  return [
    terms([
      ...scenarios.map((name) => [name, `${scenarioWords(name)}; a sample is ${sampleWords(name)}`] as const),
      ['Right', 'Every answer was compared with the native lane’s. Error is the greatest difference as a share of the largest value; only cells within the tolerance have figures.'],
      ['Intervals', 'Of 95 %, by bootstrap of the samples. A 90th percentile is shown from 64 samples on, a 99th from 662.'],
      ['Order', 'Lanes of one model were measured in turns of random order, so that what disturbed the machine disturbed all of them.'],
      ['Warm-up', 'Its samples are thrown away and kept in the document.'],
      ['Outliers', 'Beyond Tukey’s fences, a distance and a half between the quartiles. They are shown and count.'],
    ]),
    element('h3', {}, 'What these numbers do not say'),
    element('ul', {},
      element('li', {}, 'One machine, one run: samples of a run are more alike than those of two, so intervals are narrower than the difference from day to day.'),
      element('li', {}, 'The fastest of many lanes is picked by the same samples that its margin is computed of, which favours it a little; each interval stands alone, uncorrected for how many there are.'),
      element('li', {}, 'A lane on a software adapter says nothing of a GPU.'),
      element('li', {}, 'Native is ONNX Runtime of the daemon’s own process, with the threads that the table of lanes shows.')),
    element('p', {}, 'More in weft’s documents: “How it is measured” and “Two results” in docs/benchmarks.md, and docs/bias.md, which says what is favoured and what to distrust. Charts: cividis for amounts, PuOr for ratios, Okabe and Ito’s colours for backends, told apart by people who are colour-blind; nothing is told by colour alone.'),
  ];
}

/** Whether the group has anything to draw. */
export function drawable(report: Report, group: Group): boolean {
  return group.cells.some((at) => isMeasured(row(report, at)));
}
