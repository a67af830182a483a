/** What cold starts are made of, lane by lane of each model, as bars of parts one after the other. */

import { axisX, axisY, barX, gridX, plot, text, tickX } from '@observablehq/plot';

import type { Measured } from '../document.ts';
import type { Chart } from '../figure.ts';
import { inkOn, type Theme } from '../palette.ts';
import { milliseconds } from '../words.ts';
import { labels, LETTER, look, svg } from './common.ts';
import { addLegend, type Entry, legendHeight } from './legend.ts';

const ROW = 25;

/** Okabe and Ito's; what is left of a part is grey. */
const COLOURS: Readonly<Partial<Record<string, string>>> = {
  launch: '#0072b2',
  page: '#56b4e9',
  import: '#009e73',
  compile: '#f0e442',
  fetch: '#cc79a7',
  create: '#e69f00',
  'first answer': '#d55e00',
};
const REST = '#8f99a3';

interface Line {
  /** What tells it from the others. */
  readonly key: string;
  readonly label: string;
  readonly row: Measured | null;
}

/** A model's name above its lanes, where there are several models. */
function lines(rows: readonly Measured[]): Line[] {
  const models = [...new Set(rows.map(({ cell }) => cell.model))];
  return models.flatMap((model) => [
    ...(models.length > 1 ? [{ key: model, label: model, row: null }] : []),
    ...rows.filter(({ cell }) => cell.model === model).map((row) => ({ key: `${model} ${row.lane}`, label: row.lane, row })),
  ]);
}

function segments(all: readonly Line[]): { key: string; part: string; from: number; to: number; colour: string; title: string }[] {
  return all.flatMap(({ key, label, row }) => {
    let to = 0;
    return (row?.shown.cold ?? []).map(({ name, median_us: us }) => {
      const from = to;
      to += us / 1000;
      return { key, part: name, from, to, colour: COLOURS[name] ?? REST, title: `${label}, ${name}: ${milliseconds(us)} ms` };
    });
  });
}

function draw(rows: readonly Measured[], width: number, theme: Theme): SVGElement {
  const all = lines(rows);
  const parts = segments(all);
  const totals = all.flatMap(({ key, row }) => row === null ? [] : [{ key, total: row.shown.figures.median.value / 1000 }]);
  const entries: Entry[] = [...new Map(parts.map(({ part, colour }) => [part, { label: part, colour }])).values()];
  const top = legendHeight(entries, width);
  const { margin, label } = labels(all.map((line) => line.label), width);
  const most = Math.max(...parts.map(({ to }) => to), ...totals.map(({ total }) => total));
  const pixels = (width - margin - 52) / most;
  const names = new Map(all.map((line) => [line.key, line]));
  const fits = parts.filter(({ from, to }) => (to - from) * pixels > milliseconds((to - from) * 1000).length * LETTER + 4);
  const ticks = width < 480 ? 4 : 8;
  const drawn = svg(plot({
    ...look(width, theme),
    height: all.length * ROW + top + 44,
    marginLeft: margin,
    marginRight: 52,
    marginTop: top,
    marginBottom: 40,
    x: { type: 'linear', domain: [0, most], axis: null },
    y: { type: 'band', domain: all.map(({ key }) => key), label: null, padding: 0.16 },
    color: { type: 'identity' },
    marks: [
      gridX({ ticks, stroke: theme.line, strokeOpacity: 1 }),
      axisX({ ticks, label: 'ms', labelOffset: 34 }),
      axisY({ tickSize: 0, label: null, text: (key: string) => names.get(key)?.row == null ? '' : label(names.get(key)?.label ?? '') }),
      text(all.filter(({ row }) => row === null), { y: 'key', text: 'label', frameAnchor: 'left', textAnchor: 'start', fontWeight: 'bold', fill: theme.ink }),
      barX(parts, { y: 'key', x1: 'from', x2: 'to', fill: 'colour', stroke: theme.paper, strokeWidth: 1, title: 'title' }),
      text(fits, { y: 'key', x: ({ from, to }: { from: number; to: number }) => (from + to) / 2, text: ({ from, to }: { from: number; to: number }) => milliseconds((to - from) * 1000), fill: ({ colour }: { colour: string }) => inkOn(colour), pointerEvents: 'none' }),
      tickX(totals, { y: 'key', x: 'total', stroke: theme.ink, strokeWidth: 2 }),
      text(totals, { y: 'key', x: 'total', text: ({ total }: { total: number }) => milliseconds(total * 1000), dx: 6, textAnchor: 'start', fill: theme.ink, fontWeight: 'bold' }),
    ],
  }));
  addLegend(drawn, entries, width, theme);
  return drawn;
}

export function coldStarts(what: string, rows: readonly Measured[]): Chart {
  return {
    title: `What it takes: ${what}`,
    caption: 'Medians of each part in milliseconds, in their order, as far as every start told them. The upright line and the number behind it: the median of the whole, until the first answer, which medians of parts do not add up to.',
    draw: (width, theme) => draw(rows, width, theme),
    table: () => ({
      columns: ['model', 'lane', 'part', 'median ms'],
      rows: rows.flatMap(({ cell, lane, shown }) => [
        ...shown.cold.map(({ name, median_us: us }) => [cell.model, lane, name, us / 1000] as const),
        [cell.model, lane, 'whole', shown.figures.median.value / 1000] as const,
      ]),
    }),
  };
}
