/** Benchmark suites that are being measured: how far they are, and how long they still take. */

import { element } from '../report/dom.ts';
import { type Address, format, START } from './address.ts';
import { ask } from './ask.ts';
import type { List, Suite, Told } from './documents.ts';
import { keyed, type Kept, say } from './keyed.ts';
import { clock, plural, remaining } from './say.ts';
import type { View } from './view.ts';

/** A suite that is done in less than nothing has only not said so yet. */
function less(us: number, by: number): number {
  return Math.max(0, us - by);
}

export class Suites {
  /** With when what they tell was so, in milliseconds. */
  readonly #suites = new Map<string, readonly [Suite, number]>();

  set(list: readonly Suite[], now: number): void {
    this.#suites.clear();
    for (const suite of list) {
      // What was told in the future was told by another clock.
      this.#suites.set(suite.id, [suite, Math.min(now, suite.told_at_us / 1000)]);
    }
  }

  /** Answers whether anything has changed. */
  tell(event: unknown, now: number): boolean {
    const told = event as { progress?: Suite; ended?: { id: string } };
    if (told.progress !== undefined) {
      this.#suites.set(told.progress.id, [told.progress, now]);
      return true;
    }
    return told.ended !== undefined && this.#suites.delete(told.ended.id);
  }

  /** As they are by now: what remains grows less while nothing is told. */
  list(now: number): Suite[] {
    const list = [...this.#suites.values()].map(([suite, at]) => {
      const since = Math.max(0, now - at) * 1000;
      const remaining_us = suite.remaining_us === null ? null : less(suite.remaining_us, since);
      return { ...suite, remaining_us, at_most_us: less(suite.at_most_us, since) };
    });
    return list.sort((a, b) => a.began_at_us - b.began_at_us);
  }
}

function card({ id, suite }: Suite): Kept<Suite> {
  const bar = element('progress', { 'aria-label': `Cells of ${suite} that have ended` });
  const [count, left, now] = [element('p', {}), element('strong', {}), element('span', {})];
  const root = element('article', { class: 'card suite', 'aria-label': `Suite ${suite}` },
    element('header', {}, element('h3', {}, suite), left), bar, count,
    element('p', { class: 'about' }, now, `becomes the result ${id}`));
  const show = (shown: Suite): void => {
    bar.max = Math.max(1, shown.cells);
    bar.value = shown.ended;
    const failed = shown.failed === 0 ? 'none failed' : `${shown.failed} failed`;
    const since = clock(shown.began_at_us / 1000, 0);
    say(count, `${shown.ended} of ${plural(shown.cells, 'cell')} measured, ${failed}; since ${since}`);
    // It takes longer than it was thought to when that is over.
    say(left, shown.remaining_us === null || shown.remaining_us === 0
      ? `at most ${remaining(shown.at_most_us)} left`
      : `about ${remaining(shown.remaining_us)} left`);
    say(now, shown.now === null ? '' : `${shown.now}; `);
  };
  return { root, show };
}

export interface SuiteCards {
  readonly root: HTMLElement;
  readonly show: () => void;
  readonly end: () => void;
}

/** Cards that count down while there are any. */
export function suiteCards(suites: Suites): SuiteCards {
  const root = element('div', { class: 'cards' });
  const fill = keyed<Suite>(root, ({ id }) => id, card);
  let timer: ReturnType<typeof setInterval> | undefined;
  const end = (): void => {
    clearInterval(timer);
    timer = undefined;
  };
  const show = (): void => {
    const list = suites.list(Date.now());
    fill(list);
    if (list.length === 0) {
      end();
    } else {
      timer ??= setInterval(show, 1000);
    }
  };
  return { root, show, end };
}

export function suitesView(): View {
  const suites = new Suites();
  const cards = suiteCards(suites);
  const none = element('p', { class: 'about' },
    'No suite is being measured. ', element('code', {}, 'weft bench run smoke'),
    ' measures one; it is seen here while it runs, and what came out in the ',
    element('a', { href: format({ ...START, view: 'history' }) }, 'history'), '.');
  const fill = (): void => {
    none.hidden = suites.list(0).length > 0;
    cards.show();
  };
  return {
    root: element('div', { class: 'view' }, element('h1', {}, 'Suites being measured'), none, cards.root),
    title: 'Suites',
    topics: ['suites'],
    show: async (_: Address, signal: AbortSignal) => {
      suites.set((await ask<List<Suite>>('/api/v1/suites', signal)).items, Date.now());
      fill();
    },
    hear: ({ topic, event }: Told) => {
      if (topic === 'suites' && suites.tell(event, Date.now())) {
        fill();
      }
    },
    end: cards.end,
  };
}
