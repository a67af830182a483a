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

  send(message: unknown): void {
    this.sent.push(message);
  }

  close(code: number, reason: string): void {
    this.closedWith = [code, reason];
  }
}
