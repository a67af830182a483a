/** Requests that were answered or failed: restricted by the address, as a chart, a table, and one by one. */

import { element } from '../report/dom.ts';
import { type Address, admits, format, query, START } from './address.ts';
import { ask, Refused } from './ask.ts';
import { details } from './details.ts';
import type { Lane, List, Model, Run, RunTimes, Told } from './documents.ts';
import { outcomeOf } from './documents.ts';
import { filters } from './filters.ts';
import { keyed, type Kept, say } from './keyed.ts';
import { LatencyChart } from './latency.ts';
import { heads, outcomeBadge, scrolling } from './parts.ts';
import { dateAndTime, plural, time } from './say.ts';
import type { Around, View } from './view.ts';

/** Rows that are asked for at once, and shown at most. */
const ROWS = 50;
const ROWS_MAX = 1000;

const NONE = 'No recorded request is like that. What is refused before it is accepted is counted and not recorded.';

/** What comes live is shown this often at most. */
const SHOWN_EVERY_MS = 500;

function row(address: () => Address): (run: Run) => Kept<Run> {
  return (run) => {
    const outcome = outcomeOf(run);
    const lane = run.provenance?.lane ?? '–';
    const plan = run.provenance?.plan ?? '–';
    const link = element('a', {}, dateAndTime(run.accepted_at_us));
    const number = (us: number): HTMLElement => element('td', { class: 'number' }, time(us));
    const { total, queue, transfer, compute } = run.timing;
    const root = element('tr', {}, element('td', {}, link), element('td', {}, run.model), element('td', {}, lane),
      element('td', {}, outcomeBadge(outcome)), ...[total, queue, transfer, compute].map(number),
      element('td', {}, plan === 'single' ? '–' : plan));
    let shown: Address | null = null;
    return {
      root,
      show: () => {
        const now = address();
        if (now !== shown) {
          shown = now;
          link.href = format({ ...now, run: run.run });
          root.classList.toggle('chosen', now.run === run.run);
        }
      },
    };
  };
}

class Runs implements View {
  readonly root: HTMLElement;
  readonly title = 'Requests';
  readonly topics = ['runs'] as const;
  readonly #around: Around;
  readonly #filters;
  readonly #chart: LatencyChart;
  readonly #fill: (runs: readonly Run[]) => void;
  readonly #details = element('div', { 'aria-live': 'off' });
  readonly #count = element('p', { class: 'about' });
  readonly #more = element('button', { type: 'button' }, 'Show older');
  #address: Address = START;
  /** The address whose rows are shown, without the run whose details are. */
  #asked = '';
  #runs: Run[] = [];
  #fresh: Run[] = [];
  #cursor: string | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(around: Around) {
    this.#around = around;
    this.#filters = filters(around.go);
    this.#chart = new LatencyChart('What these requests took', {
      span: (from, to) => {
        around.go({ ...this.#address, since: '', from: new Date(from).toISOString(), to: new Date(to).toISOString() });
      },
      point: ({ at }) => { void this.#open(at); },
    });
    const body = element('tbody', {});
    this.#fill = keyed<Run>(body, ({ run }) => run, row(() => this.#address));
    const times = ['total', 'waited', 'transfer', 'compute'];
    const table = element('table', {}, heads(['accepted', 'model', 'lane', 'outcome', ...times, 'plan'], times), body);
    this.#more.addEventListener('click', () => { void this.#older(); });
    this.root = element('div', { class: 'view' }, element('h1', {}, 'Requests'),
      this.#filters.root, this.#details, this.#chart.root, this.#count,
      scrolling('runs', 'Requests, the newest first', table), element('div', { class: 'exports' }, this.#more));
  }

  async show(address: Address, signal: AbortSignal): Promise<void> {
    const wanted = format({ ...address, run: '' });
    // The same again is asked for after the connection was lost.
    const isWanted = wanted !== this.#asked || format(address) === format(this.#address);
    this.#address = address;
    this.#filters.show(address);
    const one = this.#showOne(signal);
    if (isWanted) {
      // Until all of it is there, nothing is: whoever goes back meanwhile finds neither.
      this.#asked = '';
      await this.#begin(address, signal);
      this.#asked = wanted;
    } else {
      this.#fill(this.#runs);
    }
    await one;
    await this.#suggest(signal);
  }

  hear({ topic, event }: Told): void {
    const run = event as Run;
    const lane = run.provenance?.lane ?? null;
    const plan = run.provenance?.plan ?? null;
    const facts = { model: run.model, lane, plan, outcome: outcomeOf(run), accepted_at_us: run.accepted_at_us };
    if (topic === 'runs' && admits(this.#address, facts, Date.now())) {
      this.#chart.points.add({ at: run.accepted_at_us / 1000, ms: run.timing.total / 1000, outcome: facts.outcome, lane });
      this.#fresh.push(run);
      this.#timer ??= setTimeout(() => { this.#showFresh(); }, SHOWN_EVERY_MS);
    }
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#chart.end();
  }

  async #begin(address: Address, signal: AbortSignal): Promise<void> {
    this.#fresh = [];
    const asked = query(address, Date.now());
    const page = await ask<List<Run>>(`/api/v1/runs?limit=${ROWS}&${asked.toString()}`, signal);
    this.#runs = [...page.items];
    this.#cursor = page.cursor;
    this.#showRows();
    this.#chart.points.set(await ask<RunTimes>(`/api/v1/runs/times?${asked.toString()}`, signal));
    this.#draw();
  }

  #draw(): void {
    const asked = query(this.#address, Date.now());
    if (asked.has('from') && asked.has('to')) {
      this.#chart.window(Number(asked.get('from')) / 1000, Number(asked.get('to')) / 1000);
    } else {
      this.#chart.all();
    }
    this.#chart.ask();
  }

  #showFresh(): void {
    this.#timer = undefined;
    this.#runs = [...this.#fresh.reverse(), ...this.#runs].slice(0, ROWS_MAX);
    this.#fresh = [];
    this.#showRows();
    this.#draw();
  }

  #showRows(): void {
    this.#fill(this.#runs);
    this.#more.hidden = this.#cursor === null || this.#runs.length >= ROWS_MAX;
    const whole = this.#cursor === null ? '' : ', older ones below';
    say(this.#count, this.#runs.length === 0 ? NONE : `The latest ${plural(this.#runs.length, 'request')}${whole}`);
  }

  async #older(): Promise<void> {
    if (this.#cursor !== null) {
      const asked = query(this.#address, Date.now());
      const page = await ask<List<Run>>(`/api/v1/runs?limit=${ROWS}&cursor=${this.#cursor}&${asked.toString()}`);
      this.#runs.push(...page.items);
      this.#cursor = page.cursor;
      this.#showRows();
    }
  }

  /** The details of the address's run, which may be none of the rows. */
  async #showOne(signal: AbortSignal): Promise<void> {
    const { run: wanted } = this.#address;
    if (wanted === '') {
      this.#details.replaceChildren();
      return;
    }
    const close = (): void => { this.#around.go({ ...this.#address, run: '' }); };
    try {
      const run = await ask<Run>(`/api/v1/runs/${encodeURIComponent(wanted)}`, signal);
      this.#details.replaceChildren(details(run, this.#address, close));
      this.#details.querySelector<HTMLElement>('#run-title')?.focus();
    } catch (error) {
      if (!(error instanceof Refused)) {
        throw error;
      }
      this.#details.replaceChildren(element('p', { class: 'trouble', role: 'alert' }, error.message));
    }
  }

  /** Shows the run that was accepted at this moment. */
  async #open(ms: number): Promise<void> {
    const us = Math.round(ms * 1000);
    const asked = query({ ...this.#address, since: '', from: '', to: '' }, 0);
    asked.set('from', String(us - 1));
    asked.set('to', String(us + 1));
    const [found] = (await ask<List<Run>>(`/api/v1/runs?limit=1&${asked.toString()}`)).items;
    if (found !== undefined) {
      this.#around.go({ ...this.#address, run: found.run });
    }
  }

  async #suggest(signal: AbortSignal): Promise<void> {
    const none = { items: [], cursor: null };
    const [models, lanes] = await Promise.all([
      ask<List<Model>>('/api/v1/models', signal).catch(() => none),
      ask<List<Lane>>('/api/v1/lanes', signal).catch(() => none),
    ]);
    this.#filters.suggest([...new Set(models.items.map(({ name }) => name))], lanes.items.map(({ lane }) => lane));
  }
}

export function runsView(around: Around): View {
  return new Runs(around);
}
