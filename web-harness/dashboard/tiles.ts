/** The last minute in a row of figures, with what failed of what. */

import { element } from '../report/dom.ts';
import { digits } from '../report/words.ts';
import { format, START } from './address.ts';
import type { Activity } from './documents.ts';
import { keyed, mark, say } from './keyed.ts';
import { outcomeWords, plural, time } from './say.ts';
import { svg } from './svg.ts';

const SPARK = { width: 120, height: 28 } as const;

interface Tile {
  readonly root: HTMLElement;
  readonly show: (value: string, about: string) => void;
}

function tile(name: string, ...more: readonly Element[]): Tile {
  const value = element('strong', {});
  const about = element('span', { class: 'about' });
  const root = element('div', { class: 'tile' }, element('dt', {}, name), element('dd', {}, value, about, ...more));
  return { root, show: (text, small) => { say(value, text); say(about, small); } };
}

/** Bars of the seconds, those that failed on top. */
function spark(): { root: SVGElement; show: (answered: readonly number[], failed: readonly number[]) => void } {
  const { width, height } = SPARK;
  const root = svg('svg', {
    class: 'spark', viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true', preserveAspectRatio: 'none',
  });
  const [fine, bad] = [svg('path', { class: 'fine' }), svg('path', { class: 'bad' })];
  root.append(fine, bad);
  return {
    root,
    show: (answered, failed) => {
      const most = Math.max(1, ...answered.map((count, at) => count + (failed[at] ?? 0)));
      const step = width / Math.max(1, answered.length);
      const y = (count: number): string => (height - count / most * height).toFixed(1);
      const bar = (at: number, low: number, high: number): string => high > low
        ? `M${(at * step).toFixed(1)} ${y(low)}h${(step * 0.75).toFixed(1)}V${y(high)}h${(-step * 0.75).toFixed(1)}z`
        : '';
      mark(fine, 'd', answered.map((count, at) => bar(at, 0, count)).join(''));
      mark(bad, 'd', failed.map((count, at) => bar(at, answered[at] ?? 0, (answered[at] ?? 0) + count)).join(''));
    },
  };
}

type Failure = readonly [string, number];

export function tiles(): { root: HTMLElement; show: (activity: Activity) => void } {
  const line = spark();
  const [rate, p50, p95] = [tile('Requests per second', line.root), tile('Median'), tile('95th percentile')];
  const [failed, waiting, running] = [tile('Failed'), tile('Waiting'), tile('Under way')];
  const failures = element('ul', { class: 'failures', 'aria-label': 'Failures of the last minute, by reason' });
  const fill = keyed<Failure>(failures, ([code]) => code, ([code]) => {
    const count = element('b', {});
    const href = format({ ...START, view: 'runs', outcome: code, since: '5m' });
    const root = element('li', {}, count, ' ', element('a', { href }, outcomeWords(code)));
    return { root, show: ([, number]) => { say(count, number.toLocaleString('en')); } };
  });
  rate.root.classList.add('wide');
  const root = element('section', { 'aria-label': 'The last minute' },
    element('dl', { class: 'tiles' }, ...[rate, p50, p95, failed, waiting, running].map((one) => one.root)), failures);
  const show = ({ last_minute: minute, pending, queued, lost_runs: lost }: Activity): void => {
    const codes = Object.entries(minute.failed).sort(([, a], [, b]) => b - a);
    const failures = codes.reduce((sum, [, count]) => sum + count, 0);
    rate.show(digits(minute.answered / 60), `${minute.answered.toLocaleString('en')} in the last minute`);
    p50.show(time(minute.p50_us), 'of the last minute');
    p95.show(time(minute.p95_us), 'of the last minute');
    const all = minute.answered + failures;
    const share = all === 0 ? 'of no requests' : `${digits(failures / all * 100)} % of ${all.toLocaleString('en')}`;
    failed.show(failures.toLocaleString('en'), share);
    waiting.show(queued.toLocaleString('en'), 'for a lane');
    running.show(pending.toLocaleString('en'), lost === 0 ? 'not answered yet' : `${plural(lost, 'row')} lost`);
    failed.root.classList.toggle('bad', failures > 0);
    line.show(minute.answered_by_second, minute.failed_by_second);
    fill(codes);
  };
  return { root, show };
}
