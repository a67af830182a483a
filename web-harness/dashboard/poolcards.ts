/** A card for each browser, with a row for each of its lanes. */

import { element } from '../report/dom.ts';
import { format, START } from './address.ts';
import { keyed, type Kept, mark, say } from './keyed.ts';
import { heads, scrolling } from './parts.ts';
import { heldNames, type ShownInstance, type ShownLane } from './pool.ts';
import { bytes, plural } from './say.ts';

type Names = ReadonlyMap<string, string>;

function badge(): { root: HTMLElement; show: (state: string) => void } {
  const root = element('span', { class: 'badge' });
  return { root, show: (state) => { say(root, state); mark(root, 'data-state', state); } };
}

function laneRow(names: () => Names): (lane: ShownLane) => Kept<ShownLane> {
  return ({ lane, backend }) => {
    const state = badge();
    const [held, where, memory, running] = [
      element('td', { class: 'held' }), element('td', { class: 'where' }),
      element('td', { class: 'number' }), element('td', { class: 'number' }),
    ];
    const link = element('a', { href: format({ ...START, view: 'runs', lane }), title: `Requests in ${lane}` }, backend);
    const key = backend.startsWith('ort') ? 'native' : backend;
    const root = element('tr', {}, element('th', { scope: 'row' }, element('span', { class: `key ${key}` }), link),
      element('td', {}, state.root), held, where, memory, running);
    const show = (shown: ShownLane): void => {
      state.show(shown.state);
      const sessions = heldNames(shown.sessions, names());
      const why = shown.reason ?? '';
      say(held, why !== '' ? why : sessions.length > 0 ? sessions.join(', ') : '–');
      held.classList.toggle('why', why !== '');
      const software = shown.software && !/software/i.test(shown.adapter ?? '') ? ' (software)' : '';
      const adapter = shown.adapter === null ? null : `${shown.adapter}${software}`;
      const threads = shown.threads === null ? null : plural(shown.threads, 'thread');
      say(where, adapter ?? threads ?? '–');
      mark(where, 'title', shown.engine);
      const total = shown.memory === null ? null : shown.memory.wasm_bytes + shown.memory.gpu_bytes;
      say(memory, bytes(total));
      say(running, shown.running.toLocaleString('en'));
    };
    return { root, show };
  };
}

function card(names: () => Names): (instance: ShownInstance) => Kept<ShownInstance> {
  return ({ instance, browser }) => {
    const state = badge();
    const [about, why] = [element('p', { class: 'about' }), element('p', { class: 'why' })];
    const body = element('tbody', {});
    const fill = keyed<ShownLane>(body, ({ lane }) => lane, laneRow(names));
    const head = heads(['lane', 'state', 'models held', 'runs on', 'memory', 'running'], ['memory', 'running']);
    const root = element('article', { class: 'card', 'aria-label': instance },
      element('header', {}, element('h3', {}, instance), state.root), about, why,
      scrolling('', `Lanes of ${instance}`, element('table', {}, head, body)));
    const show = (shown: ShownInstance): void => {
      state.show(shown.state);
      const parts = [
        browser === 'native' ? 'ONNX Runtime in the daemon' : `${browser} ${shown.version ?? ''}`.trim(),
        ...(shown.memory === null ? [] : [bytes(shown.memory)]),
        ...(shown.executed === null ? [] : [plural(shown.executed, 'step')]),
        ...(shown.launches > 1 ? [`launched ${shown.launches} times`] : []),
        ...(shown.lease === null ? [] : ['leased']),
      ];
      say(about, parts.join(' · '));
      say(why, shown.reason ?? '');
      why.hidden = shown.reason === null;
      fill(shown.lanes);
    };
    return { root, show };
  };
}

export function poolCards(): { root: HTMLElement; show: (list: readonly ShownInstance[], names: Names) => void } {
  let known: Names = new Map();
  const root = element('div', { class: 'cards' });
  const none = element('p', { class: 'about' }, 'No browser is running.');
  const fill = keyed<ShownInstance>(root, ({ instance }) => instance, card(() => known));
  return {
    root: element('div', {}, none, root),
    show: (list, names) => {
      known = names;
      none.hidden = list.length > 0;
      fill(list);
    },
  };
}
