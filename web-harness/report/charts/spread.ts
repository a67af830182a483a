/** How a model's samples are distributed in each lane. */

import { dot, plot, rect, ruleX, ruleY } from '@observablehq/plot';

import type { Measured } from '../document.ts';
import type { Chart } from '../figure.ts';
import { backendColour, type Theme } from '../palette.ts';
import { across, thinned } from '../thin.ts';
import { axis } from '../ticks.ts';
import { labels, look, svg, ticked } from './common.ts';

/** Drawn of each lane, in samples; more only fill the strip. */
const DRAWN_MAX = 300;
const ROW = 50;

const ms = (us: number): number => us / 1000;

/** Places of a lane's samples that are drawn: its outliers, and others evenly. */
function drawn({ cell, shown }: Measured): { at: number; outlier: boolean }[] {
  const outliers = new Set(shown.outliers);
  const inner = cell.samples_us.map((_, at) => at).filter((at) => !outliers.has(at));
  const pick = (places: readonly number[], most: number): number[] =>
    thinned(places.length, most).flatMap((at) => places[at] ?? []);
  return [
    ...pick(inner, DRAWN_MAX).map((at) => ({ at, outlier: false })),
    ...pick(shown.outliers, DRAWN_MAX).map((at) => ({ at, outlier: true })),
  ];
}

function draw(rows: readonly Measured[], width: number, theme: Theme): SVGElement {
  const lanes = rows.map(({ lane }) => lane);
  const { margin, label } = labels(lanes, width);
  const ends = axis(rows.flatMap(({ shown: { figures } }) => [ms(figures.min), ms(figures.max)]), width < 480 ? 5 : 10);
  const { x, marks } = ticked(ends, 'ms', theme);
  const boxes = rows.map(({ lane, cell, shown: { figures, quartiles, whiskers } }) => ({
    lane,
    colour: backendColour(cell.backend, theme),
    first: ms(quartiles[0]),
    third: ms(quartiles[1]),
    low: ms(whiskers[0]),
    high: ms(whiskers[1]),
    median: ms(figures.median.value),
  }));
  const points = rows.flatMap((row) =>
    drawn(row).map(({ at, outlier }) => ({
      lane: row.lane,
      outlier,
      colour: backendColour(row.cell.backend, theme),
      x: ms(row.cell.samples_us[at] ?? 0),
      y: 0.04 + 0.38 * across(at),
    })));
  return svg(plot({
    ...look(width, theme),
    height: rows.length * ROW + 46,
    marginLeft: margin,
    marginRight: 16,
    marginTop: 4,
    marginBottom: 36,
    x,
    y: { domain: [0, 1], axis: null },
    fy: { domain: lanes, axis: 'left', label: null, tickFormat: label, padding: 0.12 },
    color: { type: 'identity' },
    marks: [
      ...marks,
      ruleY(boxes, { fy: 'lane', y: () => 0.72, x1: 'low', x2: 'high', stroke: 'colour', strokeWidth: 1.5 }),
      rect(boxes, { fy: 'lane', x1: 'first', x2: 'third', y1: () => 0.52, y2: () => 0.92, fill: 'colour', fillOpacity: 0.35, stroke: 'colour' }),
      ruleX(boxes, { fy: 'lane', x: 'median', y1: () => 0.46, y2: () => 0.98, stroke: theme.ink, strokeWidth: 2 }),
      dot(points.filter(({ outlier }) => !outlier), { fy: 'lane', x: 'x', y: 'y', r: 1.8, fill: 'colour', fillOpacity: 0.6 }),
      dot(points.filter(({ outlier }) => outlier), { fy: 'lane', x: 'x', y: 'y', r: 2.6, symbol: 'times', stroke: theme.ink, strokeWidth: 1.2 }),
    ],
  }));
}

export function spread(what: string, sample: string, rows: readonly Measured[]): Chart {
  const most = Math.max(...rows.map(({ shown }) => shown.figures.samples));
  const partly = most > DRAWN_MAX
    ? ` Drawn are at most ${DRAWN_MAX} samples and as many outliers of a lane, evenly over all; the boxes are of all.`
    : '';
  return {
    title: `Samples: ${what}`,
    caption: `A sample is ${sample}. Line: median; box: the middle half; whiskers: to Tukey’s fences; crosses: outliers, which count.${partly}`,
    draw: (width, theme) => draw(rows, width, theme),
    table: () => ({
      columns: ['lane', 'sample', 'ms', 'outlier'],
      rows: rows.flatMap(({ lane, cell, shown }) => {
        const outliers = new Set(shown.outliers);
        return cell.samples_us.map((us, at) => [lane, at + 1, ms(us), outliers.has(at)] as const);
      }),
    }),
  };
}
