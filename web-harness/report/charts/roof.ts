/** How fast cells compute over how much they compute of each byte: below which roof they are. */

import { axisX, axisY, dot, gridX, gridY, line, plot, ruleX, text } from '@observablehq/plot';

import type { Measured, Report } from '../document.ts';
import type { Chart } from '../figure.ts';
import { backendColour, type Theme } from '../palette.ts';
import { logTicks } from '../ticks.ts';
import { digits, range, scenarioWords, tickWord } from '../words.ts';
import { look, svg } from './common.ts';
import { addLegend, type Entry, legendHeight } from './legend.ts';

/** A shape for each backend, around its middle, beside its colour. */
const SHAPES: Readonly<Partial<Record<string, readonly [string, string]>>> = {
  wasm: ['circle', 'M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0'],
  webgpu: ['square', 'M-4.5 -4.5h9v9h-9z'],
  webnn: ['triangle', 'M0 -5.5L5.5 4.5H-5.5z'],
  'weft-wasm': ['cross', 'M-5 -1.7h3.3v-3.3h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3z'],
  'weft-wgsl': ['wye', 'M-1.6 5V1L-5 -1.2L-3.4 -4L0 -1.8L3.4 -4L5 -1.2L1.6 1V5z'],
};
const NATIVE: readonly [string, string] = ['diamond', 'M0 -6L4.5 0L0 6L-4.5 0z'];

const GIGA = 1e9;

/** More would lie on each other, and take a second to draw. */
const POINTS_MAX = 1000;

interface Point {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
  readonly model: string;
  readonly lane: string;
  readonly asked: string;
  readonly backend: string;
  readonly symbol: string;
}

function point({ cell, lane, shown }: Measured): Point[] {
  if (shown.attained === null) {
    return [];
  }
  const { intensity, flops_per_second: { value, low, high } } = shown.attained;
  const symbol = (SHAPES[cell.backend] ?? NATIVE)[0];
  return [{
    x: intensity, y: value / GIGA, low: low / GIGA, high: high / GIGA, model: cell.model, lane, asked: cell.scenario,
    backend: cell.backend, symbol,
  }];
}

/** All of them, or of many those that come the highest of each model's lane. */
function drawable(points: readonly Point[]): readonly Point[] {
  if (points.length <= POINTS_MAX) {
    return points;
  }
  const highest = new Map<string, Point>();
  for (const point of points) {
    const lane = JSON.stringify([point.model, point.lane]);
    if (point.y > (highest.get(lane)?.y ?? 0)) {
      highest.set(lane, point);
    }
  }
  return [...highest.values()];
}

function legendOf(points: readonly Point[], theme: Theme): Entry[] {
  return [...new Set(points.map(({ backend }) => backend))].map((backend) =>
    ({ label: backend, colour: backendColour(backend, theme), shape: (SHAPES[backend] ?? NATIVE)[1] }));
}

/** Names of models above their highest points, those that would lie on each other left out. */
function named(points: readonly Point[], across: (x: number) => number): Point[] {
  const highest = new Map<string, Point>();
  for (const point of points) {
    if (point.y > (highest.get(point.model)?.y ?? 0)) {
      highest.set(point.model, point);
    }
  }
  const kept: Point[] = [];
  for (const point of [...highest.values()].sort((a, b) => b.y - a.y)) {
    const apart = ({ x, model }: Point): boolean =>
      Math.abs(across(x) - across(point.x)) > (model.length + point.model.length) * 3.4 + 6;
    if (kept.every((other) => apart(other) || Math.abs(Math.log10(other.y / point.y)) > 0.3)) {
      kept.push(point);
    }
  }
  return kept;
}

function draw(points: readonly Point[], { copied, highest }: Roofs, width: number, theme: Theme): SVGElement {
  const [left, right] = [54, 20];
  const spread = (values: readonly number[], by: number): [number, number] => [Math.min(...values) / by, Math.max(...values) * by];
  const ridge = copied === null || highest === null ? null : highest / copied;
  const xs = spread([...points.map(({ x }) => x), ...(ridge === null ? [] : [ridge])], 2);
  const ys = spread([...points.flatMap(({ low, high }) => [low, high]), ...(highest === null ? [] : [highest])], 1.9);
  const entries = legendOf(points, theme);
  // The upright axis is named between the legend and the chart.
  const top = legendHeight(entries, width) + 24;
  const across = (x: number): number => Math.log(x / xs[0]) / Math.log(xs[1] / xs[0]) * (width - left - right);
  const coloured = points.map((point) => ({
    ...point,
    colour: backendColour(point.backend, theme),
    title: `${point.model} in ${point.lane}, ${scenarioWords(point.asked)}: ${digits(point.y)} (${range(point)}) GFLOP/s at ${digits(point.x)} FLOP per byte`,
  }));
  // Of the memory's roof only what is below the other and within the chart.
  const from = copied === null ? 0 : Math.max(xs[0], ys[0] / copied);
  const roofs = copied === null || ridge === null || highest === null
    ? highest === null ? [] : [{ x: xs[0], y: highest }, { x: xs[1], y: highest }]
    : [{ x: from, y: from * copied }, { x: ridge, y: highest }, { x: xs[1], y: highest }];
  const [xTicks, yTicks] = [logTicks(...xs, width < 480 ? 5 : 9), logTicks(...ys, 7)];
  const word = (tick: number): string => tickWord(tick);
  const drawn = svg(plot({
    ...look(width, theme),
    height: Math.min(460, Math.max(320, width * 0.55)) + top,
    marginLeft: left,
    marginRight: right,
    marginTop: top,
    marginBottom: 42,
    x: { type: 'log', domain: xs, axis: null },
    y: { type: 'log', domain: ys, axis: null },
    color: { type: 'identity' },
    marks: [
      gridX({ ticks: xTicks, stroke: theme.line, strokeOpacity: 1 }),
      gridY({ ticks: yTicks, stroke: theme.line, strokeOpacity: 1 }),
      axisX({ ticks: xTicks, text: word, label: 'FLOP per byte', labelOffset: 36 }),
      axisY({ ticks: yTicks, text: word, label: null }),
      text(['↑ GFLOP/s'], { frameAnchor: 'top-left', dx: 4 - left, dy: -18, textAnchor: 'start', fill: theme.ink }),
      line(roofs, { x: 'x', y: 'y', stroke: theme.ink, strokeWidth: 1.5, strokeDasharray: '6,3' }),
      ruleX(coloured, { x: 'x', y1: 'low', y2: 'high', stroke: 'colour', strokeWidth: 2 }),
      dot(coloured, { x: 'x', y: 'y', fill: 'colour', symbol: 'symbol', r: 5, stroke: theme.paper, title: 'title' }),
      text(named(points, across), { x: 'x', y: 'y', text: 'model', dy: -11, fill: theme.ink, stroke: theme.paper, strokeWidth: 3 }),
    ],
  }));
  addLegend(drawn, entries, width, theme);
  return drawn;
}

/** In units of 10⁹ per second. */
interface Roofs {
  readonly copied: number | null;
  readonly highest: number | null;
}

function roofWords({ copied, highest }: Roofs): string {
  if (highest === null) {
    return '';
  }
  const top = `${digits(highest)} GFLOP/s, the most that a cell here came to`;
  return copied === null
    ? `The dashed line is ${top}; how fast the machine copies was not measured, so there is no roof of the memory.`
    : `The dashed lines are what was measured here: ${digits(copied)} GB/s of copies in all cores, and ${top}. Below the slanted one a cell waits for the memory rather than for the processor; above it, what it moves stays in caches.`;
}

/** Null where nothing tells what requests take. */
export function roofline(report: Report, rows: readonly Measured[]): Chart | null {
  const points = rows.flatMap(point);
  if (points.length === 0) {
    return null;
  }
  const { copied } = report.results;
  const roofs = { copied: copied === undefined ? null : copied / GIGA, highest: report.highest === null ? null : report.highest / GIGA };
  const partly = new Set(rows.filter(({ cell: { work } }) => work !== undefined && work.known < work.nodes).map(({ cell }) => cell.model));
  const unknown = partly.size === 0 ? '' : ` Not all nodes are known of ${[...partly].join(', ')}, which compute more than is shown.`;
  const shown = drawable(points);
  const few = shown.length === points.length ? '' : ` Of ${points.length} cells the highest of each model in each lane is drawn; the data has all.`;
  return {
    title: 'Computing and memory',
    caption: `Operations per second over operations per byte, both logarithmic. Operations and bytes are counted from the graph: weights once, and what its nodes read and write. ${roofWords(roofs)}${unknown}${few}`,
    draw: (width, theme) => draw(shown, roofs, width, theme),
    table: () => ({
      columns: ['model', 'lane', 'scenario', 'FLOP per byte', 'GFLOP/s', 'interval low', 'interval high'],
      rows: points.map(({ model, lane, asked, x, y, low, high }) => [model, lane, asked, x, y, low, high]),
    }),
  };
}
