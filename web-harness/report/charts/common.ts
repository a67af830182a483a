/** What the charts share: texts' widths, labels of lanes, the look. */

import type { PlotOptions } from '@observablehq/plot';

import type { Theme } from '../palette.ts';
import { letters, shortened } from '../words.ts';

/** The width of a letter, about, at the size of the charts' text. */
export const LETTER = 6.3;

/** On a narrow page labels leave room for what they label. */
export function labels(names: readonly string[], width: number): { margin: number; label: (name: string) => string } {
  const most = width < 480 ? 19 : 34;
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

/** A single chart is an SVG element, without the frame that the library puts around several. */
export function svg(drawn: SVGSVGElement | HTMLElement): SVGElement {
  if (!(drawn instanceof SVGElement)) {
    throw new Error('the chart is no SVG');
  }
  return drawn;
}
