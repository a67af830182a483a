/** Models against lanes, one number in each place. */

import { cell, plot, scale, type ScaleOptions, text } from '@observablehq/plot';

import type { Interval, Report, Row } from '../document.ts';
import type { Chart } from '../figure.ts';
import { inkOn, type Theme } from '../palette.ts';
import { digits, milliseconds, outcomeWord, range, scenarioWords } from '../words.ts';
import { labels, look, svg } from './common.ts';

export interface Measure {
  readonly name: string;
  readonly label: string;
  /** What the colours say. */
  readonly key: string;
  readonly of: (row: Row) => Interval | null;
  readonly text: (value: number) => string;
  /** What the interval is multiplied by to be in the unit that is shown. */
  readonly unit: number;
  readonly colours: (values: readonly number[]) => ScaleOptions;
}

function extent(values: readonly number[]): [number, number] {
  const [low, high] = values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, 0]);
  return low < high ? [low, high] : [low / 2, low * 2];
}

function amounts(values: readonly number[], reverse: boolean): ScaleOptions {
  return { type: 'log', scheme: 'cividis', domain: extent(values), reverse };
}

function ratios(values: readonly number[]): ScaleOptions {
  const far = Math.max(...extent(values).map((value) => Math.abs(Math.log(value))), Math.log(1.1));
  return { type: 'diverging-log', pivot: 1, scheme: 'puor', domain: [Math.exp(-far), Math.exp(far)], reverse: true };
}

export const MEASURES: readonly Measure[] = [
  {
    name: 'median',
    label: 'Median time, ms',
    key: 'Brighter is faster.',
    of: ({ shown }) => shown?.figures.median ?? null,
    text: milliseconds,
    unit: 1e-3,
    colours: (values) => amounts(values, true),
  },
  {
    name: 'native',
    label: 'Time as a multiple of native',
    key: 'Purple takes less time than the native lane, orange more; white takes the same.',
    of: ({ shown }) => shown?.over_native ?? null,
    text: digits,
    unit: 1,
    colours: ratios,
  },
  {
    name: 'rate',
    label: 'Requests per second',
    key: 'Brighter is more.',
    of: ({ shown }) => shown?.requests_per_second ?? null,
    text: digits,
    unit: 1,
    colours: (values) => amounts(values, false),
  },
];

interface Place {
  readonly model: string;
  readonly lane: string;
  readonly text: string;
  readonly title: string;
  readonly fill: string;
  readonly ink: string;
}

/** Room for a number or an outcome. */
const COLUMN_MIN = 54;
const ROW = 26;

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}

function places(rows: readonly Row[], measure: Measure, theme: Theme): Place[] {
  const values = rows.map(measure.of).filter((value) => value !== null);
  const colour = values.length === 0 ? null : scale({ color: measure.colours(values.map(({ value }) => value)) });
  return rows.map((row) => {
    const { cell: { model, outcome, reason }, lane } = row;
    const value = measure.of(row);
    if (value === null || colour === null) {
      const word = outcome === 'ok' ? '–' : outcomeWord(outcome);
      const title = [`${model} in ${lane}: ${word}`, reason].filter(Boolean).join(': ');
      return { model, lane, text: word, title, fill: theme.empty, ink: theme.faint };
    }
    const fill = String(colour.apply(value.value));
    const title = `${model} in ${lane}: ${measure.text(value.value)}, 95 % interval ${range(value, measure.unit)}`;
    return { model, lane, text: measure.text(value.value), title, fill, ink: inkOn(fill) };
  });
}

function draw(rows: readonly Row[], measure: Measure, width: number, theme: Theme): SVGElement {
  const all = places(rows, measure, theme);
  const [models, lanes] = [unique(all.map(({ model }) => model)), unique(all.map(({ lane }) => lane))];
  // The fewer are the columns, so that a phone shows them side by side.
  const [across, along] = models.length < lanes.length ? (['model', 'lane'] as const) : (['lane', 'model'] as const);
  const [columns, lines] = across === 'model' ? [models, lanes] : [lanes, models];
  const left = labels(lines, width);
  const top = labels(columns, width);
  const column = Math.max(COLUMN_MIN, Math.min(200, (width - left.margin - 8) / columns.length));
  const upright = top.margin - 8 > column;
  const marginTop = upright ? top.margin : 26;
  return svg(plot({
    ...look(Math.round(left.margin + columns.length * column + 8), theme),
    height: marginTop + lines.length * ROW + 6,
    marginLeft: left.margin,
    marginTop,
    marginRight: 8,
    marginBottom: 6,
    x: { domain: columns, axis: 'top', label: null, tickFormat: top.label, tickRotate: upright ? -90 : 0, tickSize: 0, padding: 0.03 },
    y: { domain: lines, label: null, tickFormat: left.label, tickSize: 0, padding: 0.06 },
    color: { type: 'identity' },
    marks: [
      cell(all, { x: across, y: along, fill: 'fill', title: 'title', rx: 2 }),
      text(all, { x: across, y: along, text: 'text', fill: 'ink', pointerEvents: 'none', fontSize: 11.5 }),
    ],
  }));
}

export function heat(report: Report, rows: readonly Row[], scenario: string, measure: Measure): Chart {
  // What the suite leaves out everywhere is no lane of it.
  const there = new Set(rows.filter(({ cell }) => cell.outcome !== 'excluded').map(({ lane }) => lane));
  const shown = rows.filter(({ cell, lane }) => cell.scenario === scenario && there.has(lane));
  const { suite } = report.results;
  return {
    title: `${measure.label}: ${scenarioWords(scenario)}`,
    caption: `${measure.key} Colours are logarithmic. Of ${suite}, by model and lane.`,
    draw: (width, theme) => draw(shown, measure, width, theme),
    table: () => ({
      columns: ['model', 'lane', 'scenario', 'outcome', 'reason', measure.label, 'interval low', 'interval high'],
      rows: shown.map((row) => {
        const value = measure.of(row);
        const of = (bound: keyof Interval): number | null => (value === null ? null : value[bound] * measure.unit);
        const { model, outcome, reason } = row.cell;
        return [model, row.lane, scenario, outcome, reason, of('value'), of('low'), of('high')];
      }),
    }),
  };
}
