/** The chart of what requests took: every point is counted into a pixel of a canvas, none is left out. */

import { element } from '../report/dom.ts';
import { backendColour, DARK, LIGHT, type Theme } from '../report/palette.ts';
import { logTicks } from '../report/ticks.ts';
import { digits, tickWord } from '../report/words.ts';
import { paintPoints } from './paint.ts';
import {
  columns, extent, FAILED, type Frame, height, nearest, neighbour, type Point, Points, pointSize, raster, timeTicks,
} from './points.ts';
import { clock, outcomeWords, plural } from './say.ts';

/** Room for the axes, in CSS pixels. */
const LEFT = 46;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;
const HEIGHT = 260;

/** Points are reached from this far, in CSS pixels. */
const REACH = 14;

/** A drag over fewer CSS pixels is a click. */
const DRAG_MIN = 8;

/** CSS pixels that a tick's words take. */
const TICK_WIDTH = 90;
const TICK_HEIGHT = 34;

/** A column of the percentiles' lines, in CSS pixels. */
const COLUMN = 12;

/** Backends by the group that their points are drawn as. */
const BACKENDS = ['wasm', 'webgpu', 'webnn', 'native'] as const;

const LABELS: Readonly<Record<(typeof BACKENDS)[number], string>> = {
  wasm: 'WebAssembly', webgpu: 'WebGPU', webnn: 'WebNN', native: 'native',
};

/** Our own kernels are drawn as the engine's that compute in the same place. */
const PLACES: Readonly<Partial<Record<string, string>>> = { 'weft-wasm': 'wasm', 'weft-wgsl': 'webgpu' };

function groupOf(lane: string): number {
  const backend = lane.slice(lane.lastIndexOf('/') + 1);
  const found = BACKENDS.findIndex((name) => name === (PLACES[backend] ?? backend));
  return found === -1 ? BACKENDS.length - 1 : found;
}

export interface Chosen {
  /** A span of time, in milliseconds since the epoch. */
  readonly span: (from: number, to: number) => void;
  readonly point: (point: Point) => void;
}

const dark = matchMedia('(prefers-color-scheme: dark)');

export class LatencyChart {
  readonly root: HTMLElement;
  readonly points = new Points();
  readonly #canvas = element('canvas', { tabindex: '0', role: 'img' });
  readonly #marks = element('canvas', { class: 'marks', 'aria-hidden': 'true' });
  readonly #note = element('div', { class: 'note', hidden: '' });
  readonly #spoken = element('p', { class: 'unseen', 'aria-live': 'polite' });
  readonly #caption = element('span', {});
  /** What colours mean, by group. */
  readonly #keys = new Map<number, HTMLElement>();
  readonly #chosen: Chosen;
  readonly #sizes = new ResizeObserver(() => { this.draw(); });
  #frame: Frame | null = null;
  #window: { from: number; to: number } | null = null;
  #asked = 0;
  #selected: number | null = null;
  #dragged: number | null = null;

  constructor(title: string, chosen: Chosen) {
    this.#chosen = chosen;
    const place = element('div', { class: 'latency' }, this.#canvas, this.#marks, this.#note);
    this.root = element('figure', {},
      element('figcaption', {}, element('strong', {}, title), this.#caption), place, this.#legend(), this.#spoken);
    this.#sizes.observe(place);
    dark.addEventListener('change', this.#redraw);
    addEventListener('beforeprint', this.#onPaper);
    addEventListener('afterprint', this.#redraw);
    this.#listen();
  }

  /** A chart that is gone is drawn no more. */
  end(): void {
    this.#sizes.disconnect();
    cancelAnimationFrame(this.#asked);
    dark.removeEventListener('change', this.#redraw);
    removeEventListener('beforeprint', this.#onPaper);
    removeEventListener('afterprint', this.#redraw);
  }

  /** What is shown across; all points when it is null. */
  window(from: number, to: number): void {
    this.#window = { from, to };
  }

  all(): void {
    this.#window = null;
  }

  /** Draws with the next frame that the browser shows, however often it is asked for. */
  ask(): void {
    if (this.#asked === 0) {
      this.#asked = requestAnimationFrame(() => {
        this.#asked = 0;
        this.draw();
      });
    }
  }

  draw(theme: Theme = dark.matches ? DARK : LIGHT): void {
    const width = this.#canvas.parentElement?.clientWidth ?? 0;
    const pen = width > 0 ? this.#pen(this.#canvas, width) : null;
    if (pen === null) {
      return;
    }
    const scale = devicePixelRatio;
    const frame = this.#framed(Math.round((width - LEFT - RIGHT) * scale), Math.round((HEIGHT - TOP - BOTTOM) * scale));
    this.#frame = frame;
    pen.clearRect(0, 0, width, HEIGHT);
    if (frame === null) {
      this.#empty(pen, width, theme);
      return;
    }
    this.#axes(pen, frame, width, theme);
    const size = Math.max(1, Math.round(pointSize(this.points.size) * scale));
    const groups = this.points.groups(groupOf);
    const counted = raster(this.points, frame, size, groups);
    this.#keys.forEach((key, group) => { key.hidden = !counted.used.has(group); });
    const colours = BACKENDS.map((backend) => backendColour(backend, theme));
    paintPoints(pen, counted, frame, { left: LEFT, top: TOP, scale }, colours, theme);
    this.#percentiles(pen, frame, theme);
    this.#say(counted.shown);
    this.#mark();
  }

  readonly #redraw = (): void => { this.draw(); };
  readonly #onPaper = (): void => { this.draw(LIGHT); };

  #pen(canvas: HTMLCanvasElement, width: number): CanvasRenderingContext2D | null {
    const scale = devicePixelRatio;
    const [w, h] = [Math.round(width * scale), Math.round(HEIGHT * scale)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.height = `${HEIGHT}px`;
    }
    const pen = canvas.getContext('2d');
    pen?.setTransform(scale, 0, 0, scale, 0, 0);
    return pen;
  }

  #framed(width: number, height: number): Frame | null {
    const [from, to] = [this.#window?.from ?? -Infinity, this.#window?.to ?? Infinity];
    const taken = extent(this.points, from, to);
    if (taken === null || width < 1) {
      return null;
    }
    const middle = (taken.low + taken.high) / 2;
    const half = Math.max(0.35, (taken.high - taken.low) / 2 * 1.06);
    const [first, last] = [this.#window?.from ?? taken.from, this.#window?.to ?? taken.to];
    return { width, height, low: middle - half, high: middle + half, from: first, to: Math.max(last, first + 1) };
  }

  #x(frame: Frame, at: number): number {
    return LEFT + (at - frame.from) / (frame.to - frame.from) * frame.width / devicePixelRatio;
  }

  /** Of what `height` makes of a time. */
  #y(frame: Frame, up: number): number {
    return TOP + (frame.high - up) / (frame.high - frame.low) * frame.height / devicePixelRatio;
  }

  #axes(pen: CanvasRenderingContext2D, frame: Frame, width: number, theme: Theme): void {
    pen.font = '12px system-ui, sans-serif';
    pen.lineWidth = 1;
    pen.strokeStyle = theme.line;
    pen.fillStyle = theme.faint;
    pen.textAlign = 'right';
    pen.textBaseline = 'middle';
    const most = Math.floor((HEIGHT - TOP - BOTTOM) / TICK_HEIGHT);
    for (const tick of logTicks(10 ** frame.low, 10 ** frame.high, most)) {
      const y = Math.round(this.#y(frame, height(tick))) + 0.5;
      pen.beginPath();
      pen.moveTo(LEFT, y);
      pen.lineTo(width - RIGHT, y);
      pen.stroke();
      pen.fillText(tickWord(tick), LEFT - 6, y);
    }
    pen.textAlign = 'center';
    pen.textBaseline = 'alphabetic';
    const fits = Math.max(2, Math.floor((width - LEFT) / TICK_WIDTH));
    const ticks = timeTicks(frame.from, frame.to, fits, new Date(frame.from).getTimezoneOffset());
    for (const tick of ticks) {
      const x = Math.min(width - RIGHT - 24, Math.max(LEFT + 18, this.#x(frame, tick)));
      pen.fillText(clock(tick, frame.to - frame.from), x, HEIGHT - 7);
    }
  }

  #empty(pen: CanvasRenderingContext2D, width: number, theme: Theme): void {
    pen.fillStyle = theme.faint;
    pen.font = '14px system-ui, sans-serif';
    pen.textAlign = 'center';
    pen.fillText('No requests here yet', width / 2, HEIGHT / 2);
    this.#say(0);
  }

  #percentiles(pen: CanvasRenderingContext2D, frame: Frame, theme: Theme): void {
    const spans = columns(this.points, frame, Math.max(1, Math.floor(frame.width / devicePixelRatio / COLUMN)));
    // Each over a wider one of the ground's colour, so that it is seen among points.
    const lines = [
      ['p50', theme.paper, 4, []],
      ['p50', theme.ink, 1.75, []],
      ['p95', theme.paper, 4, []],
      ['p95', theme.ink, 1.75, [5, 4]],
    ] as const;
    for (const [of, colour, wide, dashes] of lines) {
      pen.setLineDash([...dashes]);
      pen.strokeStyle = colour;
      pen.lineWidth = wide;
      pen.beginPath();
      let joined = false;
      for (const span of spans) {
        if (span !== null) {
          const [x, y] = [this.#x(frame, span.at), this.#y(frame, span[of])];
          if (joined) {
            pen.lineTo(x, y);
          } else {
            pen.moveTo(x, y);
          }
        }
        joined = span !== null;
      }
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  #say(shown: number): void {
    const text = `${plural(shown, 'request')}, milliseconds from acceptance to the answer`;
    if (this.#caption.textContent !== text) {
      this.#caption.textContent = text;
      this.#canvas.setAttribute('aria-label', `${text}. Arrow keys walk through them, Enter shows one.`);
    }
  }

  #legend(): HTMLElement {
    const key = (name: string, label: string): HTMLElement =>
      element('li', {}, element('span', { class: `key ${name}` }), label);
    BACKENDS.forEach((backend, group) => { this.#keys.set(group, key(backend, LABELS[backend])); });
    this.#keys.set(FAILED, key('failed', 'failed'));
    return element('ul', { class: 'legend' }, ...this.#keys.values(), key('p50', 'median'), key('p95', '95th percentile'));
  }

  #listen(): void {
    this.#canvas.addEventListener('pointermove', ({ offsetX, offsetY }) => {
      this.#select(this.#dragged === null ? this.#near(offsetX, offsetY) : null, false);
      this.#mark(offsetX);
    });
    this.#canvas.addEventListener('pointerleave', () => { this.#select(null, false); });
    this.#canvas.addEventListener('pointerdown', (event) => {
      if (event.button === 0) {
        // A finger that is drawn across scrolls.
        this.#dragged = event.pointerType === 'touch' ? null : event.offsetX;
        // A drag may end beside the chart.
        addEventListener('pointerup', ({ clientX, clientY }) => {
          const { left, top } = this.#canvas.getBoundingClientRect();
          this.#release(clientX - left, clientY - top);
        }, { once: true });
      }
    });
    this.#canvas.addEventListener('pointercancel', () => { this.#dragged = null; });
    this.#canvas.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowRight' || event.key === 'ArrowLeft') {
        event.preventDefault();
        this.#walk(event.key === 'ArrowRight' ? 1 : -1);
      } else if (event.key === 'Enter' && this.#selected !== null) {
        this.#chosen.point(this.points.point(this.#selected));
      } else if (event.key === 'Escape') {
        this.#select(null, false);
      }
    });
  }

  #near(x: number, y: number): number | null {
    const scale = devicePixelRatio;
    return this.#frame === null
      ? null
      : nearest(this.points, this.#frame, (x - LEFT) * scale, (y - TOP) * scale, REACH * scale);
  }

  #release(x: number, y: number): void {
    const [start, frame] = [this.#dragged, this.#frame];
    this.#dragged = null;
    if (start !== null && frame !== null && Math.abs(x - start) >= DRAG_MIN) {
      const moment = (px: number): number =>
        frame.from + Math.min(1, Math.max(0, (px - LEFT) * devicePixelRatio / frame.width)) * (frame.to - frame.from);
      this.#chosen.span(moment(Math.min(x, start)), moment(Math.max(x, start)));
      return;
    }
    const place = this.#near(x, y);
    if (place !== null) {
      this.#chosen.point(this.points.point(place));
    }
  }

  /** The next point by time, or the one before; the last one at first. */
  #walk(step: 1 | -1): void {
    const frame = this.#frame;
    if (frame !== null) {
      this.#select(neighbour(this.points, frame, this.#selected, step) ?? this.#selected, true);
    }
  }

  #select(place: number | null, aloud: boolean): void {
    if (place === this.#selected) {
      return;
    }
    this.#selected = place;
    this.#note.hidden = place === null;
    if (place !== null) {
      const { ms, at, outcome, lane } = this.points.point(place);
      const text = `${digits(ms)} ms, ${outcomeWords(outcome)}${lane === null ? '' : `, ${lane}`}, ${clock(at, 0)}`;
      this.#note.textContent = text;
      if (aloud) {
        this.#spoken.textContent = text;
      }
    }
    this.#mark();
  }

  /** The point that is pointed at, and the span that is being dragged up to `x`. */
  #mark(x?: number): void {
    const width = this.#canvas.clientWidth;
    const [pen, frame] = [this.#pen(this.#marks, width), this.#frame];
    pen?.clearRect(0, 0, width, HEIGHT);
    if (pen === null || frame === null) {
      return;
    }
    const theme = dark.matches ? DARK : LIGHT;
    if (this.#dragged !== null && x !== undefined) {
      pen.fillStyle = theme.ink;
      pen.globalAlpha = 0.15;
      pen.fillRect(Math.min(x, this.#dragged), TOP, Math.abs(x - this.#dragged), HEIGHT - TOP - BOTTOM);
      pen.globalAlpha = 1;
    }
    if (this.#selected !== null) {
      const px = this.#x(frame, this.points.at[this.#selected] ?? 0);
      const py = this.#y(frame, this.points.heights[this.#selected] ?? 0);
      pen.strokeStyle = theme.ink;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(px, py, 6, 0, 2 * Math.PI);
      pen.stroke();
      const side = px > width / 2;
      this.#note.style.left = side ? '' : `${px + 12}px`;
      this.#note.style.right = side ? `${width - px + 12}px` : '';
      this.#note.style.top = `${Math.max(0, py - 30)}px`;
    }
  }
}
