/** What is shown, as the page's address tells it, so that it can be shared, kept and gone back to. */

export const VIEWS = ['overview', 'runs', 'plans', 'suites', 'history'] as const;
export type View = (typeof VIEWS)[number];

/** How far back, in the words of the address, with seconds. */
export const SINCE: Readonly<Record<string, number>> = { '5m': 300, '1h': 3600, '24h': 86_400, '7d': 604_800 };

export interface Filter {
  readonly model: string;
  readonly lane: string;
  readonly outcome: string;
  readonly plan: string;
  /** A word of `SINCE`; then `from` and `to` are empty. */
  readonly since: string;
  /** Moments as ISO 8601 has them, in UTC. */
  readonly from: string;
  readonly to: string;
}

/** Beside `model`, which cells of a suite's history are shown, of runs that began before when in microseconds, and as what. */
const CELLS = ['suite', 'machine', 'branch', 'browser', 'backend', 'scenario', 'precision', 'asked', 'before', 'metric'] as const;
export type Cells = Readonly<Record<(typeof CELLS)[number], string>>;

export interface Address extends Filter, Cells {
  readonly view: View;
  /** The run whose details are shown. */
  readonly run: string;
}

const FILTERS = ['model', 'lane', 'outcome', 'plan', 'since', 'from', 'to'] as const;

export const NOTHING: Filter = { model: '', lane: '', outcome: '', plan: '', since: '', from: '', to: '' };
const EVERY_CELL: Cells = {
  suite: '', machine: '', branch: '', browser: '', backend: '', scenario: '', precision: '', asked: '', before: '', metric: '',
};
export const START: Address = { ...NOTHING, ...EVERY_CELL, view: 'overview', run: '' };

function moment(text: string): string {
  const at = Date.parse(text);
  return Number.isNaN(at) ? '' : new Date(at).toISOString();
}

/** What of an address means nothing is left out. */
export function parse(search: string): Address {
  const given = new URLSearchParams(search);
  const text = (name: string): string => given.get(name) ?? '';
  const [from, to] = [moment(text('from')), moment(text('to'))];
  const bounded = from !== '' || to !== '';
  const cells = Object.fromEntries(CELLS.map((name) => [name, text(name)])) as unknown as Cells;
  return {
    ...cells,
    before: /^\d{1,16}$/.test(cells.before) ? cells.before : '',
    view: VIEWS.find((view) => view === text('view')) ?? 'overview',
    run: text('run'),
    model: text('model'),
    lane: text('lane'),
    outcome: text('outcome'),
    plan: text('plan'),
    since: !bounded && text('since') in SINCE ? text('since') : '',
    from,
    to,
  };
}

export function format(address: Address): string {
  const given = new URLSearchParams();
  if (address.view !== 'overview') {
    given.set('view', address.view);
  }
  for (const name of [...FILTERS, ...CELLS, 'run'] as const) {
    if (address[name] !== '') {
      given.set(name, address[name]);
    }
  }
  const search = given.toString();
  return search === '' ? '/' : `/?${search}`;
}

/** The filter as the routes of runs take it; `now` in milliseconds. */
export function query(filter: Filter, now: number): URLSearchParams {
  const asked = new URLSearchParams();
  for (const name of ['model', 'lane', 'outcome', 'plan'] as const) {
    if (filter[name] !== '') {
      asked.set(name, filter[name]);
    }
  }
  const back = SINCE[filter.since];
  const from = back === undefined ? Date.parse(filter.from) : now - back * 1000;
  const to = Date.parse(filter.to);
  if (!Number.isNaN(from)) {
    asked.set('from', String(Math.floor(from) * 1000));
  }
  if (!Number.isNaN(to)) {
    asked.set('to', String(Math.floor(to) * 1000));
  }
  return asked;
}

/** What of a suite's history is asked for. */
export function historyQuery(address: Address): URLSearchParams {
  const asked = new URLSearchParams();
  for (const name of [...CELLS, 'model'] as const) {
    if (name !== 'metric' && address[name] !== '') {
      asked.set(name, address[name]);
    }
  }
  return asked;
}

export interface Facts {
  readonly model: string;
  readonly lane: string | null;
  readonly outcome: string;
  readonly plan: string | null;
  readonly accepted_at_us: number;
}

/** Whether a run that was just told belongs to what is shown. */
export function admits(filter: Filter, run: Facts, now: number): boolean {
  const asked = query(filter, now);
  const is = (name: string, value: string | null): boolean => !asked.has(name) || asked.get(name) === value;
  const outcome = filter.outcome === 'failed' ? run.outcome !== 'ok' : is('outcome', run.outcome);
  return outcome && is('model', run.model) && is('lane', run.lane) && is('plan', run.plan)
    && run.accepted_at_us >= Number(asked.get('from') ?? 0)
    && run.accepted_at_us <= Number(asked.get('to') ?? Infinity);
}

export function isFiltered(filter: Filter): boolean {
  return FILTERS.some((name) => filter[name] !== '');
}
