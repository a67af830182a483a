import { describe, expect, it } from 'vitest';
import type { Bytes } from '../protocol/frame.ts';
import type { TensorHead } from '../protocol/messages.ts';
import { checkBodyLength, type Datatype, DATATYPES, decodeTensor, encodeTensor, type TensorValues } from './tensors.ts';

function head(datatype: string, shape: number[], byteLength: number): TensorHead {
  return { name: 'x', datatype, shape, byteLength };
}

function raw(values: TensorValues): Bytes {
  return encodeTensor(values).slice();
}

/** A body in which the tensor starts `lead` bytes after an 8-aligned address. */
function bodyWith(bytes: Bytes, lead: number): Bytes {
  const body = new Uint8Array(lead + bytes.length);
  body.set(bytes, lead);
  return body;
}

const SAMPLES: Record<Datatype, TensorValues> = {
  BOOL: Uint8Array.of(1, 0, 1),
  UINT8: Uint8Array.of(0, 200, 255),
  INT8: Int8Array.of(-128, 0, 127),
  UINT16: Uint16Array.of(0, 1, 65535),
  INT16: Int16Array.of(-32768, 0, 32767),
  FP16: Uint16Array.of(0x3c00, 0xc000, 0x7e00),
  UINT32: Uint32Array.of(0, 1, 4294967295),
  INT32: Int32Array.of(-2147483648, 0, 2147483647),
  FP32: Float32Array.of(-0.5, Infinity, 1e-30),
  UINT64: BigUint64Array.of(0n, 1n, 18446744073709551615n),
  INT64: BigInt64Array.of(-9223372036854775808n, 0n, 9223372036854775807n),
  FP64: Float64Array.of(-0.1, NaN, 1e300),
  BYTES: ['', 'größe', '\ufeff🙂'],
};

describe('decodeTensor', () => {
  it('has a sample of every datatype', () => {
    expect(Object.keys(SAMPLES).sort()).toEqual([...DATATYPES].sort());
  });

  it.each(DATATYPES)('reads %s aligned and misaligned, and writes it again', (datatype) => {
    const values = SAMPLES[datatype];
    const bytes = raw(values);
    for (let lead = 0; lead < 9; lead += 1) {
      const body = bodyWith(bytes, lead);
      const decoded = decodeTensor(head(datatype, [1, 3], bytes.length), body, lead);
      expect(decoded).toEqual(values);
      expect([...encodeTensor(decoded)]).toEqual([...bytes]);
    }
  });

  it('views aligned bytes in place and copies misaligned ones', () => {
    const bytes = raw(Float32Array.of(1, 2));
    const aligned = bodyWith(bytes, 4);
    expect((decodeTensor(head('FP32', [2], 8), aligned, 4) as Float32Array).buffer).toBe(aligned.buffer);
    const misaligned = bodyWith(bytes, 3);
    const copy = decodeTensor(head('FP32', [2], 8), misaligned, 3) as Float32Array;
    expect(copy.buffer).not.toBe(misaligned.buffer);
    expect([...copy]).toEqual([1, 2]);
  });

  it('counts the offset of a body inside its frame', () => {
    const frame = bodyWith(raw(Float64Array.of(7)), 12);
    expect(decodeTensor(head('FP64', [], 8), frame.subarray(12), 0)).toEqual(Float64Array.of(7));
  });

  it('reads a scalar and a tensor without elements', () => {
    expect(decodeTensor(head('INT64', [], 8), raw(BigInt64Array.of(16000n)), 0)).toEqual(BigInt64Array.of(16000n));
    expect(decodeTensor(head('FP32', [0, 5], 0), new Uint8Array(0), 0)).toEqual(new Float32Array(0));
    expect(decodeTensor(head('BYTES', [0], 0), new Uint8Array(0), 0)).toEqual([]);
  });

  it.each([
    ['a datatype that the engine lacks', head('BF16', [2], 4), 'datatype BF16 is not supported'],
    ['a name from the object prototype', head('constructor', [2], 4), 'datatype constructor is not supported'],
    ['too few bytes', head('FP32', [2, 2], 12), '[2,2] FP32 takes 16 bytes, but binary_data_size is 12'],
    ['too many bytes', head('INT8', [2], 4), '[2] INT8 takes 2 bytes, but binary_data_size is 4'],
  ])('refuses %s', (_name, tensor, message) => {
    expect(() => decodeTensor(tensor, new Uint8Array(16), 0)).toThrow(`tensor "x": ${message}`);
  });

  it.each([
    ['a length that is cut', [2, 0, 0], 1, 'element 0 has no whole length'],
    ['an element beyond the end', [9, 0, 0, 0, 65], 1, 'element 0 ends beyond the tensor'],
    ['fewer elements than the shape', [1, 0, 0, 0, 65], 2, 'the shape has 2 elements, but 1 came'],
    ['more elements than the shape', [0, 0, 0, 0, 0, 0, 0, 0], 1, 'the shape has 1 elements, but 2 came'],
    ['bytes that are not UTF-8', [1, 0, 0, 0, 0xff], 1, 'element 0 is not UTF-8'],
    ['a zero byte', [1, 0, 0, 0, 0], 1, 'element 0 holds a zero byte'],
  ])('refuses BYTES with %s', (_name, bytes, elements, message) => {
    const body = Uint8Array.from(bytes);
    expect(() => decodeTensor(head('BYTES', [elements], body.length), body, 0)).toThrow(message);
  });
});

describe('checkBodyLength', () => {
  it('accepts exactly the bytes that the heads state', () => {
    const heads = [head('FP32', [1], 4), head('INT8', [3], 3)];
    checkBodyLength(heads, new Uint8Array(7));
    checkBodyLength([], new Uint8Array(0));
    expect(() => { checkBodyLength(heads, new Uint8Array(8)); }).toThrow('state 7 bytes together, but 8 came');
    expect(() => { checkBodyLength(heads, new Uint8Array(6)); }).toThrow('state 7 bytes together, but 6 came');
    expect(() => { checkBodyLength([], new Uint8Array(1)); }).toThrow('state 0 bytes together, but 1 came');
  });
});
