/** How each lane warmed up: the first samples, as multiples of the median that it came to. */

import { axisY, dot, gridY, line, plot, ruleX, ruleY } from '@observablehq/plot';

import type { Measured } from '../document.ts';
import type { Chart } from '../figure.ts';
import { backendColour, type Theme } from '../palette.ts';
import { thinned } from '../thin.ts';
import { axis } from '../ticks.ts';
import { tickWord } from '../words.ts';
import { labels, look, svg } from './common.ts';

/** Measured samples that are drawn after a warm-up, and samples of a warm-up. */
const AFTER = 20;
const BEFORE = 200;
const ROW = 62;

interface Point {
  readonly lane: string;
  readonly colour: string;
  readonly x: number;
  readonly y: number;
  readonly measured: boolean;
}

function points({ lane, cell, shown }: Measured, theme: Theme): Point[] {
  const median = shown.figures.median.value;
  const colour = backendColour(cell.backend, theme);
  const before = cell.warm_up_us.length;
  const point = (at: number, us: number, measured: boolean): Point =>
    ({ lane, colour, x: at + 1, y: us / median, measured });
  return [
    ...thinned(before, BEFORE).map((at) => point(at, cell.warm_up_us[at] ?? 0, false)),
    ...cell.samples_us.slice(0, AFTER).map((us, at) => point(before + at, us, true)),
  ].filter(({ y }) => y > 0);
}

function draw(rows: readonly Measured[], width: number, theme: Theme): SVGElement {
  const lanes = rows.map(({ lane }) => lane);
  const { margin, label } = labels(lanes, width);
  const all = rows.flatMap((row) => points(row, theme));
  const y = axis([1, ...all.map((point) => point.y)], 3);
  const ticks = y.ticks === null ? 3 : [...y.ticks];
  const ends = rows.map(({ lane, cell }) => ({ lane, x: cell.warm_up_us.length + 0.5 }));
  return svg(plot({
    ...look(width, theme),
    height: rows.length * ROW + 46,
    marginLeft: margin,
    marginRight: 36,
    marginTop: 8,
    marginBottom: 36,
    x: { label: 'sample', ticks: width < 480 ? 4 : 8, nice: false },
    y: { type: y.type, domain: y.domain, axis: null },
    fy: { domain: lanes, axis: 'left', label: null, tickFormat: label, padding: 0.18 },
    color: { type: 'identity' },
    marks: [
      gridY({ ticks, stroke: theme.line, strokeOpacity: 1 }),
      axisY({ anchor: 'right', ticks, text: (tick: number) => `${tickWord(tick)}×`, label: null }),
      ruleY([1], { stroke: theme.faint, strokeDasharray: '3,2' }),
      ruleX(ends, { fy: 'lane', x: 'x', stroke: theme.faint }),
      line(all, { fy: 'lane', x: 'x', y: 'y', z: 'lane', stroke: 'colour', strokeWidth: 1.4 }),
      dot(all.filter(({ measured }) => !measured), { fy: 'lane', x: 'x', y: 'y', fill: 'colour', r: 2.6 }),
      dot(all.filter(({ measured }) => measured), { fy: 'lane', x: 'x', y: 'y', stroke: 'colour', fill: theme.paper, r: 2.2 }),
    ],
  }));
}

export function warmUp(what: string, rows: readonly Measured[]): Chart {
  const thin = rows.some(({ cell }) => cell.warm_up_us.length > BEFORE)
    ? ` Of longer warm-ups ${BEFORE} samples are drawn, evenly over all.`
    : '';
  return {
    title: `Warm-up: ${what}`,
    caption: `Samples in their order, as multiples of the lane’s median. Filled: thrown away; hollow, right of the line: the first ${AFTER} that count.${thin}`,
    draw: (width, theme) => draw(rows, width, theme),
    table: () => ({
      columns: ['lane', 'sample', 'ms', 'counts'],
      rows: rows.flatMap(({ lane, cell }) => [
        ...cell.warm_up_us.map((us, at) => [lane, at + 1, us / 1000, false] as const),
        ...cell.samples_us.map((us, at) => [lane, cell.warm_up_us.length + at + 1, us / 1000, true] as const),
      ]),
    }),
  };
}
