/** A chart in its frame: drawn once it comes near or nothing else is to be done, again for another width or theme, and
 * exported. */

import { csv, type Table } from './csv.ts';
import { download, element } from './dom.ts';
import { DARK, LIGHT, type Theme } from './palette.ts';
import { fileName } from './words.ts';

export interface Chart {
  readonly title: string;
  /** What is shown, with its unit. */
  readonly caption: string;
  draw: (width: number, theme: Theme) => SVGElement;
  table: () => Table;
}

/** Exports look the same wherever they were made. */
const EXPORT_WIDTH = 960;
const EXPORT_SCALE = 2;

/** Wide enough that a chart says something. */
const WIDTH_MIN = 280;

const dark = matchMedia('(prefers-color-scheme: dark)');
const frames = new Set<Frame>();

class Frame {
  readonly #place = element('div', { class: 'drawing' });
  #chart: Chart;
  #drawn = '';
  /** Whether it is to be drawn at all yet. */
  #wanted = false;

  constructor(chart: Chart) {
    this.#chart = chart;
  }

  get chart(): Chart {
    return this.#chart;
  }

  get place(): HTMLElement {
    return this.#place;
  }

  shows(chart: Chart): void {
    this.#chart = chart;
    this.#drawn = '';
    this.#place.setAttribute('aria-label', `${chart.title}. ${chart.caption}`);
    this.draw();
  }

  get wanted(): boolean {
    return this.#wanted;
  }

  /** From now on. */
  want(theme?: Theme): void {
    this.#wanted = true;
    near.unobserve(this.#place);
    this.draw(theme);
  }

  draw(theme = dark.matches ? DARK : LIGHT): void {
    if (!this.#wanted) {
      return;
    }
    const width = Math.max(WIDTH_MIN, Math.floor(this.#place.clientWidth));
    const wanted = `${width} ${theme.paper}`;
    if (this.#drawn !== wanted && this.#place.isConnected) {
      this.#place.replaceChildren(this.#chart.draw(width, theme));
      this.#drawn = wanted;
    }
  }
}

const sizes = new ResizeObserver((entries) => {
  const changed = [...frames].filter(({ place }) => entries.some(({ target }) => target === place));
  // What is drawn has another height, of which the observer would complain in the same frame.
  requestAnimationFrame(() => { changed.forEach((frame) => { frame.draw(); }); });
});

/** How far below what is seen a chart is drawn ahead. */
const AHEAD = '400px';

const near = new IntersectionObserver((entries) => {
  const places = new Set(entries.filter(({ isIntersecting }) => isIntersecting).map(({ target }) => target));
  [...frames].filter(({ place }) => places.has(place)).forEach((frame) => { frame.want(); });
}, { rootMargin: AHEAD });

/** Draws what nobody has come near to, one by one, so that whoever reads is not kept waiting. */
function drawRest(): void {
  const next = [...frames].find(({ wanted }) => !wanted);
  if (next !== undefined) {
    next.want();
    whenIdle();
  }
}

function whenIdle(): void {
  if ('requestIdleCallback' in globalThis) {
    requestIdleCallback(drawRest);
  } else {
    setTimeout(drawRest);
  }
}

dark.addEventListener('change', () => { frames.forEach((frame) => { frame.draw(); }); });
// Paper is white.
addEventListener('beforeprint', () => { frames.forEach((frame) => { frame.want(LIGHT); }); });
addEventListener('afterprint', () => { frames.forEach((frame) => { frame.draw(); }); });

function svgText(chart: Chart): string {
  const drawn = chart.draw(EXPORT_WIDTH, LIGHT);
  drawn.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  drawn.style.background = LIGHT.paper;
  return new XMLSerializer().serializeToString(drawn);
}

async function png(chart: Chart): Promise<Blob> {
  const text = svgText(chart);
  const url = URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = element('canvas', {});
    canvas.width = image.naturalWidth * EXPORT_SCALE;
    canvas.height = image.naturalHeight * EXPORT_SCALE;
    const pen = canvas.getContext('2d');
    if (pen === null) {
      throw new Error('this browser draws no pictures');
    }
    pen.fillStyle = LIGHT.paper;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => {
      canvas.toBlob((blob) => {
        if (blob === null) {
          reject(new Error('this browser writes no PNG'));
        } else {
          resolve(blob);
        }
      }, 'image/png');
    });
  } finally {
    URL.revokeObjectURL(url);
  }
}

function buttons(frame: Frame): HTMLElement {
  const name = (end: string): string => `${fileName(document.title, frame.chart.title)}.${end}`;
  const button = (what: string, click: () => void): HTMLElement =>
    element('button', { type: 'button', click, 'aria-label': `${what} of ${frame.chart.title}` }, what);
  return element(
    'div',
    { class: 'exports' },
    button('SVG', () => { download(name('svg'), 'image/svg+xml', svgText(frame.chart)); }),
    button('PNG', () => { void png(frame.chart).then((blob) => { download(name('png'), 'image/png', blob); }); }),
    button('CSV', () => { download(name('csv'), 'text/csv', csv(frame.chart.table())); }),
  );
}

/** The chart's frame; the second is what puts another chart into it. */
export function figure(chart: Chart): [HTMLElement, (chart: Chart) => void] {
  const frame = new Frame(chart);
  const title = element('strong', {});
  const caption = element('span', {});
  const shows = (next: Chart): void => {
    title.textContent = next.title;
    caption.textContent = next.caption;
    frame.shows(next);
  };
  // Wider than the page, it is scrolled, also by keys.
  for (const [name, value] of [['role', 'group'], ['tabindex', '0']] as const) {
    frame.place.setAttribute(name, value);
  }
  frames.add(frame);
  sizes.observe(frame.place);
  near.observe(frame.place);
  shows(chart);
  return [
    element('figure', {}, element('figcaption', {}, title, ' ', caption), frame.place, buttons(frame)),
    shows,
  ];
}

/** Draws the charts that have come onto the page, those first that are seen. */
export function drawAll(): void {
  // The observer tells of these after the next frame.
  requestAnimationFrame(() => { setTimeout(whenIdle); });
}

/** Forgets the frames within, which are on the page no longer. */
export function forget(within: HTMLElement): void {
  for (const frame of frames) {
    if (within.contains(frame.place)) {
      frames.delete(frame);
      sizes.unobserve(frame.place);
      near.unobserve(frame.place);
    }
  }
}
