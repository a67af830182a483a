/** The choices that narrow a suite's history down; what cannot be chosen from is not shown. */

import { element } from '../report/dom.ts';
import { scenarioWords } from '../report/words.ts';
import { type Address, START } from './address.ts';
import type { KeptSuite } from './documents.ts';
import { labelled, options } from './parts.ts';
import { savedViews } from './savedviews.ts';
import { plural } from './say.ts';
import { METRIC_WORDS, METRICS } from './trend.ts';

type Option = readonly [string, string];

const FIELDS = ['machine', 'model', 'browser', 'backend', 'scenario', 'precision', 'asked', 'branch'] as const;
type Field = (typeof FIELDS)[number];

const LABELS: Readonly<Record<Field, string>> = {
  machine: 'Machine', model: 'Model', browser: 'Browser', backend: 'Backend', scenario: 'Requests', precision: 'Precision',
  asked: 'Asked as', branch: 'Branch',
};

function plain(values: readonly string[]): Option[] {
  return values.map((value) => [value, value]);
}

function choices(suite: KeptSuite, { scenario }: Address): Readonly<Record<Field, readonly Option[]>> {
  const asked = suite.asked.filter((words) => scenario === '' || words.split(' ')[0] === scenario);
  return {
    machine: suite.machines.map(({ id, name, runs }) => [id, `${name} · ${plural(runs, 'run')} · ${id.slice(0, 4)}`]),
    model: plain(suite.models),
    browser: plain(suite.browsers),
    backend: plain(suite.backends),
    scenario: suite.scenarios.map((name) => [name, scenarioWords(name)]),
    precision: plain(suite.precisions),
    asked: asked.map((words) => [words, scenarioWords(words)]),
    branch: plain(suite.branches),
  };
}

/** Where nothing varies beside the scenario, how it was asked says no more. */
function tells(field: Field, suite: KeptSuite, there: readonly Option[]): boolean {
  return there.length > 1 && (field !== 'asked' || suite.asked.length > suite.scenarios.length);
}

export interface HistoryFilters {
  readonly root: HTMLElement;
  /** `suite` is the one that is shown; none where nothing of it is kept. */
  readonly show: (address: Address, suites: readonly KeptSuite[], suite: KeptSuite | undefined) => void;
}

export function historyFilters(go: (address: Address) => void): HistoryFilters {
  let shown: Address = START;
  const all = (suite: string): Address => ({ ...START, view: 'history', suite, metric: shown.metric });
  const select = (name: string, change: (value: string) => void): HTMLSelectElement => {
    const made = element('select', { name });
    made.addEventListener('change', () => { change(made.value); });
    return made;
  };
  const suite = select('suite', (value) => { go(all(value)); });
  const metric = select('metric', (value) => { go({ ...shown, metric: value }); });
  metric.append(...METRICS.map((name) => element('option', { value: name === 'time' ? '' : name }, METRIC_WORDS[name].name)));
  const fields = FIELDS.map((name) => {
    // Another scenario is asked in other ways.
    const rest = name === 'scenario' ? { asked: '' } : {};
    const chosen = select(name, (value) => { go({ ...shown, run: '', ...rest, [name]: value }); });
    return { name, select: chosen, root: labelled(LABELS[name], chosen) };
  });
  const clear = element('button', { type: 'button', click: () => { go(all(shown.suite)); } }, 'Clear');
  const form = element('form', { class: 'filters', 'aria-label': 'Which cells', role: 'search' },
    labelled('Suite', suite), ...fields.map(({ root }) => root), labelled('Show', metric), clear);
  form.addEventListener('submit', (event) => { event.preventDefault(); });
  const views = savedViews(() => shown);
  const show: HistoryFilters['show'] = (address, suites, found) => {
    shown = address;
    suite.replaceChildren(...suites.map(({ suite: name, runs }) => element('option', { value: name }, `${name} · ${plural(runs, 'run')}`)));
    suite.value = found?.suite ?? '';
    metric.value = address.metric;
    const there = found === undefined ? null : choices(found, address);
    for (const { name, select: chosen, root } of fields) {
      const known = there?.[name] ?? [];
      const wanted = address[name];
      // What the address names is shown, also where there is none of it.
      const missing: Option[] = wanted === '' || known.some(([value]) => value === wanted) ? [] : [[wanted, wanted]];
      chosen.replaceChildren(...options(name === 'machine' ? 'the newest run’s' : 'any', [...known, ...missing]));
      chosen.value = wanted;
      root.hidden = wanted === '' && (found === undefined || !tells(name, found, known));
    }
    clear.hidden = FIELDS.every((name) => address[name] === '');
    views.show();
  };
  return { root: element('div', {}, form, views.root), show };
}
