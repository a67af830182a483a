/** What the charts share: texts' widths, labels of lanes, the look. */

import { axisX, gridX, type Markish, type PlotOptions } from '@observablehq/plot';

import type { Theme } from '../palette.ts';
import type { Axis } from '../ticks.ts';
import { letters, shortened, tickWord } from '../words.ts';

/** The width of a letter, about, at the size of the charts' text. */
export const LETTER = 7;

/** On a narrow page labels leave room for what they label. */
export function labels(names: readonly string[], width: number): { margin: number; label: (name: string) => string } {
  const most = width < 480 ? 21 : 34;
  const longest = Math.max(0, ...names.map((name) => letters(shortened(name, most)).length));
  return { margin: Math.ceil(longest * LETTER) + 14, label: (name) => shortened(name, most) };
}

export function look(width: number, theme: Theme): PlotOptions {
  return {
    width,
    style: {
      background: 'transparent',
      color: theme.ink,
      fontFamily: 'system-ui, sans-serif',
      fontSize: '11px',
      overflow: 'visible',
    },
  };
}

/** A horizontal axis whose ticks all have their number: the library leaves some out where they are logarithmic. */
export function ticked(axis: Axis, label: string, theme: Theme): { x: object; marks: Markish[] } {
  const ticks = axis.ticks === null ? 5 : [...axis.ticks];
  return {
    x: { type: axis.type, domain: axis.domain, axis: null },
    marks: [
      gridX({ ticks, stroke: theme.line, strokeOpacity: 1 }),
      axisX({ ticks, text: (tick: number) => tickWord(tick), label, labelOffset: 34 }),
    ],
  };
}

/** A single chart is an SVG element, without the frame that the library puts around several. */
export function svg(drawn: SVGSVGElement | HTMLElement): SVGElement {
  if (!(drawn instanceof SVGElement)) {
    throw new Error('the chart is no SVG');
  }
  return drawn;
}
