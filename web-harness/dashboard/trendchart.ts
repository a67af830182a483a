/** The chart of one cell's medians over runs, with its changes and what else is known to have changed. */

import { element } from '../report/dom.ts';
import { digits, tickWord } from '../report/words.ts';
import type { Measured } from './documents.ts';
import { clock, dateAndTime, plural } from './say.ts';
import { svg } from './svg.ts';
import {
  eventWords, known, type Layout, layout, type Metric, METRIC_WORDS, type Moment, nearestAcross, ROOM, size, type Trend,
} from './trend.ts';

const HEIGHT = 190;
const TALL = 320;

/** Dots of runs that are closer than this, in CSS pixels, would be a line. */
const DOT_ROOM = 5;

/** A change's size stands left of its line where there is no room to the right. */
const WORDS_WIDTH = 110;

const DAY_US = 86_400e6;

export interface Shown {
  readonly title: string;
  readonly href: string;
  readonly trend: Trend;
  readonly metric: Metric;
  readonly runs: readonly Moment[];
  /** Whether it is the only one. */
  readonly alone: boolean;
  /** The run that is marked. */
  readonly run: string;
  readonly choose: (point: Measured) => void;
}

export class TrendChart {
  readonly root: HTMLElement;
  readonly #shown: Shown;
  readonly #drawing = svg('svg', { class: 'trend', tabindex: 0, role: 'img' });
  readonly #note = element('div', { class: 'note', hidden: '' });
  readonly #spoken = element('p', { class: 'unseen', 'aria-live': 'polite' });
  readonly #ring = svg('circle', { class: 'ring', r: 6 });
  readonly #place: HTMLElement;
  // What is drawn has another height, of which the observer would complain in the same frame.
  readonly #sizes = new ResizeObserver(() => { requestAnimationFrame(() => { this.#draw(); }); });
  #layout: Layout | null = null;
  #selected: number | null = null;

  constructor(shown: Shown) {
    this.#shown = shown;
    this.#place = element('div', { class: 'over-runs' }, this.#note);
    this.#place.prepend(this.#drawing);
    const title = shown.alone ? shown.title : element('a', { href: shown.href }, shown.title);
    this.root = element('figure', {}, element('figcaption', {}, element('strong', {}, title), element('span', {}, this.#about())),
      this.#place, this.#spoken);
    this.#sizes.observe(this.#place);
    this.#listen();
  }

  /** A chart that is gone is drawn no more. */
  end(): void {
    this.#sizes.disconnect();
  }

  #about(): string {
    const { trend: { series, values }, metric } = this.#shown;
    const { unit } = METRIC_WORDS[metric];
    const [first, last] = [values[0], values.at(-1)];
    const went = first === undefined || last === undefined
      ? ''
      : values.length === 1 ? `${digits(last.value)} ${unit}` : `${digits(first.value)} → ${digits(last.value)} ${unit}`;
    const changes = series.changes.length === 0 ? '' : `, ${plural(series.changes.length, 'change')}`;
    return `${went}, ${plural(values.length, 'run')}${changes}`;
  }

  #draw(): void {
    const { trend, runs, alone, title } = this.#shown;
    const frame = { width: Math.floor(this.#place.clientWidth), height: alone ? TALL : HEIGHT };
    if (frame.width === 0) {
      return;
    }
    const made = layout(trend, runs, frame);
    this.#layout = made;
    this.#drawing.setAttribute('viewBox', `0 0 ${frame.width} ${frame.height}`);
    this.#drawing.setAttribute('height', String(frame.height));
    const walk = 'Arrow keys walk through the runs, Enter shows one in the table.';
    this.#drawing.setAttribute('aria-label', `${title}: ${this.#about()}. ${walk}`);
    this.#drawing.replaceChildren(...axes(made, frame, runs), ...events(made, frame), ...medians(made), ...changes(made, frame),
      this.#ring);
    this.#select(this.#selected ?? this.#marked(), false);
  }

  /** The place of the run that the address names. */
  #marked(): number | null {
    const { trend: { series }, run } = this.#shown;
    const at = series.points.findIndex((point) => point.run === run);
    return at === -1 ? null : at;
  }

  #listen(): void {
    this.#drawing.addEventListener('pointermove', ({ clientX }) => {
      const across = clientX - this.#drawing.getBoundingClientRect().left;
      this.#select(nearestAcross(this.#layout?.points ?? [], across), false);
    });
    this.#drawing.addEventListener('pointerleave', () => { this.#select(this.#marked(), false); });
    this.#drawing.addEventListener('click', () => { this.#choose(); });
    this.#drawing.addEventListener('keydown', (event) => {
      const count = this.#shown.trend.values.length;
      const now = this.#selected;
      const next: Readonly<Partial<Record<string, number>>> = {
        ArrowRight: now === null ? count - 1 : Math.min(count - 1, now + 1),
        ArrowLeft: now === null ? count - 1 : Math.max(0, now - 1),
        Home: 0,
        End: count - 1,
      };
      const wanted = next[event.key];
      if (wanted !== undefined) {
        event.preventDefault();
        this.#select(wanted, true);
      } else if (event.key === 'Enter') {
        this.#choose();
      } else if (event.key === 'Escape') {
        this.#select(null, false);
      }
    });
  }

  #choose(): void {
    const point = this.#selected === null ? undefined : this.#shown.trend.series.points[this.#selected];
    if (point !== undefined) {
      this.#shown.choose(point);
    }
  }

  #select(at: number | null, aloud: boolean): void {
    this.#selected = at;
    const placed = at === null ? undefined : this.#layout?.points[at];
    this.#note.hidden = placed === undefined;
    this.#ring.toggleAttribute('hidden', placed === undefined);
    if (at === null || placed === undefined) {
      return;
    }
    const words = this.#words(at);
    this.#note.textContent = words.join('\n');
    if (aloud) {
      this.#spoken.textContent = words.join(', ');
    }
    this.#ring.setAttribute('cx', String(placed.x));
    this.#ring.setAttribute('cy', String(placed.y));
    const { clientWidth: width } = this.#place;
    const right = placed.x > width / 2;
    this.#note.style.left = right ? '' : `${placed.x + 12}px`;
    this.#note.style.right = right ? `${width - placed.x + 12}px` : '';
    this.#note.style.top = `${Math.max(0, placed.y - 40)}px`;
  }

  #words(at: number): string[] {
    const { trend: { series, values }, metric } = this.#shown;
    const [point, value] = [series.points[at], values[at]];
    if (point === undefined || value === undefined) {
      return [];
    }
    const change = series.changes.find((change) => change.at === at);
    return [
      `${digits(value.value)} (${digits(value.low)} to ${digits(value.high)}) ${METRIC_WORDS[metric].unit}`,
      `${dateAndTime(point.started_at_us)}, ${plural(point.samples, 'sample')}, weft ${point.commit.slice(0, 10)}`,
      ...(change === undefined ? [] : [`from here on ${size(change)}`]),
      ...known(point.events).map((event) => eventWords([event])),
    ];
  }
}

interface Frame {
  readonly width: number;
  readonly height: number;
}

function axes({ ticks, dates }: Layout, { width, height }: Frame, runs: readonly Moment[]): SVGElement[] {
  const span = ((runs.at(-1)?.at_us ?? 0) - (runs[0]?.at_us ?? 0));
  const word = (us: number): string => span > 7 * DAY_US
    ? new Date(us / 1000).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: '2-digit' })
    : clock(us / 1000, span / 1000);
  return [
    ...ticks.flatMap(({ y, value }) => [
      svg('line', { class: 'grid', x1: ROOM.left, x2: width - ROOM.right, y1: y, y2: y }),
      svg('text', { class: 'tick', x: ROOM.left - 7, y: y + 4, 'text-anchor': 'end' }, tickWord(value)),
    ]),
    ...dates.map(({ x, at_us: us }) => {
      const anchor = runs.length > 1 && x < ROOM.left + 20 ? 'start' : x > width - ROOM.right - 30 ? 'end' : 'middle';
      return svg('text', { class: 'tick', x, y: height - 6, 'text-anchor': anchor }, word(us));
    }),
  ];
}

const at = (x: number, y: number): string => `${x.toFixed(1)} ${y.toFixed(1)}`;

function medians({ points, levels }: Layout): SVGElement[] {
  const [first, second] = points;
  const sparse = first === undefined || second === undefined || second.x - first.x >= DOT_ROOM;
  const dot = ({ x, y }: { x: number; y: number }): string => `M${at(x - 2.6, y)}a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0`;
  return [
    svg('path', { class: 'interval', d: points.map(({ x, low, high }) => `M${at(x, low)}V${high.toFixed(1)}`).join('') }),
    svg('path', { class: 'level', d: levels.map(({ from, to, y }) => `M${at(from, y)}H${to.toFixed(1)}`).join('') }),
    svg('path', { class: 'medians', d: points.map(({ x, y }, place) => `${place === 0 ? 'M' : 'L'}${at(x, y)}`).join('') }),
    ...(sparse ? [svg('path', { class: 'dots', d: points.map(dot).join('') })] : []),
  ];
}

function changes({ changes: all }: Layout, { width, height }: Frame): SVGElement[] {
  return all.map(({ x, change }) => {
    const slower = change.ratio > 1;
    const left = x + WORDS_WIDTH > width;
    const words = `${slower ? '▲' : '▼'} ${size(change)}`;
    return svg('g', { class: 'change', 'data-way': slower ? 'slower' : 'faster' },
      svg('line', { x1: x, x2: x, y1: ROOM.top - 14, y2: height - ROOM.bottom }),
      svg('text', { x: left ? x - 6 : x + 6, y: ROOM.top - 6, 'text-anchor': left ? 'end' : 'start' }, words));
  });
}

function events({ events: all }: Layout, { height }: Frame): SVGElement[] {
  const low = height - ROOM.bottom;
  return all.map(({ x, point }) => svg('g', { class: 'event' },
    svg('title', {}, eventWords(known(point.events))),
    svg('line', { x1: x, x2: x, y1: ROOM.top, y2: low }),
    svg('path', { d: `M${at(x, low - 6)}l5 6l-5 6l-5 -6z` })));
}
