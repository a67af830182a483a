/** What colours and shapes mean, within the chart, so that exports have it too. */

import type { Theme } from '../palette.ts';
import { letters } from '../words.ts';
import { LETTER } from './common.ts';

const SVG = 'http://www.w3.org/2000/svg';

/** Of a line of entries, of an entry's mark, and between entries. */
const LINE = 18;
const MARK = 16;
const GAP = 14;

export interface Entry {
  readonly label: string;
  readonly colour: string;
  /** A path around the middle of the mark; a square without it. */
  readonly shape?: string;
}

/** Where entries of these words stand, one after the other while there is room. */
export function legendPlaces(words: readonly string[], width: number): { x: number; y: number }[] {
  let [x, y] = [0, 0];
  return words.map((word) => {
    const wide = MARK + letters(word).length * LETTER;
    if (x > 0 && x + wide > width) {
      [x, y] = [0, y + LINE];
    }
    const place = { x, y };
    x += wide + GAP;
    return place;
  });
}

export function legendHeight(entries: readonly Entry[], width: number): number {
  const last = legendPlaces(entries.map(({ label }) => label), width).at(-1);
  return last === undefined ? 0 : last.y + LINE + 6;
}

function made(tag: string, attributes: Readonly<Record<string, string | number>>, text = ''): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, String(value));
  }
  element.textContent = text;
  return element;
}

/** Draws the entries at the chart's top. */
export function addLegend(chart: SVGElement, entries: readonly Entry[], width: number, theme: Theme): void {
  const places = legendPlaces(entries.map(({ label }) => label), width);
  entries.forEach(({ label, colour, shape }, at) => {
    const { x, y } = places[at] ?? { x: 0, y: 0 };
    const mark = shape === undefined
      ? made('rect', { x: x + 1, y: y + 3, width: 11, height: 11, rx: 2, fill: colour })
      : made('path', { d: shape, transform: `translate(${x + 6.5} ${y + 8.5})`, fill: colour });
    chart.append(mark, made('text', { x: x + MARK, y: y + 12.5, 'text-anchor': 'start', fill: theme.ink }, label));
  });
}
