/** The form that restricts which runs are shown. */

import { element } from '../report/dom.ts';
import { type Address, type Filter, isFiltered, NOTHING, SINCE, START } from './address.ts';
import { labelled, options } from './parts.ts';
import { savedViews } from './savedviews.ts';
import { outcomeWords } from './say.ts';

const OUTCOMES = ['ok', 'failed', 'invalid_request', 'unknown_model', 'model_not_ready', 'no_backend', 'quarantined',
  'overloaded', 'rate_limited', 'deadline_exceeded', 'cancelled', 'lane_lost', 'out_of_memory', 'unauthorized', 'too_large',
  'source_unavailable', 'internal'];

const BACK: Readonly<Record<string, string>> = {
  '5m': 'last 5 minutes',
  '1h': 'last hour',
  '24h': 'last day',
  '7d': 'last 7 days',
};

/** As `datetime-local` has it: by the local clock, without a zone. */
function local(iso: string): string {
  const at = Date.parse(iso);
  if (Number.isNaN(at)) {
    return '';
  }
  const shifted = new Date(at - new Date(at).getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 19);
}

function iso(text: string): string {
  const at = new Date(text).getTime();
  return Number.isNaN(at) ? '' : new Date(at).toISOString();
}

/** A list of suggestions whose element stays, so that what is being typed stays too. */
function suggestions(id: string): { root: HTMLDataListElement; show: (values: readonly string[]) => void } {
  const root = element('datalist', { id });
  return { root, show: (values) => { root.replaceChildren(...values.map((value) => element('option', { value }))); } };
}

export interface Filters {
  readonly root: HTMLElement;
  readonly show: (address: Address) => void;
  readonly suggest: (models: readonly string[], lanes: readonly string[]) => void;
}

export function filters(go: (address: Address) => void): Filters {
  let shown: Address = START;
  const change = (part: Partial<Filter>): void => { go({ ...shown, run: '', ...part }); };
  const [models, lanes] = [suggestions('models'), suggestions('lanes')];
  const typed = (name: 'model' | 'lane' | 'plan', list?: string): HTMLInputElement => {
    const plain = { type: 'search', name, autocomplete: 'off', spellcheck: 'false' };
    const input = element('input', list === undefined ? plain : { ...plain, list });
    input.addEventListener('change', () => { change({ [name]: input.value.trim() }); });
    return input;
  };
  const inputs = { model: typed('model', 'models'), lane: typed('lane', 'lanes'), plan: typed('plan') };
  const words = (word: string): string => word === 'failed' ? 'any failure' : outcomeWords(word);
  const outcome = element('select', { name: 'outcome' }, ...options('any', OUTCOMES.map((word) => [word, words(word)])));
  outcome.addEventListener('change', () => { change({ outcome: outcome.value }); });
  const since = element('select', { name: 'since' },
    ...options('any', Object.keys(SINCE).map((word) => [word, BACK[word] ?? word])),
    element('option', { value: 'span' }, 'from … to …'));
  const moment = (name: 'from' | 'to'): HTMLInputElement => {
    const input = element('input', { type: 'datetime-local', name, step: '1' });
    input.addEventListener('change', () => { change({ since: '', [name]: iso(input.value) }); });
    return input;
  };
  const [from, to] = [moment('from'), moment('to')];
  const span = element('div', { class: 'span' }, labelled('From', from), labelled('To', to));
  since.addEventListener('change', () => {
    if (since.value === 'span') {
      span.hidden = false;
      from.focus();
    } else {
      change({ since: since.value, from: '', to: '' });
    }
  });
  const clear = element('button', { type: 'button', click: () => { go({ ...START, ...NOTHING, view: 'runs' }); } }, 'Clear');
  const form = element('form', { class: 'filters', 'aria-label': 'Which requests', role: 'search' },
    labelled('Model', inputs.model), labelled('Lane', inputs.lane), labelled('Outcome', outcome), labelled('Plan', inputs.plan),
    labelled('Accepted', since), span, clear, models.root, lanes.root);
  form.addEventListener('submit', (event) => { event.preventDefault(); });
  const views = savedViews(() => shown);
  return {
    root: element('div', {}, form, views.root),
    suggest: (known, there) => { models.show(known); lanes.show(there); },
    show: (address) => {
      shown = address;
      for (const name of ['model', 'lane', 'plan'] as const) {
        inputs[name].value = address[name];
      }
      outcome.value = address.outcome;
      const bounded = address.from !== '' || address.to !== '';
      since.value = bounded ? 'span' : address.since;
      span.hidden = !bounded;
      [from.value, to.value] = [local(address.from), local(address.to)];
      clear.hidden = !isFiltered(address);
      views.show();
    },
  };
}
