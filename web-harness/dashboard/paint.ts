/** Counted points onto a canvas. */

import type { Theme } from '../report/palette.ts';
import { FAILED, type Frame, type Raster } from './points.ts';

interface Place {
  readonly left: number;
  readonly top: number;
  readonly scale: number;
}

/** The least that a pixel with a point stands out, of 255. */
const ALPHA_MIN = 130;

/** As the style sheet's. */
const BAD: Readonly<Record<'light' | 'dark', string>> = { light: '#d0290c', dark: '#ff7b61' };

/** Pixels are put without regard to what is below, so they are put here first. */
let layer: HTMLCanvasElement | null = null;

function parts(colour: string): [number, number, number] {
  const at = (from: number): number => Number.parseInt(colour.slice(from, from + 2), 16);
  return [at(1), at(3), at(5)];
}

/** A copy of the counted pixels is laid over what is drawn already. */
export function paintPoints(
  pen: CanvasRenderingContext2D,
  counted: Raster,
  frame: Frame,
  place: Place,
  colours: readonly string[],
  theme: Theme,
): void {
  const { width, height } = frame;
  const bad = parts(BAD[theme.paper === '#ffffff' ? 'light' : 'dark']);
  const groups = colours.map(parts);
  const image = new ImageData(width, height);
  const { data } = image;
  const scale = (255 - ALPHA_MIN) / Math.max(1, Math.log2(counted.most));
  for (let pixel = 0; pixel < counted.counts.length; pixel += 1) {
    const count = counted.counts[pixel] ?? 0;
    if (count > 0) {
      const group = counted.groups[pixel] ?? 0;
      const [red, green, blue] = (group === FAILED ? bad : groups[group]) ?? bad;
      const to = pixel * 4;
      data[to] = red;
      data[to + 1] = green;
      data[to + 2] = blue;
      data[to + 3] = group === FAILED ? 255 : ALPHA_MIN + Math.log2(count) * scale;
    }
  }
  layer ??= document.createElement('canvas');
  layer.width = width;
  layer.height = height;
  layer.getContext('2d')?.putImageData(image, 0, 0);
  pen.drawImage(layer, place.left, place.top, width / place.scale, height / place.scale);
}
