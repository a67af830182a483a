/**
 * The page's main thread: control link, heartbeat, start and end of lanes.
 * It owns the Workers and never computes.
 */

import type { Delivery } from '../protocol/inbox.ts';
import { parseHeader, PROTOCOL_VERSION } from '../protocol/frame.ts';
import { type BootBlock, readBootBlock, readToPage, type StartLane } from '../protocol/messages.ts';
import type { EngineAssets } from './engines/onnxruntime.ts';
import type { LaneExit, LaneStart } from './laneworker.ts';
import { Link } from './link.ts';
import { jsHeapBytes, probePage } from './probe.ts';

/** The addresses of the built files, which the bundler fills in. */
declare const LANE_URL: string;
declare const ENGINE_ASSETS: EngineAssets;

type LaneName = number | string;

class Page {
  readonly #lanes = new Map<LaneName, Worker>();
  #beats = 0;

  constructor(
    private readonly link: Link,
    private readonly boot: BootBlock,
  ) {}

  begin(): void {
    this.link.listen({
      deliver: (delivery) => {
        this.#deliver(delivery);
      },
      closed: () => {
        this.#endAll();
      },
    });
    this.link.send({ type: 'page_ready', environment: probePage() });
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
      case 'start_lane':
        this.#start(message);
        return;
      case 'stop_lane':
        this.#exited(message.lane, 'stopped');
    }
  }

  #start({ lane, ticket, backend, threads, webnnDevice }: StartLane): void {
    if (this.#lanes.has(lane)) {
      this.link.send({ type: 'lane_exited', lane, message: 'a lane of this name runs already' });
      return;
    }
    const worker = new Worker(LANE_URL, { type: 'module', name: `lane ${lane}` });
    this.#lanes.set(lane, worker);
    worker.onmessage = (event: MessageEvent<LaneExit>) => {
      this.#exited(lane, event.data.reason);
    };
    worker.onerror = (event) => {
      this.#exited(lane, event.message === '' ? 'the Worker could not be loaded' : event.message);
    };
    const { epoch } = this.boot;
    const start: LaneStart = { ticket, epoch, backend, threads, webnnDevice, assets: ENGINE_ASSETS };
    worker.postMessage(start);
  }

  #exited(lane: LaneName, message: string): void {
    const worker = this.#lanes.get(lane);
    if (worker === undefined) return;
    worker.terminate();
    this.#lanes.delete(lane);
    this.link.send({ type: 'lane_exited', lane, message });
  }

  #endAll(): void {
    for (const worker of this.#lanes.values()) worker.terminate();
    this.#lanes.clear();
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
new Page(await Link.open(boot.ticket, boot.epoch, 'page'), boot).begin();
