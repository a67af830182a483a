/**
 * Tensors' elements as our kernels hold them, 32 bits wide, and back.
 * It owns the conversions and never looks at a program.
 */

import type { Bytes } from '../../../protocol/frame.ts';
import { Failure } from '../../failure.ts';

/** Floats, or whole numbers with 0 and 1 for what is false and true. */
export type Words = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;

interface Form {
  /** Bytes of an element outside of the kernels. */
  readonly width: number;
  readonly widen: (bytes: Bytes) => Words;
  readonly narrow: (words: Words) => Bytes;
}

/** What kernels compute with; the daemon refuses models with other types by name. */
const FORMS: Readonly<Record<string, Form>> = {
  BOOL: { width: 1, widen: (bytes) => new Int32Array(bytes), narrow: (words) => Uint8Array.from(words, isTrue) },
  UINT8: { width: 1, widen: (bytes) => new Int32Array(bytes), narrow: (words) => new Uint8Array(words) },
  INT8: {
    width: 1,
    widen: (bytes) => new Int32Array(new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length)),
    narrow: (words) => bytesOf(new Int8Array(words)),
  },
  UINT16: { width: 2, widen: (bytes) => new Int32Array(halves(bytes)), narrow: (words) => bytesOf(new Uint16Array(words)) },
  INT16: {
    width: 2,
    widen: (bytes) => new Int32Array(shorts(bytes)),
    narrow: (words) => bytesOf(new Int16Array(words)),
  },
  FP16: { width: 2, widen: widenHalves, narrow: (words) => bytesOf(Uint16Array.from(bitsOf(words), toHalf)) },
  BF16: { width: 2, widen: widenBrain, narrow: (words) => bytesOf(Uint16Array.from(bitsOf(words), toBrain)) },
  FP32: { width: 4, widen: floats, narrow: bytesOf },
  INT32: { width: 4, widen: whole, narrow: bytesOf },
  UINT32: { width: 4, widen: (bytes) => fitting(whole(bytes), (word) => word >= 0), narrow: bytesOf },
  INT64: { width: 8, widen: (bytes) => narrowed(bytes, (low) => low >> 31), narrow: widened },
  UINT64: { width: 8, widen: (bytes) => narrowed(bytes, (low) => (low < 0 ? NaN : 0)), narrow: widened },
};

/** A number that 32 bits cannot hold. */
class TooWide extends Error {}

/** Bytes of an element. */
export function widthOf(datatype: string): number {
  return formOf(datatype).width;
}

export function toWords(name: string, datatype: string, bytes: Bytes): Words {
  try {
    return formOf(datatype).widen(bytes);
  } catch (error) {
    if (!(error instanceof TooWide)) throw error;
    const message = `"${name}" holds a number that is wider than the 32 bits that our kernels compute with`;
    throw new Failure('invalid_request', 'never', message);
  }
}

export function fromWords(datatype: string, words: Words): Bytes {
  return formOf(datatype).narrow(words);
}

/** The words of what a device has written. */
export function wordsIn(datatype: string, bytes: Bytes): Words {
  return isFloat(datatype) ? floats(bytes) : whole(bytes);
}

function formOf(datatype: string): Form {
  const form = Object.hasOwn(FORMS, datatype) ? FORMS[datatype] : undefined;
  if (form !== undefined) return form;
  throw new Failure('invalid_request', 'never', `our kernels do not compute with ${datatype}`);
}

function isFloat(datatype: string): boolean {
  return datatype === 'FP32' || datatype === 'FP16' || datatype === 'BF16';
}

function isTrue(word: number): number {
  return word === 0 ? 0 : 1;
}

/** The same bytes where elements of this width can be viewed. */
function aligned(bytes: Bytes, width: number): Bytes {
  return bytes.byteOffset % width === 0 ? bytes : bytes.slice();
}

function bytesOf(values: ArrayBufferView<ArrayBuffer>): Bytes {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function floats(bytes: Bytes): Float32Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = aligned(bytes, 4);
  return new Float32Array(buffer, byteOffset, length / 4);
}

function whole(bytes: Bytes): Int32Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = aligned(bytes, 4);
  return new Int32Array(buffer, byteOffset, length / 4);
}

function halves(bytes: Bytes): Uint16Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = aligned(bytes, 2);
  return new Uint16Array(buffer, byteOffset, length / 2);
}

function shorts(bytes: Bytes): Int16Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = aligned(bytes, 2);
  return new Int16Array(buffer, byteOffset, length / 2);
}

function bitsOf(words: Words): Uint32Array<ArrayBuffer> {
  return new Uint32Array(words.buffer, words.byteOffset, words.length);
}

function fitting(words: Int32Array<ArrayBuffer>, fits: (word: number) => boolean): Int32Array<ArrayBuffer> {
  if (!words.every(fits)) throw new TooWide();
  return words;
}

/** The lower halves of 64-bit numbers, whose upper ones must be what `upper` makes of them. */
function narrowed(bytes: Bytes, upper: (low: number) => number): Int32Array<ArrayBuffer> {
  const pairs = whole(bytes);
  const words = new Int32Array(pairs.length / 2);
  for (let i = 0; i < words.length; i += 1) {
    const low = pairs[2 * i] ?? 0;
    if (pairs[2 * i + 1] !== upper(low)) throw new TooWide();
    words[i] = low;
  }
  return words;
}

function widened(words: Words): Bytes {
  const pairs = new Int32Array(2 * words.length);
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] ?? 0;
    pairs[2 * i] = word;
    pairs[2 * i + 1] = word >> 31;
  }
  return bytesOf(pairs);
}

/** Every half float, by its bits; made when one is met. */
let halfTable: Float32Array<ArrayBuffer> | null = null;

function widenHalves(bytes: Bytes): Words {
  const table = (halfTable ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => fromHalf(bits)));
  const bits = halves(bytes);
  const words = new Float32Array(bits.length);
  for (let i = 0; i < words.length; i += 1) words[i] = table[bits[i] ?? 0] ?? 0;
  return words;
}

function fromHalf(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The bits of 65520: from there on, rounding gives infinity. */
const HALF_OVERFLOWS = 0x477f_f000;

/** The bits of the smallest half float that is not subnormal. */
const HALF_NORMAL = 0x3880_0000;

const INFINITY = 0x7f80_0000;

/** The half float nearest to a float, by their bits; of two, the even one. */
function toHalf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fff_ffff;
  if (size > INFINITY) return sign | 0x7e00;
  if (size >= HALF_OVERFLOWS) return sign | 0x7c00;
  if (size >= HALF_NORMAL) return sign | ((size - (112 << 23) + 0xfff + ((size >>> 13) & 1)) >>> 13);
  FLOAT_BITS[0] = size;
  return sign | roundEven((FLOAT[0] ?? 0) * 2 ** 24);
}

const FLOAT = new Float32Array(1);
const FLOAT_BITS = new Uint32Array(FLOAT.buffer);

function roundEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

function widenBrain(bytes: Bytes): Words {
  const bits = halves(bytes);
  const words = new Float32Array(bits.length);
  const wide = bitsOf(words);
  for (let i = 0; i < wide.length; i += 1) wide[i] = (bits[i] ?? 0) << 16;
  return words;
}

function toBrain(bits: number): number {
  if ((bits & 0x7fff_ffff) > INFINITY) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
