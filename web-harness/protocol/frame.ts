/**
 * The binary frame: a header length, a JSON header and raw tensor bytes.
 * It owns the bytes of one frame and never looks at what a header means.
 */

/** The version of the harness link that this package speaks. */
export const PROTOCOL_VERSION = 5;

/** A larger body travels in messages of this size, so that control frames get through between them. */
export const CHUNK_BYTES = 1 << 20;

/** The width of the length that opens a frame. */
const LENGTH_BYTES = 4;

/** The widest tensor element, so that every tensor type can be viewed in place. */
const ALIGNMENT = 8;

const SPACE = 0x20;

export type FrameFault = 'truncated' | 'header_too_long' | 'header_not_utf8' | 'header_not_json';

export class FrameError extends Error {
  constructor(
    readonly fault: FrameFault,
    message: string,
  ) {
    super(message);
    this.name = 'FrameError';
  }
}

export type JsonObject = Record<string, unknown>;

export type Bytes = Uint8Array<ArrayBuffer>;

export interface Frame {
  readonly header: JsonObject;
  /** A view of the frame, not a copy. */
  readonly body: Bytes;
}

// A byte order mark is kept, so that the JSON parser refuses it as every other end does.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export function decodeFrame(frame: ArrayBuffer): Frame {
  if (frame.byteLength < LENGTH_BYTES) {
    throw new FrameError('truncated', `a frame of ${frame.byteLength} bytes has no header length`);
  }
  const headerBytes = new DataView(frame).getUint32(0, true);
  if (headerBytes > frame.byteLength - LENGTH_BYTES) {
    throw new FrameError(
      'header_too_long',
      `a header of ${headerBytes} bytes does not fit a frame of ${frame.byteLength}`,
    );
  }
  const header = parseHeader(decodeUtf8(new Uint8Array(frame, LENGTH_BYTES, headerBytes)));
  return { header, body: new Uint8Array(frame, LENGTH_BYTES + headerBytes) };
}

/** Reads the JSON object of a text frame or of a binary frame's header. */
export function parseHeader(text: string): JsonObject {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new FrameError('header_not_json', `the header is not JSON: ${String(error)}`);
  }
  if (!isJsonObject(parsed)) {
    throw new FrameError('header_not_json', 'the header is not a JSON object');
  }
  return parsed;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What frames are written into, so that a small answer allocates nothing; it grows to the largest. */
let page: Bytes = new Uint8Array(1 << 16);

/** UTF-8 takes no more bytes than this for a unit of UTF-16. */
const UNIT_BYTES = 3;

/**
 * Writes the header, padded so that the body is aligned, and the parts of the body after it.
 * The frame holds until the next one is written; a socket has copied it when `send` returns.
 */
export function writeFrame(header: object, body: readonly Bytes[]): Bytes {
  const json = JSON.stringify(header);
  let most = LENGTH_BYTES + UNIT_BYTES * json.length + ALIGNMENT;
  for (const part of body) most += part.length;
  if (most > page.length) page = new Uint8Array(most);
  const headerEnd = LENGTH_BYTES + encoder.encodeInto(json, page.subarray(LENGTH_BYTES)).written;
  const bodyStart = Math.ceil(headerEnd / ALIGNMENT) * ALIGNMENT;
  new DataView(page.buffer).setUint32(0, bodyStart - LENGTH_BYTES, true);
  page.fill(SPACE, headerEnd, bodyStart);
  let end = bodyStart;
  for (const part of body) {
    page.set(part, end);
    end += part.length;
  }
  return page.subarray(0, end);
}

/** Cuts the parts of a body into messages of at most `CHUNK_BYTES`, without copying. */
export function chunksOf(body: readonly Bytes[]): Bytes[] {
  const chunks: Bytes[] = [];
  for (const part of body) {
    for (let start = 0; start < part.length; start += CHUNK_BYTES) {
      chunks.push(part.subarray(start, start + CHUNK_BYTES));
    }
  }
  return chunks;
}

function decodeUtf8(bytes: Bytes): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new FrameError('header_not_utf8', 'the header is not UTF-8');
  }
}
