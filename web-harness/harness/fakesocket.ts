import { type Bytes, writeFrame } from '../protocol/frame.ts';

/** A frame as a socket delivers it. */
export function frameOf(header: object, body: readonly Bytes[]): ArrayBuffer {
  return writeFrame(header, body).slice().buffer;
}

/** A socket for tests; the test is its other end. */
export class FakeSocket {
  static last: FakeSocket | null = null;
  binaryType = '';
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  readonly sent: unknown[] = [];
  closedWith: [number, string] | null = null;

  constructor(readonly address: URL) {
    FakeSocket.last = this;
  }

  /** Copies bytes, as a socket does. */
  send(message: string | Uint8Array<ArrayBuffer>): void {
    this.sent.push(typeof message === 'string' ? message : message.slice().buffer);
  }

  close(code: number, reason: string): void {
    this.closedWith = [code, reason];
  }
}
