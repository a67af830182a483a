/** The first view: what goes on at the moment. */

import { element } from '../report/dom.ts';
import { type Address, format, START } from './address.ts';
import { ask } from './ask.ts';
import type { Activity, Instance, Lane, List, Model, Run, RunTimes, Suite, Told } from './documents.ts';
import { outcomeOf } from './documents.ts';
import { LatencyChart } from './latency.ts';
import { Pool } from './pool.ts';
import { poolCards } from './poolcards.ts';
import { suiteCards, Suites } from './suites.ts';
import { tiles } from './tiles.ts';
import type { Around, View } from './view.ts';

/** Time that the chart shows: at least this, so that first requests are no wall, and as it grows, at most that. */
const WINDOW_MIN_MS = 60_000;
const WINDOW_MAX_MS = 900_000;

/** A chart that follows is drawn this often at most. */
const DRAWN_EVERY_MS = 250;
const CALM_MS = 2000;

/** Names of models are asked for again when one is missing, but not more often. */
const NAMES_EVERY_MS = 10_000;

const calm = matchMedia('(prefers-reduced-motion: reduce)');

class Overview implements View {
  readonly root: HTMLElement;
  readonly title = 'Overview';
  readonly topics = ['pool', 'activity', 'runs', 'suites'] as const;
  readonly #around: Around;
  readonly #pool = new Pool();
  readonly #suites = new Suites();
  readonly #tiles = tiles();
  readonly #cards = poolCards();
  readonly #suiteCards = suiteCards(this.#suites);
  readonly #suitesPart: HTMLElement;
  readonly #chart: LatencyChart;
  readonly #names = new Map<string, string>();
  #namesAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lagged = 0;

  constructor(around: Around) {
    this.#around = around;
    this.#chart = new LatencyChart('Requests of the last 15 minutes', {
      span: (from, to) => {
        around.go({ ...START, view: 'runs', from: new Date(from).toISOString(), to: new Date(to).toISOString() });
      },
      point: ({ at }) => {
        const [from, to] = [at - 1, at + 1].map((ms) => new Date(ms).toISOString());
        around.go({ ...START, view: 'runs', from: from ?? '', to: to ?? '' });
      },
    });
    const part = (title: string, id: string, ...children: readonly HTMLElement[]): HTMLElement =>
      element('section', { 'aria-labelledby': id }, element('h2', { id }, title), ...children);
    this.#suitesPart = part('Suites being measured', 'suites-title', this.#suiteCards.root);
    this.#suitesPart.hidden = true;
    this.root = element('div', { class: 'view' }, element('h1', { class: 'unseen' }, 'Overview'),
      this.#tiles.root, this.#chart.root,
      element('p', { class: 'more' }, element('a', { href: format({ ...START, view: 'runs' }) }, 'All requests')),
      this.#suitesPart, part('Browsers and lanes', 'pool-title', this.#cards.root));
  }

  async show(_: Address, signal: AbortSignal): Promise<void> {
    const [instances, lanes, activity, suites] = await Promise.all([
      ask<List<Instance>>('/api/v1/instances', signal),
      ask<List<Lane>>('/api/v1/lanes', signal),
      ask<Activity>('/api/v1/activity', signal),
      ask<List<Suite>>('/api/v1/suites', signal),
    ]);
    this.#pool.set(instances.items, lanes.items);
    this.#suites.set(suites.items, Date.now());
    this.#follow(activity);
    this.#showSuites();
    // What takes longest comes last: the rest is seen by then.
    this.#chart.points.set(await ask<RunTimes>(`/api/v1/runs/times?from=${(Date.now() - WINDOW_MAX_MS) * 1000}`, signal));
    this.#drawSoon();
  }

  hear({ topic, event, lagged }: Told): void {
    if (lagged > this.#lagged) {
      this.#around.speak(`${lagged - this.#lagged} events came too fast and were missed`);
      this.#lagged = lagged;
    }
    if (topic === 'runs') {
      this.#add(event as Run);
    } else if (topic === 'activity') {
      this.#follow(event as Activity);
    } else if (topic === 'pool') {
      const aloud = this.#pool.tell(event as Instance);
      if (aloud !== null) {
        this.#around.speak(aloud);
      }
      this.#cards.show(this.#pool.list(), this.#names);
    } else if (topic === 'suites' && this.#suites.tell(event, Date.now())) {
      this.#showSuites();
    }
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#suiteCards.end();
    this.#chart.end();
  }

  #add(run: Run): void {
    const lane = run.provenance?.lane ?? null;
    this.#chart.points.add({ at: run.accepted_at_us / 1000, ms: run.timing.total / 1000, outcome: outcomeOf(run), lane });
    this.#drawSoon();
  }

  #follow(activity: Activity): void {
    this.#pool.follow(activity);
    this.#tiles.show(activity);
    this.#cards.show(this.#pool.list(), this.#names);
    void this.#learn(activity);
  }

  /** Sessions are called by their files; people call models by their names. */
  async #learn({ lanes }: Activity): Promise<void> {
    const digests = lanes.flatMap(({ sessions }) => sessions.map(({ session }) => session.split(',')[0] ?? ''));
    if (digests.every((digest) => this.#names.has(digest)) || performance.now() - this.#namesAt < NAMES_EVERY_MS) {
      return;
    }
    this.#namesAt = performance.now();
    // Without names it shows digests.
    const models = await ask<List<Model>>('/api/v1/models').catch(() => null);
    for (const { name, digest } of models?.items ?? []) {
      this.#names.set(digest, name);
    }
    this.#cards.show(this.#pool.list(), this.#names);
  }

  #showSuites(): void {
    this.#suitesPart.hidden = this.#suites.list(0).length === 0;
    this.#suiteCards.show();
  }

  #drawSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const now = Date.now();
      const { points } = this.#chart;
      const oldest = points.size === 0 ? now : points.at[points.place(0)] ?? now;
      this.#chart.window(Math.max(now - WINDOW_MAX_MS, Math.min(oldest, now - WINDOW_MIN_MS)), now);
      this.#chart.ask();
    }, calm.matches ? CALM_MS : DRAWN_EVERY_MS);
  }
}

export function overview(around: Around): View {
  return new Overview(around);
}
