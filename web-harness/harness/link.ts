/**
 * One WebSocket to the daemon: the handshake, and frames in and out.
 * It owns the socket and never knows what a message asks for.
 */

import { type Bytes, CHUNK_BYTES, chunksOf, writeFrame, FrameError, parseHeader, PROTOCOL_VERSION } from '../protocol/frame.ts';
import { type Delivery, Inbox } from '../protocol/inbox.ts';
import type { FromLane, FromPage, Hello } from '../protocol/messages.ts';
import { MessageError } from '../protocol/reader.ts';

/** The address of every link, on the origin that served the page. */
const LINK_PATH = '/harness/link';

/** The normal end of a WebSocket. */
const CLOSE_NORMAL = 1000;

/** Sent when the other end broke the protocol; `docs/protocol.md` lists it. */
const CLOSE_MALFORMED = 4422;

/** What a close frame holds beside its code. */
const CLOSE_REASON_BYTES = 123;

export interface LinkHandlers {
  /** `arrival` is when the last byte of the delivery was there. */
  deliver(delivery: Delivery, arrival: number): void;
  closed(reason: string): void;
}

export class Link {
  readonly #inbox = new Inbox();

  private constructor(readonly socket: WebSocket) {}

  /** Opens a link and answers when the daemon has welcomed it; call `listen` before awaiting anything else. */
  static open(ticket: string, epoch: number, role: Hello['role']): Promise<Link> {
    const address = new URL(LINK_PATH, location.origin);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(address);
    socket.binaryType = 'arraybuffer';
    const hello: Hello = { type: 'hello', protocol: PROTOCOL_VERSION, role, ticket, epoch };
    return new Promise((resolve, reject) => {
      socket.onopen = () => {
        socket.send(JSON.stringify(hello));
      };
      socket.onclose = (event) => {
        reject(new Error(describeClose(event)));
      };
      socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
        if (isWelcome(event.data)) {
          resolve(new Link(socket));
          return;
        }
        const reason = 'the daemon answered hello with something else than welcome';
        reject(new Error(reason));
        socket.close(CLOSE_MALFORMED, reason);
      };
    });
  }

  listen(handlers: LinkHandlers): void {
    this.socket.onclose = (event) => {
      handlers.closed(describeClose(event));
    };
    this.socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      const arrival = performance.now();
      try {
        const delivery = this.#inbox.accept(event.data);
        if (delivery !== null) handlers.deliver(delivery, arrival);
      } catch (error) {
        if (!(error instanceof FrameError || error instanceof MessageError)) throw error;
        this.#close(CLOSE_MALFORMED, error.message);
      }
    };
  }

  send(message: FromLane | FromPage): void {
    this.socket.send(JSON.stringify(message));
  }

  /** Sends a header and its tensors: in one frame, or as payload messages when they are large. */
  sendWithBody(header: FromLane, body: readonly Bytes[]): void {
    let bytes = 0;
    for (const part of body) bytes += part.length;
    if (bytes <= CHUNK_BYTES) {
      this.socket.send(writeFrame(header, body));
      return;
    }
    const chunks = chunksOf(body);
    this.socket.send(writeFrame({ ...header, payload: { messages: chunks.length, bytes } }, []));
    for (const chunk of chunks) this.socket.send(chunk);
  }

  /** Ends the link after what was sent; the handler's `closed` follows. */
  close(reason: string): void {
    this.#close(CLOSE_NORMAL, reason);
  }

  #close(code: number, reason: string): void {
    this.socket.close(code, fitCloseReason(reason));
  }
}

/** Cuts a reason to what a close frame can hold, between two characters. */
export function fitCloseReason(reason: string): string {
  const target = new Uint8Array(CLOSE_REASON_BYTES);
  return reason.slice(0, new TextEncoder().encodeInto(reason, target).read);
}

function isWelcome(data: ArrayBuffer | string): boolean {
  try {
    return typeof data === 'string' && parseHeader(data)['type'] === 'welcome';
  } catch {
    return false;
  }
}

function describeClose(event: CloseEvent): string {
  return `the link closed with ${event.code}${event.reason === '' ? '' : `: ${event.reason}`}`;
}
