/**
 * Turns the bytes of a frame into typed arrays and back.
 * It owns the datatypes' sizes and names and never copies bytes that are aligned.
 */

import type { Bytes } from '../protocol/frame.ts';
import type { TensorHead } from '../protocol/messages.ts';

export type NumberArray =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

export type TensorValues = NumberArray | string[];

interface Numeric {
  readonly width: number;
  readonly view: (buffer: ArrayBuffer, offset: number, length: number) => NumberArray;
}

/** The datatypes with elements of one width; `FP16` is held as its bits. */
const NUMERIC = {
  BOOL: { width: 1, view: (buffer, offset, length) => new Uint8Array(buffer, offset, length) },
  UINT8: { width: 1, view: (buffer, offset, length) => new Uint8Array(buffer, offset, length) },
  INT8: { width: 1, view: (buffer, offset, length) => new Int8Array(buffer, offset, length) },
  UINT16: { width: 2, view: (buffer, offset, length) => new Uint16Array(buffer, offset, length) },
  INT16: { width: 2, view: (buffer, offset, length) => new Int16Array(buffer, offset, length) },
  FP16: { width: 2, view: (buffer, offset, length) => new Uint16Array(buffer, offset, length) },
  UINT32: { width: 4, view: (buffer, offset, length) => new Uint32Array(buffer, offset, length) },
  INT32: { width: 4, view: (buffer, offset, length) => new Int32Array(buffer, offset, length) },
  FP32: { width: 4, view: (buffer, offset, length) => new Float32Array(buffer, offset, length) },
  UINT64: { width: 8, view: (buffer, offset, length) => new BigUint64Array(buffer, offset, length) },
  INT64: { width: 8, view: (buffer, offset, length) => new BigInt64Array(buffer, offset, length) },
  FP64: { width: 8, view: (buffer, offset, length) => new Float64Array(buffer, offset, length) },
} satisfies Record<string, Numeric>;

export type Datatype = keyof typeof NUMERIC | 'BYTES';

export const DATATYPES = [...Object.keys(NUMERIC), 'BYTES'] as readonly Datatype[];

/** The width of the length before each element of a `BYTES` tensor. */
const LENGTH_BYTES = 4;

/** A tensor that is not what its head says; the text names the tensor. */
export class TensorError extends Error {
  constructor(name: string, message: string) {
    super(`tensor "${name}": ${message}`);
    this.name = 'TensorError';
  }
}

// The byte order mark is kept: it is part of an element.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export function isDatatype(name: string): name is Datatype {
  return name === 'BYTES' || Object.hasOwn(NUMERIC, name);
}

/** Checks that the heads account for every byte of the body. */
export function checkBodyLength(heads: readonly TensorHead[], body: Bytes): void {
  let total = 0;
  for (const head of heads) total += head.byteLength;
  if (total === body.length) return;
  const last = heads.at(-1)?.name ?? '';
  throw new TensorError(last, `the tensors state ${total} bytes together, but ${body.length} came`);
}

/** Reads the tensor that starts at `start` of the body; views the body where alignment allows. */
export function decodeTensor(head: TensorHead, body: Bytes, start: number): TensorValues {
  const { name, datatype, byteLength } = head;
  if (!isDatatype(datatype)) throw new TensorError(name, `datatype ${datatype} is not supported`);
  const elements = elementCount(head.shape);
  if (datatype === 'BYTES') return decodeTexts(name, elements, body.subarray(start, start + byteLength));
  const { width, view } = NUMERIC[datatype];
  if (byteLength !== elements * width) {
    const wanted = `[${head.shape.join(',')}] ${datatype} takes ${elements * width} bytes`;
    throw new TensorError(name, `${wanted}, but binary_data_size is ${byteLength}`);
  }
  const offset = body.byteOffset + start;
  if (offset % width === 0) return view(body.buffer, offset, elements);
  return view(body.buffer.slice(offset, offset + byteLength), 0, elements);
}

/** The bytes of a tensor as they go into a frame. */
export function encodeTensor(values: TensorValues): Bytes {
  if (Array.isArray(values)) return encodeTexts(values);
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}

function decodeTexts(name: string, elements: number, bytes: Bytes): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < LENGTH_BYTES) throw new TensorError(name, `element ${texts.length} has no whole length`);
    const length = view.getUint32(at, true);
    at += LENGTH_BYTES;
    if (length > bytes.length - at) throw new TensorError(name, `element ${texts.length} ends beyond the tensor`);
    texts.push(decodeText(name, texts.length, bytes.subarray(at, at + length)));
    at += length;
  }
  if (texts.length !== elements) {
    throw new TensorError(name, `the shape has ${elements} elements, but ${texts.length} came`);
  }
  return texts;
}

/** The engine holds strings as C strings, so neither other bytes nor a zero would arrive there. */
function decodeText(name: string, index: number, bytes: Bytes): string {
  if (bytes.includes(0)) throw new TensorError(name, `element ${index} holds a zero byte`);
  try {
    return utf8.decode(bytes);
  } catch {
    throw new TensorError(name, `element ${index} is not UTF-8`);
  }
}

function encodeTexts(texts: readonly string[]): Bytes {
  const encoded = texts.map((text) => encoder.encode(text));
  const bytes = new Uint8Array(encoded.reduce((total, text) => total + LENGTH_BYTES + text.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const text of encoded) {
    view.setUint32(at, text.length, true);
    bytes.set(text, at + LENGTH_BYTES);
    at += LENGTH_BYTES + text.length;
  }
  return bytes;
}
