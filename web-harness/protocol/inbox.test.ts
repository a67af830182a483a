import { describe, expect, it } from 'vitest';
import { type Bytes, CHUNK_BYTES, writeFrame } from './frame.ts';
import { Inbox } from './inbox.ts';

function frameOf(header: object, body: readonly Bytes[]): ArrayBuffer {
  return writeFrame(header, body).slice().buffer;
}

function announce(messages: unknown, bytes: unknown): ArrayBuffer {
  return frameOf({ type: 'step', id: 1, payload: { messages, bytes } }, []);
}

describe('Inbox', () => {
  it('delivers a text frame and a whole binary frame at once', () => {
    const inbox = new Inbox();
    expect(inbox.accept('{"type":"cancel","id":4}')?.header).toEqual({ type: 'cancel', id: 4 });
    const delivery = inbox.accept(frameOf({ type: 'echo' }, [Uint8Array.of(5, 6)]));
    expect([...(delivery?.body ?? [])]).toEqual([5, 6]);
  });

  it('assembles payload messages of any size into one aligned body', () => {
    const inbox = new Inbox();
    expect(inbox.accept(announce(3, CHUNK_BYTES + 3))).toBeNull();
    expect(inbox.accept(new Uint8Array(CHUNK_BYTES).fill(1).buffer)).toBeNull();
    expect(inbox.accept(Uint8Array.of(2).buffer)).toBeNull();
    const delivery = inbox.accept(Uint8Array.of(3, 4).buffer);
    expect(delivery?.header['id']).toBe(1);
    expect(delivery?.body.length).toBe(CHUNK_BYTES + 3);
    expect(delivery?.body.byteOffset).toBe(0);
    expect([...(delivery?.body.subarray(CHUNK_BYTES - 1) ?? [])]).toEqual([1, 2, 3, 4]);
  });

  it('lets text frames through between payload messages', () => {
    const inbox = new Inbox();
    inbox.accept(announce(1, 2));
    expect(inbox.accept('{"type":"cancel","id":1}')?.header['type']).toBe('cancel');
    expect([...(inbox.accept(Uint8Array.of(7, 8).buffer)?.body ?? [])]).toEqual([7, 8]);
    expect(inbox.accept(frameOf({ type: 'echo' }, []))?.header['type']).toBe('echo');
  });

  it.each([
    ['no messages', 0, 0],
    ['more bytes than the messages can hold', 1, CHUNK_BYTES + 1],
    ['a negative count', 1, -1],
    ['a fraction', 1.5, 3],
    ['a text', '1', 3],
  ])('refuses an announcement with %s', (_name, messages, bytes) => {
    expect(() => new Inbox().accept(announce(messages, bytes))).toThrow(/payload field/);
  });

  it('refuses a body beside an announcement', () => {
    const frame = frameOf({ payload: { messages: 1, bytes: 1 } }, [Uint8Array.of(1)]);
    expect(() => new Inbox().accept(frame)).toThrow(/holds a body too/);
  });

  it('refuses payload messages that are too long or end too early', () => {
    const long = new Inbox();
    long.accept(announce(2, 3));
    expect(() => long.accept(new ArrayBuffer(4))).toThrow(/too long/);
    const short = new Inbox();
    short.accept(announce(1, 3));
    expect(() => short.accept(new ArrayBuffer(2))).toThrow(/ended after 2 of 3/);
  });
});
