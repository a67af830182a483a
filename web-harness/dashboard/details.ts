/** One run with all that is known of it. */

import { element } from '../report/dom.ts';
import { type Address, format, START } from './address.ts';
import type { Provenance, Run, StageRun, Timing } from './documents.ts';
import { outcomeOf } from './documents.ts';
import { about, outcomeBadge } from './parts.ts';
import { bytes, dateAndTime, outcomeWords, time } from './say.ts';

const PARTS = ['queue', 'transfer', 'decode', 'compute', 'encode'] as const;

const MEANING: Readonly<Record<(typeof PARTS)[number] | 'other', string>> = {
  queue: 'waited',
  transfer: 'transfer',
  decode: 'decoding',
  compute: 'computing',
  encode: 'encoding',
  other: 'between these',
};

/** A bar of the parts, and the same in words. What the parts do not tell of the total is a part too. */
export function timingBar(timing: Timing, most: number): HTMLElement {
  const known = PARTS.reduce((sum, part) => sum + timing[part], 0);
  const other = Math.max(0, timing.total - known);
  const parts = [...PARTS.map((part) => [part, timing[part]] as const), ['other', other] as const];
  const told = parts.filter(([, us]) => us > 0);
  const bars = told.map(([part, us]) => {
    const bar = element('span', { class: `part ${part}`, title: `${MEANING[part]} ${time(us)}` });
    bar.style.width = `${us / Math.max(1, most) * 100}%`;
    return bar;
  });
  const words = told.map(([part, us]) =>
    element('li', {}, element('span', { class: `key ${part}` }), `${MEANING[part]} `, element('b', {}, time(us))));
  return element('div', { class: 'timing' },
    element('div', { class: 'bar', 'aria-hidden': 'true' }, ...bars), element('ul', { class: 'legend' }, ...words));
}

type Fact = readonly [string, string | Node | null];

/** Those that are known. */
function facts(pairs: readonly Fact[]): HTMLElement {
  const shown = pairs.flatMap(([name, value]) => value === null || value === ''
    ? []
    : [element('div', {}, element('dt', {}, name), element('dd', {}, value))]);
  return element('dl', { class: 'facts' }, ...shown);
}

function placement(nodes: Readonly<Record<string, number>>): string {
  return Object.entries(nodes).map(([provider, count]) => `${count} on ${provider}`).join(', ');
}

function provenanceFacts(of: Provenance): readonly Fact[] {
  const names = of.adapter === null ? [] : [of.adapter.vendor, of.adapter.description];
  const adapter = of.adapter === null ? null : names.filter((text) => text !== '').join(' ');
  const runs = element('a', { href: format({ ...START, view: 'runs', lane: of.lane }) }, of.lane);
  return [
    ['Lane', runs],
    ['Browser', `${of.browser} ${of.browser_version}`],
    ['Backend', `${of.backend}, ${of.threads} ${of.threads === 1 ? 'thread' : 'threads'}`],
    ['Adapter', adapter === null ? null : `${adapter}${of.software_adapter ? ', in software' : ''}`],
    ['Nodes', placement(of.placement)],
    ['Engine', of.engine],
    ['Verdict', of.verdict],
    ['Attempt', String(of.attempt)],
    ['Shared its step with', of.batch > 1 ? `${of.batch - 1} others` : null],
    ['Fallback', of.fallback === null ? null : `for ${of.fallback.wanted}: ${of.fallback.reason}`],
  ];
}

function stages(list: readonly StageRun[]): HTMLElement {
  const most = Math.max(1, ...list.map(({ timing_us }) => timing_us.total));
  const items = list.map(({ stage, lane, timing_us: timing, bytes_in: read, bytes_out: made }) => {
    const what = about(` in ${lane}, ${time(timing.total)}, ${bytes(read)} in, ${bytes(made)} out`);
    return element('li', {}, element('h4', {}, `Stage ${stage}`, what), timingBar(timing, most));
  });
  return element('section', {}, element('h3', {}, 'Stages'), element('ol', { class: 'stages', start: '0' }, ...items));
}

export function details(run: Run, address: Address, close: () => void): HTMLElement {
  const { provenance, error, timing } = run;
  const outcome = outcomeOf(run);
  const plan = provenance === null || provenance.plan === 'single'
    ? null
    : element('a', { href: format({ ...START, view: 'plans', plan: provenance.plan }) }, provenance.plan);
  const shut = element('a', { class: 'close', href: format({ ...address, run: '' }) }, 'Close');
  shut.addEventListener('click', (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      close();
    }
  });
  const failed = error === null ? [] : [element('p', { class: 'trouble' },
    `${outcomeWords(error.code)}: ${error.message}`, about(` Trying again: ${error.retry}.`))];
  const title = element('h2', { id: 'run-title', tabindex: '-1' }, run.model, ' ', outcomeBadge(outcome));
  const when = ` from acceptance to the answer, ${dateAndTime(run.accepted_at_us)}`;
  const split = provenance?.stages ?? [];
  return element('section', { class: 'details card', 'aria-labelledby': 'run-title' },
    element('header', {}, title, shut), ...failed, element('p', {}, element('b', {}, time(timing.total)), when),
    timingBar(timing, Math.max(timing.total, PARTS.reduce((sum, part) => sum + timing[part], 0))),
    ...(split.length > 0 ? [stages(split)] : []),
    facts([
      ['Plan', plan],
      ...(provenance === null ? [] : provenanceFacts(provenance)),
      ['Caller', run.caller],
      ['Request', run.request],
      ['Run', run.run],
      ['Model’s file', provenance?.model_digest ?? null],
    ]));
}
