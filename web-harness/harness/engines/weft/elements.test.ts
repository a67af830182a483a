import { describe, expect, it } from 'vitest';
import type { Bytes } from '../../../protocol/frame.ts';
import { Failure } from '../../failure.ts';
import { fromWords, toWords, widthOf, wordsIn } from './elements.ts';

function bytesOf(values: ArrayBufferView<ArrayBuffer>): Bytes {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** The same bytes at an address where nothing wider than a byte can be viewed. */
function shifted(bytes: Bytes): Bytes {
  const moved = new Uint8Array(bytes.length + 1);
  moved.set(bytes, 1);
  return moved.subarray(1);
}

const CASES: [string, ArrayBufferView<ArrayBuffer>, number[]][] = [
  ['BOOL', Uint8Array.of(0, 1), [0, 1]],
  ['UINT8', Uint8Array.of(0, 255), [0, 255]],
  ['INT8', Int8Array.of(-128, 127), [-128, 127]],
  ['UINT16', Uint16Array.of(0, 65535), [0, 65535]],
  ['INT16', Int16Array.of(-32768, 32767), [-32768, 32767]],
  ['INT32', Int32Array.of(-(2 ** 31), 2 ** 31 - 1), [-(2 ** 31), 2 ** 31 - 1]],
  ['UINT32', Uint32Array.of(0, 2 ** 31 - 1), [0, 2 ** 31 - 1]],
  ['INT64', BigInt64Array.of(-(2n ** 31n), -1n, 2n ** 31n - 1n), [-(2 ** 31), -1, 2 ** 31 - 1]],
  ['UINT64', BigUint64Array.of(0n, 2n ** 31n - 1n), [0, 2 ** 31 - 1]],
  ['FP32', Float32Array.of(-0.5, Infinity), [-0.5, Infinity]],
  // 1, the largest, the smallest normal, the largest and the smallest subnormal, and what is no number.
  [
    'FP16',
    Uint16Array.of(0x3c00, 0x7bff, 0x0400, 0x03ff, 0x8001, 0xfc00, 0x7e00),
    [1, 65504, 2 ** -14, 1023 * 2 ** -24, -(2 ** -24), -Infinity, NaN],
  ],
  ['BF16', Uint16Array.of(0x3f80, 0xc049, 0x7f80, 0x7fc0), [1, -3.140625, Infinity, NaN]],
];

describe('elements', () => {
  it.each(CASES)('widens %s and narrows it again, wherever it lies', (datatype, values, wanted) => {
    for (const bytes of [bytesOf(values), shifted(bytesOf(values))]) {
      const words = toWords('x', datatype, bytes);
      expect([...words]).toEqual(wanted);
      expect(fromWords(datatype, words)).toEqual(bytesOf(values));
      expect([...wordsIn(datatype, bytesOf(words))]).toEqual(wanted);
    }
    expect(widthOf(datatype)).toBe(values.byteLength / wanted.length);
  });

  it.each([
    ['INT64', BigInt64Array.of(2n ** 31n)],
    ['INT64', BigInt64Array.of(-(2n ** 31n) - 1n)],
    ['UINT64', BigUint64Array.of(2n ** 31n)],
    ['UINT64', BigUint64Array.of(2n ** 64n - 1n)],
    ['UINT32', Uint32Array.of(2 ** 31)],
  ])('refuses a number of %s that is too wide, by the name of its tensor', (datatype, values) => {
    expect(() => toWords('ids', datatype, bytesOf(values))).toThrow('"ids" holds a number that is wider');
  });

  it.each(['FP64', 'BYTES', 'toString'])('does not compute with %s', (datatype) => {
    expect(() => toWords('x', datatype, new Uint8Array(8))).toThrow(Failure);
  });

  it('rounds to the nearest half, and of two to the even one', () => {
    const cases: [number, number][] = [
      [1 + 2 ** -11, 0x3c00],
      [1 + 3 * 2 ** -11, 0x3c02],
      [1 + 2 ** -11 + 2 ** -20, 0x3c01],
      [65519, 0x7bff],
      [65520, 0x7c00],
      [-1e30, 0xfc00],
      [2 ** -25, 0],
      [1.5 * 2 ** -24, 2],
      [2.5 * 2 ** -24, 2],
      [2 ** -14 - 2 ** -26, 0x400],
      [-0, 0x8000],
    ];
    const words = Float32Array.from(cases, ([value]) => value);
    expect([...new Uint16Array(fromWords('FP16', words).buffer)]).toEqual(cases.map(([, bits]) => bits));
    const brain = Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38);
    expect([...new Uint16Array(fromWords('BF16', brain).buffer)]).toEqual([0x3f80, 0x3f82, 0x7f80]);
  });

  it('takes whatever is not 0 for true', () => {
    expect([...fromWords('BOOL', Int32Array.of(0, 1, -7))]).toEqual([0, 1, 1]);
  });
});
