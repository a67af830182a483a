/**
 * Puts the messages of a link back together: a header frame and the payload messages after it.
 * It owns what has come so far of one body and never touches a socket.
 */

import { type Bytes, CHUNK_BYTES, decodeFrame, FrameError, isJsonObject, type JsonObject, parseHeader } from './frame.ts';

export interface Delivery {
  readonly header: JsonObject;
  readonly body: Bytes;
}

interface Pending {
  readonly delivery: Delivery;
  messagesLeft: number;
  filled: number;
}

const NOTHING: Bytes = new Uint8Array(0);

export class Inbox {
  #pending: Pending | null = null;

  /** Takes one WebSocket message; answers the delivery that it completes, else null. */
  accept(message: ArrayBuffer | string): Delivery | null {
    if (typeof message === 'string') {
      return { header: parseHeader(message), body: NOTHING };
    }
    if (this.#pending !== null) return this.#fill(this.#pending, message);
    const { header, body } = decodeFrame(message);
    if (header['payload'] === undefined) return { header, body };
    this.#pending = openPayload(header, body);
    return null;
  }

  #fill(pending: Pending, message: ArrayBuffer): Delivery | null {
    const { body } = pending.delivery;
    if (message.byteLength > CHUNK_BYTES || message.byteLength > body.length - pending.filled) {
      throw new FrameError('truncated', `a payload message of ${message.byteLength} bytes is too long`);
    }
    body.set(new Uint8Array(message), pending.filled);
    pending.filled += message.byteLength;
    pending.messagesLeft -= 1;
    if (pending.messagesLeft > 0) return null;
    if (pending.filled !== body.length) {
      throw new FrameError('truncated', `the payload ended after ${pending.filled} of ${body.length} bytes`);
    }
    this.#pending = null;
    return pending.delivery;
  }
}

function openPayload(header: JsonObject, body: Bytes): Pending {
  const payload = header['payload'];
  const messages = isJsonObject(payload) ? payload['messages'] : undefined;
  const bytes = isJsonObject(payload) ? payload['bytes'] : undefined;
  if (!isCount(messages) || !isCount(bytes) || messages === 0 || bytes > messages * CHUNK_BYTES) {
    throw new FrameError('header_not_json', 'the payload field does not say how many messages and bytes follow');
  }
  if (body.length > 0) {
    throw new FrameError('header_too_long', 'a frame that announces payload messages holds a body too');
  }
  const delivery = { header, body: new Uint8Array(bytes) };
  return { delivery, messagesLeft: messages, filled: 0 };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
