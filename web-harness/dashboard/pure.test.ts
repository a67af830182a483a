/** Addresses, events put together, points counted, plans laid out. */

import { describe, expect, it } from 'vitest';
import { admits, format, historyQuery, NOTHING, parse, query, START } from './address.ts';
import type { Activity, Instance, Lane, Plan, PlanStage, Run, RunTimes, Series, StageRun } from './documents.ts';
import { depths, edges, figures, layout, place, seats } from './picture.ts';
import { columns, extent, FAILED, type Frame, height, nearest, neighbour, Points, POINTS_MAX, raster, timeTicks } from './points.ts';
import { heldNames, Pool } from './pool.ts';
import { forget, save, saved } from './saved.ts';
import { bytes, remaining, time } from './say.ts';
import { Suites } from './suites.ts';
import { eventWords, known, layout as trendLayout, metricOf, moments, nearestAcross, pages, ROOM, size, trend } from './trend.ts';

const NOW = Date.parse('2026-11-30T12:00:00Z');

describe('addresses', () => {
  it('come back as they were', () => {
    const cases = [
      '/', '/?view=plans', '/?view=runs&model=magika&outcome=failed&since=1h', '/?view=runs&lane=firefox-1%2Fwasm&run=5e3a',
      '/?view=history&model=m&suite=smoke&machine=0f&branch=a%2Fb&browser=edge&backend=wasm&scenario=server&precision=int8&asked=server+5%2Fs&metric=rate',
      '/?view=runs&from=2026-11-30T10%3A00%3A00.000Z&to=2026-11-30T11%3A00%3A00.000Z', '/?view=runs&model=%3Cb%3E%26%2B+x',
    ];
    for (const address of cases) {
      expect(format(parse(address.slice(1)))).toBe(address);
    }
  });

  it('leave out what means nothing', () => {
    expect(parse('?view=none&since=1y&from=yesterday&what=ever')).toEqual(START);
    expect(parse('?since=1h&from=2026-11-30T10:00:00Z')).toMatchObject({ since: '', from: '2026-11-30T10:00:00.000Z' });
  });

  it('ask for what they name', () => {
    const filter = { ...NOTHING, model: 'a b', outcome: 'failed', since: '5m' };
    expect(query(filter, NOW).toString()).toBe(`model=a+b&outcome=failed&from=${(NOW - 300_000) * 1000}`);
    const span = { ...NOTHING, from: '2026-11-30T11:00:00Z', to: '2026-11-30T12:00:00Z' };
    expect(query(span, 0).toString()).toBe(`from=${(NOW - 3_600_000) * 1000}&to=${NOW * 1000}`);
  });

  it('ask for the history that they name, whatever it is shown as', () => {
    const address = parse('?view=history&suite=a+b&model=m&precision=int8&metric=rate&lane=x');
    expect(historyQuery(address).toString()).toBe('suite=a+b&precision=int8&model=m');
  });

  it('admit the runs that the routes would tell', () => {
    const run = { model: 'm', lane: 'l', plan: 'single', outcome: 'lane_lost', accepted_at_us: NOW * 1000 };
    const cases = [
      [{}, true], [{ model: 'm', lane: 'l', plan: 'single', outcome: 'lane_lost' }, true], [{ outcome: 'failed' }, true],
      [{ outcome: 'ok' }, false], [{ model: 'n' }, false], [{ lane: 'x' }, false], [{ plan: 'p' }, false], [{ since: '5m' }, true],
      [{ from: '2026-11-30T12:00:01Z' }, false], [{ to: '2026-11-30T11:59:59Z' }, false],
    ] as const;
    for (const [filter, wanted] of cases) {
      expect(admits({ ...NOTHING, ...filter }, run, NOW), JSON.stringify(filter)).toBe(wanted);
    }
    expect(admits({ ...NOTHING, lane: 'l' }, { ...run, lane: null }, NOW)).toBe(false);
  });
});

describe('saved views', () => {
  const shelf = (): { getItem: (name: string) => string | null; setItem: (name: string, value: string) => void } => {
    const kept = new Map<string, string>();
    return { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => { kept.set(name, value); } };
  };

  it('are kept by name, the last of a name alone', () => {
    const place = shelf();
    expect(save(place, ' failures ', '/?view=runs&outcome=failed')).toBe(true);
    expect(save(place, 'failures', '/?view=runs&outcome=internal')).toBe(true);
    expect(save(place, '  ', '/')).toBe(false);
    expect(saved(place)).toEqual([{ name: 'failures', search: '/?view=runs&outcome=internal' }]);
    forget(place, 'failures');
    expect(saved(place)).toEqual([]);
  });

  it('lead nowhere else, whatever was written there', () => {
    const place = shelf();
    for (const text of ['{', '7', '[{"name":"x","search":"javascript:alert(1)"},{"name":"y","search":"//evil"},null]']) {
      place.setItem('weft.saved', text);
      expect(saved(place)).toEqual([]);
    }
    expect(save({ getItem: () => null, setItem: () => { throw new Error('full'); } }, 'a', '/')).toBe(false);
  });
});

const LANE: Lane = {
  lane: 'a-1/wasm', instance: 'a-1', browser: 'a', backend: 'wasm', state: 'ready', reason: null, memory: null,
  capability: { engine: 'ort', threads: 2, adapter: { vendor: '', description: 'Some GPU', software: true } },
};

const INSTANCE: Instance = {
  instance: 'a-1', browser: 'a', browser_version: '1', state: 'ready', reason: null, gpu: null, launches: 1, executed: 3,
  memory_bytes: 7, lease: null, lanes: { 'a-1/wasm': LANE },
};

function activity(lanes: Activity['lanes'], executed = 9): Activity {
  const minute = { answered: 0, failed: {}, p50_us: null, p95_us: null, answered_by_second: [], failed_by_second: [] };
  return { at_us: 0, pending: 0, queued: 0, lost_runs: 0, last_minute: minute, instances: [{ instance: 'a-1', executed, memory_bytes: 8 }], lanes };
}

describe('the pool', () => {
  const native: Lane = { ...LANE, lane: 'native/ort-cpu', instance: 'native', browser: 'native', backend: 'ort-cpu', capability: null };

  it('has native lanes last and takes figures from the activity', () => {
    const pool = new Pool();
    pool.set([{ ...INSTANCE, state: 'busy' }], [LANE, { ...native, state: 'executing', load: { running: 1, sessions: [] } }]);
    expect(pool.list().map(({ instance, state }) => [instance, state])).toEqual([['a-1', 'ready'], ['native', 'busy']]);
    pool.follow(activity([{ lane: 'a-1/wasm', state: 'executing', running: 2, sessions: [], memory: null }]));
    const [first, last] = pool.list();
    expect(first).toMatchObject({ state: 'busy', executed: 9, memory: 8, lanes: [{ state: 'executing', running: 2, software: true, adapter: 'Some GPU' }] });
    expect(last).toMatchObject({ state: 'ready', lanes: [{ running: 0 }] });
  });

  it('says changes of state aloud, and shows no figures of a lane that is gone', () => {
    const pool = new Pool();
    pool.set([INSTANCE], [LANE]);
    pool.follow(activity([{ lane: 'a-1/wasm', state: 'executing', running: 2, sessions: [], memory: null }]));
    expect(pool.tell({ ...INSTANCE, executed: 4 })).toBeNull();
    const lost = { ...LANE, state: 'recovering', reason: 'its link closed' };
    expect(pool.tell({ ...INSTANCE, state: 'degraded', reason: 'its link closed', lanes: { 'a-1/wasm': lost } })).toBe('a-1 is degraded: its link closed');
    expect(pool.lane('a-1/wasm')).toMatchObject({ state: 'recovering', running: 0, sessions: [] });
    expect(pool.tell({ instance: 'a-1', state: 'gone' })).toBe('a-1 is gone');
    expect(pool.list()).toEqual([]);
  });

  it('calls what lanes hold by the models’ names', () => {
    const held = [
      { session: 'aa11bb22cc,rows=4', state: 'verified' }, { session: 'ff', state: 'preparing' }, { session: 'ee', state: 'refused' },
    ];
    expect(heldNames(held, new Map([['ff', 'magika']]))).toEqual(['aa11bb22 rows=4', 'magika (loading)']);
  });
});

describe('suites', () => {
  const suite = { id: 'a', suite: 'smoke', cells: 4, ended: 1, failed: 0, now: null, remaining_us: 9e6, at_most_us: 20e6, caller: 'local', began_at_us: 0, told_at_us: 1e6 };

  it('take less and less while nothing is told, and end', () => {
    const suites = new Suites();
    suites.set([suite], 3000);
    expect(suites.list(3000)).toMatchObject([{ remaining_us: 7e6, at_most_us: 18e6 }]);
    expect(suites.list(60_000)).toMatchObject([{ remaining_us: 0, at_most_us: 0 }]);
    suites.set([{ ...suite, told_at_us: 9e9 }], 3000);
    expect(suites.list(4000)).toMatchObject([{ remaining_us: 8e6 }]);
    expect(suites.tell({ progress: { ...suite, ended: 2, remaining_us: null } }, 5000)).toBe(true);
    expect(suites.list(6000)).toMatchObject([{ ended: 2, remaining_us: null, at_most_us: 19e6 }]);
    expect([suites.tell({ ended: { id: 'b' } }, 0), suites.tell({ ended: { id: 'a' } }, 0), suites.list(0)]).toEqual([false, true, []]);
  });
});

describe('points', () => {
  const times: RunTimes = {
    accepted_at_us: [3_000_000, 2_000_000, 1_000_000], total_us: [1000, 100_000, 10_000], outcome: [0, 1, 0], lane: [0, null, 0],
    outcomes: ['ok', 'lane_lost'], lanes: ['a-1/wasm'],
  };
  const frame: Frame = { width: 11, height: 11, from: 1000, to: 3000, low: 0, high: 2 };

  it('are kept the oldest first, and the oldest make room', () => {
    const points = new Points();
    points.set(times);
    expect([0, 1, 2].map((nth) => points.point(points.place(nth)))).toEqual([
      { at: 1000, ms: 10, outcome: 'ok', lane: 'a-1/wasm' }, { at: 2000, ms: 100, outcome: 'lane_lost', lane: null },
      { at: 3000, ms: 1, outcome: 'ok', lane: 'a-1/wasm' },
    ]);
    for (let at = 0; at < POINTS_MAX; at += 1) {
      points.add({ at, ms: 1, outcome: 'ok', lane: null });
    }
    expect(points.size).toBe(POINTS_MAX);
    expect(points.point(points.place(0)).at).toBe(0);
    expect(points.point(points.place(POINTS_MAX - 1)).at).toBe(POINTS_MAX - 1);
  });

  it('are all counted, failures before others', () => {
    const points = new Points();
    points.set(times);
    points.add({ at: 2000, ms: 100, outcome: 'ok', lane: 'a-1/webgpu' });
    const groups = points.groups((lane) => lane.endsWith('webgpu') ? 2 : 1);
    const counted = raster(points, frame, 1, groups);
    expect([...counted.counts].reduce((sum, count) => sum + count, 0)).toBe(4);
    expect(counted).toMatchObject({ most: 2, shown: 4 });
    expect([counted.groups[5 * 11], counted.groups[5], counted.groups[10 * 11 + 10]]).toEqual([1, FAILED, 1]);
    expect(raster(points, { ...frame, from: 1500 }, 1, groups).shown).toBe(3);
    expect(extent(points, 0, Infinity)).toEqual({ from: 1000, to: 3000, low: 0, high: 2 });
    expect(extent(points, 4000, 5000)).toBeNull();
    expect(points.point(nearest(points, frame, 1, 6, 3) ?? -1)).toMatchObject({ at: 1000 });
    expect(nearest(points, frame, 8, 8, 1)).toBeNull();
  });

  it('are walked through by time, each once', () => {
    const points = new Points();
    for (const [at, ms] of [[2000, 1], [1000, 2], [2000, 3], [3000, 4], [9000, 5]] as const) {
      points.add({ at, ms, outcome: 'ok', lane: null });
    }
    const walk = (step: 1 | -1, first: number | null): number[] => {
      const seen: number[] = [];
      for (let place = first; place !== null; place = neighbour(points, frame, place, step)) {
        seen.push(points.ms[place] ?? 0);
      }
      return seen;
    };
    expect(walk(-1, neighbour(points, frame, null, 1))).toEqual([4, 3, 1, 2]);
    expect(walk(1, points.place(1))).toEqual([2, 1, 3, 4]);
  });

  it('have percentiles where there are enough of them', () => {
    const points = new Points();
    for (let ms = 1; ms <= 100; ms += 1) {
      points.add({ at: 1000, ms, outcome: 'ok', lane: null });
      points.add({ at: 1000, ms: 5000, outcome: 'internal', lane: null });
    }
    points.add({ at: 3000, ms: 7, outcome: 'ok', lane: null });
    const fine = { ...frame, height: 1000, high: 4 };
    expect(raster(points, fine, 1, points.groups(() => 3)).used).toEqual(new Set([3, FAILED]));
    const [first, last] = columns(points, fine, 2);
    expect([first?.at, last]).toEqual([1500, null]);
    expect(first?.p50).toBeCloseTo(height(50), 2);
    expect(first?.p95).toBeCloseTo(height(95), 2);
    expect(height(0)).toBe(-2);
  });

  it('stand above round moments of the local clock', () => {
    const from = Date.parse('2026-11-30T10:00:20Z');
    const ticks = (seconds: number, most: number, offset: number): string[] =>
      timeTicks(from, from + seconds * 1000, most, offset).map((at) => new Date(at).toISOString().slice(11, 19));
    expect(ticks(60, 3, 0)).toEqual(['10:00:30', '10:01:00']);
    expect(ticks(7200, 3, -30)).toEqual(['10:30:00', '11:30:00']);
  });
});

const stage = (model: string, from: readonly number[], outputs: readonly string[]): PlanStage => ({
  model, browser: 'a', backend: 'wasm', outputs, inputs: from.length === 0 ? [{ name: 'x' }] : from.map((at) => ({ name: `v${at}`, from: at })),
});

/** Two towers, and what joins them. */
const PLAN: Plan = {
  id: 'p', model: 'm', name: 'whole', shards: ['a', 'b', 'c'], outputs: [{ name: 'y', by: 2 }], fallback: 'native', activations: 'as_made', error: 0,
  made_at_us: 0, unusable: null, standing: false, stages: [stage('a', [], ['v0']), stage('b', [], ['v1']), stage('c', [0, 1], ['y'])],
};

const stageRun = (at: number, compute: number): StageRun => ({
  stage: at, lane: `a-${at}/wasm`, bytes_in: 100 * (at + 1), bytes_out: 10 * (at + 1),
  timing_us: { queue: 0, transfer: 5, decode: 1, compute, encode: 1, total: 0 },
} as unknown as StageRun);

const ran = (compute: number, error: Run['error'] = null): Run =>
  ({ error, provenance: { stages: [0, 1, 2].map((at) => stageRun(at, compute)) } } as unknown as Run);

describe('plans', () => {
  it('are laid out by what must run before, either way', () => {
    expect(depths(PLAN.stages)).toEqual([0, 0, 1]);
    const [across, down] = [layout(PLAN.stages, false), layout(PLAN.stages, true)];
    expect(across.boxes.map(({ x, y }) => [x > 100, y > 100])).toEqual([[false, false], [false, true], [true, false]]);
    expect(down.boxes.map(({ x, y }) => [x > 100, y > 100])).toEqual([[false, false], [true, false], [false, true]]);
    expect(layout([], false)).toEqual({ width: 14, height: 14, boxes: [] });
  });

  it('show medians of what went well, and bytes of edges that are told', () => {
    const failed = { code: 'lane_lost', message: '', retry: 'same' };
    const measured = figures(PLAN, [ran(1), ran(3), ran(8), ran(1000, failed)]);
    expect(measured[1]).toMatchObject({ lane: 'a-1/wasm', requests: 3, compute_us: 3, transfer_us: 7 });
    expect(figures(PLAN, [])).toEqual([null, null, null]);
    expect(edges(PLAN, measured)).toEqual([{ from: 0, to: 2, bytes: 10 }, { from: 1, to: 2, bytes: 20 }]);
    const shared = { ...PLAN, stages: [stage('a', [], ['v0']), stage('b', [0], ['v1']), stage('c', [0, 1], ['y'])] };
    expect(edges(shared, measured)).toEqual([{ from: 0, to: 1, bytes: 200 }, { from: 0, to: 2, bytes: null }, { from: 1, to: 2, bytes: 20 }]);
  });

  it('follow stages that move and come back', () => {
    const away = { plan: 'p', stage: 1, at_us: 5, lane: 'native/ort-cpu', fallback: { wanted: 'a', reason: 'gone' }, took_us: 1 };
    const measured = figures(PLAN, [ran(1)]);
    expect(seats(PLAN, measured, [away])).toEqual([
      { lane: 'a-0/wasm', reason: null }, { lane: 'native/ort-cpu', reason: 'gone' }, { lane: 'a-2/wasm', reason: null },
    ]);
    const back = { ...away, at_us: 6, lane: 'a-1/wasm', fallback: null };
    expect(seats(PLAN, measured, [away, back])[1]).toEqual({ lane: 'a-1/wasm', reason: null });
    expect(seats(PLAN, [null, null, null], [])[0]).toEqual({ lane: null, reason: null });
    expect([place({ ...stage('a', [], []), lane: 'x' }), place(stage('a', [], []))]).toEqual(['x', 'wasm in a']);
  });
});

describe('words', () => {
  it('have units', () => {
    expect([time(null), time(12), time(1500), time(2_500_000)]).toEqual(['–', '12 µs', '1.50 ms', '2.50 s']);
    expect([bytes(null), bytes(12), bytes(2048), bytes(3 << 20)]).toEqual(['–', '12 B', '2.00 KiB', '3.00 MiB']);
    expect([1, 59e6, 61e6, 93e6, 1200e6, 2 * 3600e6].map(remaining)).toEqual(['1 s', '59 s', '1 min 0 s', '1 min 35 s', '20 min', '2 h 0 min']);
  });
});

describe('a history', () => {
  it('goes on with older runs of the same machine, and back to the newest', () => {
    const address = parse('?view=history&suite=s&model=m&run=r');
    const { older, newest } = pages(address, { machine: '0f', earlier_us: 1234 });
    expect(newest).toBeNull();
    expect(format(older ?? START)).toBe('/?view=history&model=m&suite=s&machine=0f&before=1234');
    const last = pages(older ?? START, { machine: '0f', earlier_us: null });
    expect(last.older).toBeNull();
    expect(format(last.newest ?? START)).toBe('/?view=history&model=m&suite=s&machine=0f');
    expect(historyQuery(older ?? START).get('before')).toBe('1234');
    expect(parse('?view=history&before=yesterday').before).toBe('');
  });

  const point = (run: string, at: number, value: number): Series['points'][number] => ({
    run, started_at_us: at, commit: 'c', branch: null, samples: 9, events: [],
    median_us: { value, low: value * 0.9, high: value * 1.1 },
  });
  const change = { at: 2, before_us: 1000, after_us: 1500, ratio: 1.5, probability: 1e-6 };
  const series: Series = {
    model: 'm', browser: 'b', backend: 'wasm', scenario: 'multi_stream', precision: null, asked: 'multi_stream',
    points: [point('a', 1, 1000), point('b', 2, 1000), point('d', 4, 1500)], changes: [change],
  };
  const upgrade = { part: 'browser', base: '1', head: '2' };
  const commit = { part: "weft's commit", base: '0123456789abc', head: 'fedcba9876543' };

  it('is shown as times, rates and multiples of the first', () => {
    expect(trend(series, 'time')?.values.map(({ value }) => value)).toEqual([1, 1, 1.5]);
    expect(trend(series, 'relative')?.values[2]?.value).toBe(1.5);
    const rate = trend(series, 'rate')?.values[0];
    expect(rate?.value).toBe(8000);
    expect(rate?.low).toBeLessThan(8000);
    expect(rate?.high).toBeGreaterThan(8000);
    expect(trend({ ...series, scenario: 'single_stream' }, 'rate')).toBeNull();
    expect(trend({ ...series, points: [] }, 'time')).toBeNull();
    expect([metricOf('rate'), metricOf('what')]).toEqual(['rate', 'time']);
  });

  it('says by how much it changed, and what else did', () => {
    expect([size({ ratio: 1.5 }), size({ ratio: 0.92 })]).toEqual(['+50.0 % time', '−8.00 % time']);
    expect(known([commit, upgrade])).toEqual([upgrade]);
    expect(eventWords([commit, upgrade])).toBe("weft's commit: 0123456789 → fedcba9876; browser: 1 → 2");
  });

  it('has a step for each run of any cell', () => {
    const other: Series = { ...series, points: [point('c', 3, 7), point('a', 1, 7)], changes: [] };
    expect(moments([series, other]).map(({ run }) => run)).toEqual(['a', 'b', 'c', 'd']);
  });

  it('is laid out within its frame, slower higher, changes between the runs around them', () => {
    const shown = trend({ ...series, points: series.points.map((one, at) => at === 2 ? { ...one, events: [upgrade] } : one) }, 'time');
    const runs = [...moments([series]), { run: 'e', at_us: 9 }];
    const frame = { width: 400, height: 200 };
    const made = shown === null ? null : trendLayout(shown, runs, frame);
    const [a, b, d] = made?.points ?? [];
    expect(a?.x).toBe(ROOM.left);
    expect(d?.y).toBeLessThan(a?.y ?? 0);
    expect(d?.high).toBeLessThan(d?.low ?? 0);
    expect(made?.changes.map(({ x }) => x)).toEqual([((b?.x ?? 0) + (d?.x ?? 0)) / 2]);
    expect(made?.levels.map(({ from, to }) => from < to)).toEqual([true, true]);
    expect(made?.events.map(({ x }) => x)).toEqual([d?.x]);
    for (const { x, low, high } of made?.points ?? []) {
      expect(x).toBeLessThan(frame.width - ROOM.right);
      expect([low, high].every((y) => y >= ROOM.top && y <= frame.height - ROOM.bottom)).toBe(true);
    }
    expect(nearestAcross(made?.points ?? [], 0)).toBe(0);
    expect(nearestAcross(made?.points ?? [], 399)).toBe(2);
    expect(nearestAcross([], 5)).toBeNull();
  });

  it('of one run stands in the middle', () => {
    const one = trend({ ...series, points: series.points.slice(0, 1), changes: [] }, 'time');
    const made = one === null ? null : trendLayout(one, moments([series]).slice(0, 1), { width: 400, height: 200 });
    expect(made?.points[0]?.x).toBe(ROOM.left + (400 - ROOM.left - ROOM.right) / 2);
    expect([made?.levels, made?.changes, made?.dates.length]).toEqual([[], [], 1]);
  });
});
