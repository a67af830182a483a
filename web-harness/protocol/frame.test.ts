import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Bytes, CHUNK_BYTES, chunksOf, decodeFrame, FrameError, type JsonObject, writeFrame } from './frame.ts';

interface Vector {
  name: string;
  frame_hex: string;
  header?: JsonObject;
  body_hex?: string;
  canonical?: boolean;
  error?: string;
}

const vectors = JSON.parse(
  readFileSync(new URL('../../fixtures/protocol/frames.json', import.meta.url), 'utf8'),
) as Vector[];

function bytes(hex: string): Bytes {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

function hex(buffer: ArrayBuffer | Bytes): string {
  return Buffer.from(buffer instanceof ArrayBuffer ? new Uint8Array(buffer) : buffer).toString('hex');
}

function faultOf(frame: ArrayBuffer): string {
  try {
    decodeFrame(frame);
  } catch (error) {
    if (error instanceof FrameError) return error.fault;
    throw error;
  }
  return 'none';
}

describe('frames of the shared vectors', () => {
  it('cover every fault and every padding', () => {
    const faults = new Set(vectors.map((vector) => vector.error).filter((fault) => fault !== undefined));
    expect([...faults].sort()).toEqual(['header_not_json', 'header_not_utf8', 'header_too_long', 'truncated']);
    expect(vectors.filter((vector) => vector.name.startsWith('padding of')).length).toBe(8);
  });

  it.each(vectors.map((vector) => [vector.name, vector] as const))('%s', (_name, vector) => {
    const frame = bytes(vector.frame_hex).buffer;
    if (vector.error !== undefined) {
      expect(faultOf(frame)).toBe(vector.error);
      return;
    }
    const { header, body } = decodeFrame(frame);
    expect(header).toEqual(vector.header);
    expect(hex(body)).toBe(vector.body_hex);
    if (vector.canonical === true) {
      expect(hex(writeFrame(header, [body]))).toBe(vector.frame_hex);
      expect(body.byteOffset % 8).toBe(0);
    }
  });
});

describe('writeFrame', () => {
  it('writes over the frame before, however long it was', () => {
    const long = new Uint8Array(1 << 17).fill(7);
    expect(decodeFrame(writeFrame({ of: 'long' }, [long]).slice().buffer).body).toEqual(long);
    const short = decodeFrame(writeFrame({ of: 'ü' }, [Uint8Array.of(1), Uint8Array.of(2)]).slice().buffer);
    expect([short.header, [...short.body]]).toEqual([{ of: 'ü' }, [1, 2]]);
  });
});

describe('chunksOf', () => {
  it('keeps every byte, in order, in chunks of at most 1 MiB', () => {
    const parts = [new Uint8Array(CHUNK_BYTES + 1).fill(1), new Uint8Array(0), new Uint8Array(CHUNK_BYTES).fill(2)];
    const chunks = chunksOf(parts);
    expect(chunks.map((chunk) => chunk.length)).toEqual([CHUNK_BYTES, 1, CHUNK_BYTES]);
    expect(chunks.map((chunk) => chunk[0])).toEqual([1, 1, 2]);
    expect(chunks[0]?.buffer).toBe(parts[0]?.buffer);
  });
});
