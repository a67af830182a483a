/** What suites measured over time: cells as charts with their changes, and as tables. */

import { element } from '../report/dom.ts';
import { type Column, table } from '../report/table.ts';
import { bounded, digits, scenarioWords } from '../report/words.ts';
import { type Address, format, historyQuery, parse, START } from './address.ts';
import { ask } from './ask.ts';
import type { Change, History, KeptSuite, List, Measured, Series, Told } from './documents.ts';
import { historyFilters } from './historyfilters.ts';
import { say } from './keyed.ts';
import { dateAndTime, plural, time } from './say.ts';
import { eventWords, known, type Metric, METRIC_WORDS, metricOf, moments, pages, size, type Trend, trend } from './trend.ts';
import { TrendChart } from './trendchart.ts';
import type { Around, View } from './view.ts';

/** More charts are drawn when they are asked for. */
const CHARTS_MAX = 12;

const NOTHING_KEPT = ['No result is kept yet. ', element('code', {}, 'weft bench run smoke'),
  ' measures a suite and keeps what comes out; it is seen here then.'];

function lane({ browser, backend }: Series): string {
  return `${browser}/${backend}`;
}

function cellWords(series: Series): string {
  return `${series.model}, ${lane(series)}, ${scenarioWords(series.asked)}`;
}

/** A change with what it is of. */
interface Changed {
  readonly series: Series;
  readonly change: Change;
  readonly point: Measured;
}

class Histories implements View {
  readonly root: HTMLElement;
  readonly title = 'History';
  readonly topics = ['suites'] as const;
  readonly #around: Around;
  readonly #filters;
  readonly #none = element('p', { class: 'about', role: 'status' });
  readonly #count = element('p', { class: 'about' });
  readonly #pages = element('p', { class: 'about' });
  readonly #body = element('div', {});
  #charts: TrendChart[] = [];
  /** What is shown, with the name of the suite that is meant where the page's address has none. */
  #address: Address = START;

  constructor(around: Around) {
    this.#around = around;
    this.#filters = historyFilters(around.go);
    this.root = element('div', { class: 'view' }, element('h1', {}, 'History'), this.#filters.root, this.#none, this.#count,
      this.#pages, this.#body);
  }

  async show(address: Address, signal: AbortSignal): Promise<void> {
    const { items: suites } = await ask<List<KeptSuite>>('/api/v1/bench/suites', signal);
    // Without a name, the one that was measured last is meant.
    const suite = address.suite === '' ? suites[0] : suites.find(({ suite: name }) => name === address.suite);
    const wanted = { ...address, suite: suite?.suite ?? address.suite };
    // All of it is there before anything is taken away, so that the page does not jump when a result is kept.
    const history = suite === undefined
      ? null
      : await ask<History>(`/api/v1/bench/history?${historyQuery(wanted).toString()}`, signal);
    const isNew = format(wanted) !== format(this.#address);
    this.#address = wanted;
    this.#clear();
    this.#filters.show(wanted, suites, suite);
    if (history === null) {
      this.#none.replaceChildren(...(suites.length === 0
        ? NOTHING_KEPT
        : [`Nothing is kept of the suite ${address.suite}: choose another above.`]));
      return;
    }
    this.#fill(history);
    if (isNew) {
      this.#body.querySelector('tr.chosen')?.scrollIntoView({ block: 'nearest' });
    }
  }

  hear({ topic, event }: Told): void {
    const { kept } = event as { kept?: { id: string; suite: string } };
    const { suite, before } = this.#address;
    if (topic === 'suites' && kept !== undefined && before === '' && (suite === '' || suite === kept.suite)) {
      this.#around.go(parse(location.search));
    }
  }

  end(): void {
    this.#charts.forEach((chart) => { chart.end(); });
  }

  #clear(): void {
    this.end();
    this.#charts = [];
    this.#none.replaceChildren();
    this.#pages.replaceChildren();
    this.#body.replaceChildren();
    say(this.#count, '');
  }

  #fill(history: History): void {
    const { series, elsewhere, earlier_us: earlier } = history;
    const { older, newest } = pages(this.#address, history);
    const link = (address: Address | null, words: string): (HTMLElement | string)[] =>
      address === null ? [] : [element('a', { href: format(address) }, words), ' '];
    this.#pages.replaceChildren(...link(older, 'Older runs'), ...link(newest, 'The newest runs'));
    const metric = metricOf(this.#address.metric);
    const shown = series.map((one) => trend(one, metric)).filter((one) => one !== null);
    if (shown.length === 0) {
      this.#none.replaceChildren(series.length === 0
        ? 'No cell that was measured right is like that: choose “any” for some of it, or Clear.'
        : 'Requests per second are told of cells whose requests are sent at once: choose such requests, or the median time.');
      return;
    }
    const all = shown.map((one) => one.series);
    const runs = moments(all);
    const changed = all.flatMap((one) => one.changes.flatMap((change): Changed[] => {
      const point = one.points[change.at];
      return point === undefined ? [] : [{ series: one, change, point }];
    })).sort((a, b) => b.point.started_at_us - a.point.started_at_us);
    const which = newest !== null ? 'earlier ' : earlier === null ? '' : 'the newest ';
    const apart = elsewhere.length === 0
      ? ''
      : `; ${plural(elsewhere.length, 'run')} on other machines left out, which “Machine” shows`;
    const found = changed.length === 0 ? 'no change of more than 5 %' : plural(changed.length, 'change');
    say(this.#count, `${plural(all.length, 'cell')} over ${which}${plural(runs.length, 'run')}, ${found}${apart}.`);
    const [only] = shown;
    const alone = shown.length === 1 && only !== undefined;
    this.#body.append(legend(), this.#panels(shown, metric),
      ...(alone
        ? [heading('Runs'), this.#runs(only, metric)]
        : [...(changed.length === 0 ? [] : [heading('Changes'), this.#changes(changed)]), heading('Cells'), this.#cells(shown, metric)]));
  }

  /** The address of this cell alone. */
  #only({ model, browser, backend, scenario, asked }: Series, run = ''): Address {
    return { ...this.#address, model, browser, backend, scenario, asked, run };
  }

  #panels(shown: readonly Trend[], metric: Metric): HTMLElement {
    const runs = moments(shown.map(({ series }) => series));
    const place = element('div', { class: 'trends' });
    const draw = (trends: readonly Trend[]): void => {
      const charts = trends.map((one) => new TrendChart({
        title: cellWords(one.series), href: format(this.#only(one.series)), trend: one, metric, runs,
        alone: shown.length === 1, run: this.#address.run,
        choose: ({ run }) => { this.#around.go(this.#only(one.series, run)); },
      }));
      this.#charts.push(...charts);
      place.append(...charts.map(({ root }) => root));
    };
    draw(shown.slice(0, CHARTS_MAX));
    if (shown.length <= CHARTS_MAX) {
      return place;
    }
    const more = element('button', { type: 'button' }, `Draw all ${shown.length} cells`);
    more.addEventListener('click', () => {
      more.remove();
      draw(shown.slice(CHARTS_MAX));
    });
    return element('div', {}, place, element('div', { class: 'exports' }, more));
  }

  #changes(changed: readonly Changed[]): HTMLElement {
    const columns: Column<Changed>[] = [
      { name: 'From', value: ({ point }) => point.started_at_us, text: ({ point }) => dateAndTime(point.started_at_us), href: ({ series, point }) => format(this.#only(series, point.run)) },
      { name: 'Size', value: ({ change }) => change.ratio, text: ({ change }) => size(change) },
      { name: 'Model', value: ({ series }) => series.model },
      { name: 'Lane', value: ({ series }) => lane(series) },
      { name: 'Requests', value: ({ series }) => scenarioWords(series.asked) },
      { name: 'Median before', value: ({ change }) => change.before_us, text: ({ change }) => time(change.before_us) },
      { name: 'After', value: ({ change }) => change.after_us, text: ({ change }) => time(change.after_us) },
      { name: 'By chance', value: ({ change }) => change.probability, text: ({ change }) => change.probability.toExponential(1) },
      { name: 'What else changed', value: ({ point }) => eventWords(point.events) },
    ];
    return table('Changes', columns, changed);
  }

  #cells(shown: readonly Trend[], metric: Metric): HTMLElement {
    const { unit } = METRIC_WORDS[metric];
    const value = (name: string, of: (one: Trend) => number | undefined): Column<Trend> => ({
      name: `${name}, ${unit}`, value: (one) => of(one) ?? null, text: (one) => digits(of(one) ?? 0),
    });
    const columns: Column<Trend>[] = [
      { name: 'Model', value: ({ series }) => series.model, href: ({ series }) => format(this.#only(series)) },
      { name: 'Lane', value: ({ series }) => lane(series) },
      { name: 'Requests', value: ({ series }) => scenarioWords(series.asked) },
      { name: 'Runs', value: ({ values }) => values.length },
      value('First', ({ values }) => values[0]?.value),
      value('Latest', ({ values }) => values.at(-1)?.value),
      { name: 'Changes', value: ({ series }) => series.changes.length, text: ({ series }) => series.changes.map(size).join(', ') || 'none' },
    ];
    return table('Cells', columns, shown);
  }

  /** The runs of one cell, the newest first. */
  #runs({ series, values }: Trend, metric: Metric): HTMLElement {
    const { unit } = METRIC_WORDS[metric];
    const rows = series.points.map((point, at) => ({ point, value: values[at], change: series.changes.find((one) => one.at === at) })).reverse();
    type Row = (typeof rows)[number];
    const columns: Column<Row>[] = [
      { name: 'Began', value: ({ point }) => point.started_at_us, text: ({ point }) => dateAndTime(point.started_at_us) },
      { name: `Median, ${unit} (95 %)`, value: ({ value }) => value?.value ?? null, text: ({ value }) => value === undefined ? '' : bounded(value) },
      { name: 'Change', value: ({ change }) => change?.ratio ?? null, text: ({ change }) => change === undefined ? '' : size(change) },
      { name: 'What else changed', value: ({ point }) => eventWords(known(point.events)) },
      { name: 'Samples', value: ({ point }) => point.samples },
      { name: 'weft', value: ({ point }) => point.commit, text: ({ point }) => point.commit.slice(0, 10) },
      { name: 'Branch', value: ({ point }) => point.branch, text: ({ point }) => point.branch ?? '–' },
      { name: 'Run', value: ({ point }) => point.run },
    ];
    return table('Runs', columns, rows, ({ point }) => point.run === this.#address.run);
  }
}

function heading(text: string): HTMLElement {
  return element('h2', {}, text);
}

function legend(): HTMLElement {
  const key = (name: string, label: string): HTMLElement =>
    element('li', {}, element('span', { class: `key ${name}` }), label);
  return element('ul', { class: 'legend over' }, key('median', 'median of a run, each one step'), key('interval', '95 % interval'),
    key('level', 'mean between changes'), key('slower', '▲ slower from here on'), key('faster', '▼ faster from here on'),
    key('event', 'browser, engine or another part changed'));
}

export function historyView(around: Around): View {
  return new Histories(around);
}
