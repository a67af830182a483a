/** A model's lanes against the native one: the ratio of medians with its interval. */

import { dot, plot, ruleX, ruleY, text } from '@observablehq/plot';

import { type Measured } from '../document.ts';
import type { Chart } from '../figure.ts';
import { backendColour, type Theme } from '../palette.ts';
import { axis } from '../ticks.ts';
import { bounded, digits } from '../words.ts';
import { labels, look, svg, ticked } from './common.ts';

const ROW = 26;

export function margins(what: string, native: Measured, rows: readonly Measured[]): Chart {
  const points = rows.flatMap(({ lane, cell, shown: { over_native: ratio } }) =>
    ratio === null ? [] : [{ lane, backend: cell.backend, ...ratio }]);
  const draw = (width: number, theme: Theme): SVGElement => {
    const { margin, label } = labels(points.map(({ lane }) => lane), width);
    const { x, marks } = ticked(axis([1, ...points.flatMap(({ low, high }) => [low, high])], width < 480 ? 5 : 8), `multiple of ${native.lane}’s time`, theme);
    const coloured = points.map((point) => ({ ...point, colour: backendColour(point.backend, theme), said: bounded(point) }));
    return svg(plot({
      ...look(width, theme),
      height: points.length * ROW + 54,
      marginLeft: margin,
      marginRight: 34,
      marginTop: 8,
      marginBottom: 40,
      x,
      y: { domain: points.map(({ lane }) => lane), type: 'point', label: null, tickFormat: label, tickSize: 0, padding: 0.6 },
      color: { type: 'identity' },
      marks: [
        ...marks,
        ruleX([1], { stroke: theme.ink, strokeDasharray: '3,2' }),
        ruleY(coloured, { y: 'lane', x1: 'low', x2: 'high', stroke: 'colour', strokeWidth: 3 }),
        dot(coloured, { y: 'lane', x: 'value', fill: 'colour', r: 4.5, title: 'said' }),
        text(coloured, { y: 'lane', x: 'high', text: ({ value }: { value: number }) => digits(value), dx: 8, textAnchor: 'start', fill: theme.ink }),
      ],
    }));
  };
  return {
    title: `Against native: ${what}`,
    caption: `Median time over that of ${native.lane}, with its 95 % interval; right of the dashed line is slower.`,
    draw,
    table: () => ({
      columns: ['lane', 'multiple of native time', 'interval low', 'interval high'],
      rows: points.map(({ lane, value, low, high }) => [lane, value, low, high]),
    }),
  };
}
