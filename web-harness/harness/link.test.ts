import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CHUNK_BYTES, decodeFrame } from '../protocol/frame.ts';
import type { Delivery } from '../protocol/inbox.ts';
import type { FromLane } from '../protocol/messages.ts';
import { FakeSocket, frameOf } from './fakesocket.ts';
import { fitCloseReason, Link } from './link.ts';

const RESULT: FromLane = {
  type: 'result',
  id: 5,
  outputs: [],
  timing_us: { decode: 0, wait: 0, compute: 0, encode: 0, total: 0 },
};

function dial(): { opening: Promise<Link>; socket: FakeSocket } {
  const opening = Link.open('t', 3, 'lane');
  const socket = FakeSocket.last;
  if (socket === null) throw new Error('no socket was made');
  socket.onopen?.();
  return { opening, socket };
}

async function welcomed(): Promise<{ link: Link; socket: FakeSocket; deliveries: Delivery[]; closes: string[] }> {
  const { opening, socket } = dial();
  socket.onmessage?.({ data: '{"type":"welcome"}' });
  const link = await opening;
  const deliveries: Delivery[] = [];
  const closes: string[] = [];
  link.listen({
    deliver: (delivery) => void deliveries.push(delivery),
    closed: (reason) => void closes.push(reason),
  });
  socket.sent.length = 0;
  return { link, socket, deliveries, closes };
}

beforeEach(() => {
  vi.stubGlobal('WebSocket', FakeSocket);
  vi.stubGlobal('location', { origin: 'http://127.0.0.1:9' });
});

afterEach(() => {
  vi.unstubAllGlobals();
});

describe('Link.open', () => {
  it('says hello on the page\'s own origin and resolves when welcomed', async () => {
    const { opening, socket } = dial();
    expect(socket.address.href).toBe('ws://127.0.0.1:9/harness/link');
    expect(socket.binaryType).toBe('arraybuffer');
    expect(socket.sent).toEqual(['{"type":"hello","protocol":5,"role":"lane","ticket":"t","epoch":3}']);
    socket.onmessage?.({ data: '{"type":"welcome"}' });
    await expect(opening).resolves.toBeInstanceOf(Link);
  });

  it('fails with the code and reason of a refusal', async () => {
    const { opening, socket } = dial();
    socket.onclose?.({ code: 4401, reason: 'used ticket' });
    await expect(opening).rejects.toThrow('the link closed with 4401: used ticket');
  });

  it.each([['{"type":"load"}'], ['welcome'], [new ArrayBuffer(8)]])('fails when the first answer is no welcome', async (data) => {
    const { opening, socket } = dial();
    socket.onmessage?.({ data });
    await expect(opening).rejects.toThrow('something else than welcome');
    expect(socket.closedWith?.[0]).toBe(4422);
  });
});

describe('Link', () => {
  it('delivers messages and tells why it closed', async () => {
    const { socket, deliveries, closes } = await welcomed();
    socket.onmessage?.({ data: '{"type":"cancel","id":1}' });
    socket.onmessage?.({ data: frameOf({ type: 'echo' }, [Uint8Array.of(1)]) });
    expect(deliveries.map(({ header, body }) => [header['type'], body.length])).toEqual([['cancel', 0], ['echo', 1]]);
    socket.onclose?.({ code: 1006, reason: '' });
    expect(closes).toEqual(['the link closed with 1006']);
  });

  it.each([
    ['text that is not JSON', 'hello', /not JSON/],
    ['a frame without a length', new ArrayBuffer(3), /no header length/],
  ])('closes on %s', async (_name, data, reason) => {
    const { socket, deliveries } = await welcomed();
    socket.onmessage?.({ data });
    expect(deliveries).toEqual([]);
    expect(socket.closedWith?.[0]).toBe(4422);
    expect(socket.closedWith?.[1]).toMatch(reason);
  });

  it('sends a body of 1 MiB in its frame', async () => {
    const { link, socket } = await welcomed();
    link.sendWithBody(RESULT, [new Uint8Array(CHUNK_BYTES - 1), Uint8Array.of(9)]);
    expect(socket.sent.length).toBe(1);
    const { header, body } = decodeFrame(socket.sent[0] as ArrayBuffer);
    expect(header).toEqual(RESULT);
    expect([body.length, body.at(-1)]).toEqual([CHUNK_BYTES, 9]);
  });

  it('sends a larger body behind its header', async () => {
    const { link, socket } = await welcomed();
    link.sendWithBody(RESULT, [new Uint8Array(CHUNK_BYTES), Uint8Array.of(9)]);
    const [frame, ...chunks] = socket.sent as [ArrayBuffer, ...ArrayBuffer[]];
    expect(decodeFrame(frame).header).toEqual({ ...RESULT, payload: { messages: 2, bytes: CHUNK_BYTES + 1 } });
    expect(chunks.map((chunk) => chunk.byteLength)).toEqual([CHUNK_BYTES, 1]);
  });
});

describe('fitCloseReason', () => {
  it.each([
    ['a short reason', 'stopped', 'stopped'],
    ['the longest reason', 'x'.repeat(123), 'x'.repeat(123)],
    ['a longer reason', 'x'.repeat(124), 'x'.repeat(123)],
    ['a character that would be cut', 'x'.repeat(121) + '形', 'x'.repeat(121)],
    ['a surrogate pair that would be cut', 'x'.repeat(120) + '🙂', 'x'.repeat(120)],
  ])('fits %s', (_name, reason, fitted) => {
    expect(fitCloseReason(reason)).toBe(fitted);
  });
});
