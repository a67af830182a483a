import { describe, expect, it } from 'vitest';

import { advice } from './advice.ts';
import { legendPlaces } from './charts/legend.ts';
import { csv, type Value } from './csv.ts';
import { type Cell, type Interval, type Report, type Shown } from './document.ts';
import { backendColour, DARK, inkOn, LIGHT } from './palette.ts';
import { sorted } from './sort.ts';
import { across, thinned } from './thin.ts';
import { axis, linearTicks, logTicks } from './ticks.ts';
import { bounded, commitWords, digits, duration, fileName, moment, scenarioWords, shortened, tickWord } from './words.ts';

describe('words', () => {
  it.each([
    [0, '0'],
    [0.0004, '4.0e-4'],
    [0.01, '0.010'],
    [0.4, '0.400'],
    [0.99951, '1.00'],
    [1.234, '1.23'],
    [9.996, '10.0'],
    [99.96, '100'],
    [1110.015, '1,110'],
  ])('three digits of %d are %s', (value, wanted) => {
    expect(digits(value)).toBe(wanted);
  });

  it.each([[0.1, '0.1'], [0.30000000000000004, '0.3'], [10, '10'], [1000, '1,000']])('the tick %d is %s', (value, wanted) => {
    expect(tickWord(value)).toBe(wanted);
  });

  it('bounds stand behind their figure, in its unit', () => {
    expect(bounded({ value: 4000, low: 3900, high: 4120 }, 1e-3)).toBe('4.00 (3.90\u2060–\u20604.12)');
  });

  it.each([
    [57_167_017, '57 s'],
    [61e6, '1 min 1 s'],
    [3600e6, '60 min 0 s'],
  ])('%d µs last %s', (us, wanted) => {
    expect(duration(us)).toBe(wanted);
  });

  it('a moment is in UTC', () => {
    expect(moment(1_796_001_305_210_462)).toBe('2026-11-30 01:15 UTC');
  });

  it('a scenario that nobody here knows is called by its name', () => {
    expect(scenarioWords('offline')).toBe('thirty-two requests at once');
    expect(scenarioWords('new_one')).toBe('new one');
    expect(scenarioWords('server 20/s batch 4')).toBe('arrivals by chance at a rate, 20/s batch 4');
  });

  it.each([
    ['0123456789abcdef', 'commit 0123456789'],
    ['0123456789abcdef-dirty', 'commit 0123456789-dirty'],
    ['unknown', 'commit unknown'],
  ])('%s is called %s', (commit, wanted) => {
    expect(commitWords(commit)).toBe(wanted);
  });

  it.each([
    ['short', 8, 'short'],
    ['chromium/wasm', 8, 'chromiu…'],
    ['模型模型🦊🦊', 5, '模型模型…'],
  ])('%s in %d letters is %s', (text, most, wanted) => {
    expect(shortened(text, most)).toBe(wanted);
  });

  it.each([
    [['smoke', 'Samples: a, b'], 'smoke-Samples-a-b'],
    [['../../etc/passwd'], 'etc-passwd'],
    [['模型'], 'report'],
  ])('%j is a file called %s', (parts, wanted) => {
    expect(fileName(...parts)).toBe(wanted);
  });
});

describe('CSV', () => {
  it.each<[Value, string]>([
    ['plain', 'plain'],
    ['a,b', '"a,b"'],
    ['say "so"', '"say ""so"""'],
    ['two\nlines', '"two\nlines"'],
    ['=1+1', "'=1+1"],
    ['@a,b', '"\'@a,b"'],
    [-1.5, '-1.5'],
    [null, ''],
    [false, 'false'],
  ])('%j is written as %s', (value, wanted) => {
    expect(csv({ columns: ['x'], rows: [[value]] })).toBe(`x\r\n${wanted}\r\n`);
  });
});

describe('rows', () => {
  it.each([
    [false, ['lane2', 'lane10', 'z', null, null]],
    [true, ['z', 'lane10', 'lane2', null, null]],
  ])('sorted, descending %s, have what is missing last', (descending, wanted) => {
    expect(sorted<string | null>([null, 'z', 'lane10', null, 'lane2'], (row) => row, descending)).toEqual(wanted);
  });

  it('numbers sort as numbers, and equal rows keep their order', () => {
    const rows = [[10, 'a'], [9, 'b'], [10, 'c']] as const;
    expect(sorted(rows, ([value]) => value, false).map(([, name]) => name)).toEqual(['b', 'a', 'c']);
    expect(sorted(rows, ([value]) => value, true).map(([, name]) => name)).toEqual(['a', 'c', 'b']);
  });
});

describe('thinning', () => {
  it.each([
    [0, 5, []],
    [3, 5, [0, 1, 2]],
    [5, 5, [0, 1, 2, 3, 4]],
    [9, 3, [0, 4, 8]],
    [1000, 2, [0, 999]],
  ])('of %d places %d at most are %j', (count, most, wanted) => {
    expect(thinned(count, most)).toEqual(wanted);
  });

  it('places across a strip are within it, and neighbours apart', () => {
    for (let at = 0; at < 300; at += 1) {
      expect(across(at)).toBeGreaterThanOrEqual(0);
      expect(across(at)).toBeLessThan(1);
      expect(Math.abs(across(at) - across(at + 1))).toBeGreaterThan(0.3);
    }
  });
});

describe('axes', () => {
  it.each([
    [1, 10, 5, [1, 2, 5, 10]],
    [0.3, 40, 5, [0.3, 1, 3, 10, 30]],
    [0.2, 2000, 5, [1, 10, 100, 1000]],
    [1e-6, 1e6, 4, [1e-6, 1e-2, 1e2, 1e6]],
    [1.1, 1.9, 5, []],
  ])('from %d to %d, %d ticks at most are %j', (low, high, most, wanted) => {
    expect(logTicks(low, high, most)).toEqual(wanted);
  });

  it.each([
    [0, 10, 5, [0, 5, 10]],
    [9.2, 11.1, 5, [9.5, 10, 10.5, 11]],
    [99.6, 104.4, 3, [100, 102, 104]],
    [0.00012, 0.00031, 4, [0.00015, 0.0002, 0.00025, 0.0003]],
  ])('from %d to %d, %d round ticks at most are %j', (low, high, most, wanted) => {
    const found = linearTicks(low, high, most);
    expect(found.length).toBeLessThanOrEqual(most);
    expect(found).toEqual(wanted);
  });

  it.each<[readonly number[], 'linear' | 'log']>([
    [[], 'linear'],
    [[0, 0], 'linear'],
    [[5], 'linear'],
    [[10, 60], 'linear'],
    [[10, 61], 'log'],
    [[0, 10, 20], 'linear'],
  ])('values %j stand on a %s axis that holds them', (values, type) => {
    const found = axis(values, 5);
    expect(found.type).toBe(type);
    expect(found.domain[0]).toBeLessThan(found.domain[1]);
    for (const value of values.filter((value) => value > 0)) {
      expect(value).toBeGreaterThanOrEqual(found.domain[0]);
      expect(value).toBeLessThanOrEqual(found.domain[1]);
    }
  });
});

/** As WCAG counts it. */
function contrast(one: string, other: string): number {
  const [bright = 0, dark = 0] = [one, other].map((colour) => {
    const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
      const share = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
      return share <= 0.040_45 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  }).sort((a, b) => b - a);
  return bright / dark;
}

describe('colours', () => {
  it.each(['#000000', '#ffffff', '#777777', '#00204d', '#ffea46', '#7f3b08', '#2d004b'])('a number on %s is read', (colour) => {
    expect(contrast(inkOn(colour), colour)).toBeGreaterThanOrEqual(4.5);
  });

  it('the library writes colours as rgb', () => {
    expect(inkOn('rgb(255, 234, 70)')).toBe('#000000');
    expect(inkOn('rgb(0, 32, 77)')).toBe('#ffffff');
  });

  it.each([['light', LIGHT], ['dark', DARK]])('texts are read on the %s ground', (_, theme) => {
    expect(contrast(theme.ink, theme.paper)).toBeGreaterThanOrEqual(7);
    expect(contrast(theme.faint, theme.paper)).toBeGreaterThanOrEqual(4.5);
    expect(contrast(theme.faint, theme.empty)).toBeGreaterThanOrEqual(4.5);
    for (const backend of ['wasm', 'webgpu', 'webnn', 'weft-wasm', 'weft-wgsl', 'wgpu', 'ort-cpu']) {
      expect(contrast(backendColour(backend, theme), theme.paper), backend).toBeGreaterThanOrEqual(2);
    }
  });
});

const CELL: Cell = {
  model: 'm', browser: 'b', backend: 'wasm', scenario: 'single_stream', outcome: 'ok', reason: null, error: 0,
  tolerance: 1e-3, samples_us: [1], warm_up_us: [], warm: true,
};
const SHOWN: Shown = {
  figures: { samples: 1, median: { value: 1, low: 1, high: 1 }, p90: null, p99: null, min: 1, max: 1, outliers: 0 },
  quartiles: [1, 1], whiskers: [1, 1], outliers: [], requests_per_second: null, over_native: null, cold: [], attained: null,
};

/** Three lanes, the native one the fastest, with these margins over the next and among browsers. */
function report(native: Interval, browsers: Interval, change: Partial<Cell> = {}): Report {
  const cells = [{ ...CELL, browser: 'native', backend: 'ort-cpu' }, CELL, { ...CELL, browser: 'c', ...change }];
  const place = { browser_version: null, engine: '', threads: 1, adapter: null, sandbox: null, gpu: null };
  return {
    results: {
      id: '', suite: '', suite_sha256: '', started_at_us: 0, ended_at_us: 0, complete: true, warnings: [],
      calibration_us: [1, 1], cells,
      environment: {
        weft: '', commit: 'unknown', processor: '', cores: 1, memory_bytes: 1, kernel: '', cpu_limit: null, memory_limit: null,
        places: { 'b/wasm': { ...place, software_adapter: false }, 'c/wasm': { ...place, software_adapter: true } },
      },
    },
    cells: [SHOWN, SHOWN, SHOWN],
    asked: ['single_stream', 'single_stream', 'single_stream'],
    groups: [{
      model: 'm', scenario: 'single_stream', cells: [0, 1, 2], native: 0,
      of_all: { cell: 0, next: { cell: 1, ratio: native } },
      of_browsers: { cell: 1, next: { cell: 2, ratio: browsers } },
    }],
    highest: null,
  };
}

describe('a legend', () => {
  it('has its entries beside each other as far as they fit, and none beyond the edge', () => {
    const words = ['launch', 'page', 'rest of the lane', 'first answer'];
    const wide = legendPlaces(words, 900);
    expect(wide.map(({ y }) => y)).toEqual([0, 0, 0, 0]);
    expect(wide.every(({ x }, at) => at === 0 || x > (wide[at - 1]?.x ?? 0))).toBe(true);
    const narrow = legendPlaces(words, 200);
    expect(new Set(narrow.map(({ y }) => y)).size).toBeGreaterThan(1);
    expect(legendPlaces(words, 10).map(({ x }) => x)).toEqual([0, 0, 0, 0]);
  });
});

describe('recommendations', () => {
  const apart: Interval = { value: 2, low: 1.9, high: 2.1 };
  const alike: Interval = { value: 1.05, low: 0.98, high: 1.2 };
  const just: Interval = { value: 1.05, low: 1, high: 1.2 };

  it('stand only where the interval leaves out one', () => {
    const cases: [Interval, number, number][] = [[apart, 2, 0], [alike, 1, 1], [just, 1, 1]];
    for (const [browsers, recommended, undecided] of cases) {
      const told = advice(report(apart, browsers));
      expect([told.recommended.length, told.undecided.length]).toEqual([recommended, undecided]);
    }
  });

  it('say the margin, its interval, and what is to be kept in mind', () => {
    const [all, browsers] = advice(report(apart, apart, { warm: false })).recommended;
    expect(all).toBe('m, one request after the other: of all lanes use native/ort-cpu. '
      + 'The next, b/wasm, takes 2.00 times as long (95 % interval 1.90\u2060–\u20602.10).');
    expect(browsers).toContain('The next, c/wasm (still warming up, on a software adapter), takes 2.00 times');
  });

  it('are silent where there is nothing to choose from', () => {
    const alone = report(apart, apart);
    const [group] = alone.groups;
    const groups = group === undefined ? [] : [{ ...group, of_all: { cell: 0, next: null }, of_browsers: null }];
    expect(advice({ ...alone, groups })).toEqual({ recommended: [], undecided: [] });
  });
});
