/** Small elements that several views have. */

import { element } from '../report/dom.ts';
import { outcomeWords } from './say.ts';

/** What is said in passing. */
export function about(text: string): HTMLElement {
  return element('span', { class: 'about' }, text);
}

/** States are told apart by their words; the dot's colour only helps the eye. */
export function outcomeBadge(outcome: string): HTMLElement {
  const state = outcome === 'ok' ? 'ready' : 'failed';
  return element('span', { class: 'badge', 'data-state': state }, outcomeWords(outcome));
}

export function labelled(text: string, input: HTMLElement): HTMLElement {
  return element('label', {}, element('span', {}, text), input);
}

/** Of a choice, the first of which stands for any. */
export function options(any: string, values: readonly (readonly [string, string])[]): HTMLElement[] {
  return [element('option', { value: '' }, any), ...values.map(([value, text]) => element('option', { value }, text))];
}

/** Heads of columns, those of `numbers` above figures. */
export function heads(names: readonly string[], numbers: readonly string[]): HTMLElement {
  const cells = names.map((name) =>
    element('th', { scope: 'col', ...(numbers.includes(name) ? { class: 'number' } : {}) }, name));
  return element('thead', {}, element('tr', {}, ...cells));
}

/** Wider than the page, it is scrolled, also by keys. */
export function scrolling(kind: string, label: string, child: Element): HTMLElement {
  return element('div', { class: `scrolls ${kind}`, tabindex: '0', role: 'group', 'aria-label': label }, child);
}
