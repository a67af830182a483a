/**
 * The page's main thread: control link, heartbeat, start and end of lanes.
 * It answers the daemon and never computes.
 */

import type { Delivery } from '../protocol/inbox.ts';
import { parseHeader, PROTOCOL_VERSION } from '../protocol/frame.ts';
import { type BootBlock, readBootBlock, readToPage } from '../protocol/messages.ts';
import type { Assets } from './engines/start.ts';
import { Link } from './link.ts';
import { jsHeapBytes, probePage } from './probe.ts';
import { Workers } from './workers.ts';

/** The addresses of the built files, which the bundler fills in. */
declare const LANE_URL: string;
declare const ENGINE_ASSETS: Assets;

class Page {
  readonly #workers = new Workers(
    (name) => new Worker(LANE_URL, { type: 'module', name }),
    (lane, message) => {
      this.link.send({ type: 'lane_exited', lane, message });
    },
  );
  #beats = 0;

  constructor(
    private readonly link: Link,
    private readonly boot: BootBlock,
  ) {}

  async begin(): Promise<void> {
    this.link.listen({
      deliver: (delivery) => {
        this.#deliver(delivery);
      },
      closed: () => {
        this.#workers.endAll();
      },
    });
    this.link.send({ type: 'page_ready', environment: await probePage() });
    const beating = setInterval(() => {
      this.#beat();
    }, this.boot.heartbeatMs);
    this.link.socket.addEventListener('close', () => {
      clearInterval(beating);
    });
  }

  #beat(): void {
    this.#beats += 1;
    this.link.send({
      type: 'heartbeat',
      seq: this.#beats,
      visibility: document.visibilityState,
      js_heap_bytes: jsHeapBytes(),
    });
  }

  #deliver(delivery: Delivery): void {
    const message = readToPage(delivery.header);
    switch (message.type) {
      case 'start_lane': {
        const { lane, ticket, backend, threads, webnnDevice, memoryMax } = message;
        const { epoch } = this.boot;
        const start = { ticket, epoch, backend, threads, webnnDevice, memoryMax, assets: ENGINE_ASSETS };
        this.#workers.start(lane, start);
        return;
      }
      case 'stop_lane':
        this.#workers.end(message.lane, 'stopped');
    }
  }
}

function readBoot(): BootBlock {
  const block = document.getElementById('weft-boot')?.textContent;
  if (block === undefined) throw new Error('the page holds no boot block');
  const boot = readBootBlock(parseHeader(block));
  if (boot.protocol !== PROTOCOL_VERSION) {
    throw new Error(`the daemon speaks protocol ${boot.protocol}, this page ${PROTOCOL_VERSION}`);
  }
  return boot;
}

const boot = readBoot();
await new Page(await Link.open(boot.ticket, boot.epoch, 'page'), boot).begin();
