/**
 * A lane: a dedicated Worker with its own link, bound to one backend.
 * It owns the order of jobs and their answers and leaves computing to its engine.
 */

import { MessageError } from '../protocol/reader.ts';
import type { Bytes } from '../protocol/frame.ts';
import type { Delivery } from '../protocol/inbox.ts';
import { type LaneMemory, type Load, type Program, readToLane, type Step, type Unload } from '../protocol/messages.ts';
import { checkAnswerBytes } from './answer.ts';
import { micros } from './clock.ts';
import type { Engine, LoadedModel } from './engines/engine.ts';
import { startEngine } from './engines/start.ts';
import { classify, Failure } from './failure.ts';
import { JobQueue, WAITING_JOBS } from './jobs.ts';
import type { LaneBegun, LaneExit, LaneStart } from './laneworker.ts';
import { holdLifeline } from './lifeline.ts';
import { Link } from './link.ts';
import { NoAdapter } from './gpu.ts';
import { growth, laneMemory, MemoryMeter } from './memory.ts';
import { digestsOf, fetchFiles } from './weights.ts';

interface Job {
  readonly message: Load | Unload | Program | Step;
  readonly body: Delivery['body'];
  readonly arrival: number;
  /** When the message had been read. */
  readonly read: number;
}

/** What a session was loaded from, and what its load said. */
interface Held {
  readonly source: string;
  readonly model: LoadedModel;
}

class Lane {
  readonly #jobs = new JobQueue<Job>();
  readonly #held = new Map<string, Held>();
  readonly #memory = new MemoryMeter();
  #engine: Engine | null = null;
  #reason: string | null = null;

  constructor(private readonly link: Link) {}

  async begin(start: LaneStart): Promise<void> {
    this.link.listen({
      deliver: (delivery, arrival) => {
        this.#deliver(delivery, arrival);
      },
      closed: (reason) => {
        exit(this.#reason ?? reason);
      },
    });
    try {
      const { engine, capability } = await startEngine(start, (reason) => {
        this.#end(reason);
      });
      this.#engine = engine;
      this.link.send({ type: 'lane_ready', capability });
      this.#tell(this.#memory.exact());
    } catch (error) {
      const reason = classify(error).message;
      this.link.send({ type: 'lane_unavailable', reason, no_adapter: error instanceof NoAdapter });
      this.#end(reason);
    }
  }

  /** Ends the lane after what it has sent; the page hears the reason when the link has closed. */
  #end(reason: string): void {
    this.#reason ??= reason;
    this.link.close(reason);
  }

  #deliver(delivery: Delivery, arrival: number): void {
    try {
      const message = readToLane(delivery.header);
      switch (message.type) {
        case 'cancel':
          if (this.#jobs.cancel(message.id) === 'dropped') this.#fail(message.id, cancelled());
          return;
        case 'load':
        case 'unload':
        case 'program':
        case 'step':
          this.#queue({ message, body: delivery.body, arrival, read: performance.now() });
      }
    } catch (error) {
      if (!(error instanceof MessageError) || error.id === null) throw error;
      this.#fail(error.id, classify(error));
    }
  }

  #queue(job: Job): void {
    if (!this.#jobs.accept(job)) {
      this.#fail(job.message.id, new Failure('internal', 'same', `${WAITING_JOBS} jobs wait already`));
    } else if (this.#jobs.idle) {
      void this.#work();
    }
  }

  async #work(): Promise<void> {
    for (let job = this.#jobs.start(); job !== null && this.#reason === null; job = this.#jobs.start()) {
      try {
        await this.#perform(job);
      } catch (error) {
        const failure = classify(error);
        // What failed for want of memory has often grown the heap first.
        this.#tell(this.#memory.afterStep());
        this.#fail(job.message.id, failure);
        if (failure.fatal) this.#end(`the engine stopped: ${failure.message}`);
      }
    }
  }

  async #perform(job: Job): Promise<void> {
    const engine = this.#engine;
    if (engine === null) throw new Failure('model_not_ready', 'same', 'the lane is not ready');
    const { message } = job;
    switch (message.type) {
      case 'step':
        await this.#step(engine, message, job);
        return;
      case 'load':
        await this.#load(engine, message, job.body);
        return;
      case 'program':
        await engine.program(message, job.body);
        this.#tell(this.#memory.exact());
        this.link.send({ type: 'programmed', id: message.id });
        return;
      case 'unload':
        this.#held.delete(message.session);
        await engine.unload(message.session);
        this.#tell(this.#memory.exact());
        this.link.send({ type: 'unloaded', id: message.id });
    }
  }

  async #step(engine: Engine, step: Step, job: Job): Promise<void> {
    const started = performance.now();
    const bound = engine.bind(step, job.body);
    const decoded = performance.now();
    const computed = await bound.run();
    const done = performance.now();
    if (this.#jobs.discarded) throw cancelled();
    const tensors = computed.outputs();
    checkAnswerBytes(tensors.map((tensor) => tensor.bytes.length));
    const outputs = tensors.map(({ name, datatype, shape, bytes }) => ({
      name,
      datatype,
      shape,
      parameters: { binary_data_size: bytes.length },
    }));
    const body = tensors.map((tensor) => tensor.bytes);
    const encoded = performance.now();
    const timing_us = {
      decode: micros(job.arrival, job.read) + micros(started, decoded),
      wait: micros(job.read, started),
      compute: micros(decoded, done),
      encode: micros(done, encoded),
      total: micros(job.arrival, encoded),
    };
    this.#tell(this.#memory.afterStep());
    this.link.sendWithBody({ type: 'result', id: step.id, outputs, timing_us }, body);
  }

  /** A session that is there already is answered as loaded: the daemon may have given up waiting for its load. */
  async #load(engine: Engine, { id, session, model, freeDimensions }: Load, body: Bytes): Promise<void> {
    const source = JSON.stringify([model.digest, Object.entries(freeDimensions).sort()]);
    const held = this.#held.get(session);
    if (held?.source === source) {
      const { placement, inputs, outputs } = held.model;
      const [timing_us, grown] = [{ fetch: 0, create: 0 }, { wasm_bytes: 0, gpu_bytes: 0 }];
      const fetched_bytes = { network: 0, cache: 0 };
      this.link.send({ type: 'loaded', id, placement, inputs, outputs, timing_us, fetched_bytes, grown });
      return;
    }
    const started = performance.now();
    const parts = partsOf(model, body);
    engine.checkRoom(model.files.reduce((sum, file) => sum + file.bytes, 0));
    const { files, bytes: fetched_bytes } = await fetchFiles(model.files, parts.leaves);
    const fetched = performance.now();
    const before = laneMemory();
    const loaded = await engine.load(session, { graph: parts.graph, files }, freeDimensions);
    this.#held.set(session, { source, model: loaded });
    const { placement, inputs, outputs } = loaded;
    const timing_us = { fetch: micros(started, fetched), create: micros(fetched, performance.now()) };
    const grown = growth(before, laneMemory());
    this.#tell(this.#memory.exact());
    this.link.send({ type: 'loaded', id, placement, inputs, outputs, timing_us, fetched_bytes, grown });
  }

  /** Ahead of the answer that goes with it, so that the daemon knows what it may still ask for. */
  #tell(memory: LaneMemory | null): void {
    if (memory !== null) this.link.send({ type: 'memory', ...memory });
  }

  #fail(id: number, { code, retry, message }: Failure): void {
    this.link.send({ type: 'failed', id, code, message, retry });
  }
}

/** What a load's body holds: the digests of the files' leaves, and a graph that is no file. */
function partsOf({ files, graphBytes }: Load['model'], body: Bytes): { leaves: Bytes; graph: Bytes | null } {
  const digests = digestsOf(files);
  if (body.length !== digests + graphBytes) {
    const message = `the load came with ${body.length} bytes instead of ${digests + graphBytes}`;
    throw new Failure('invalid_request', 'never', message);
  }
  return { leaves: body.subarray(0, digests), graph: graphBytes > 0 ? body.subarray(digests) : null };
}

function cancelled(): Failure {
  return new Failure('cancelled', 'never', 'the step was cancelled');
}

function exit(reason: string): void {
  const exited: LaneExit = { reason };
  postMessage(exited);
}

addEventListener(
  'message',
  (event: MessageEvent<LaneStart>) => {
    const start = event.data;
    const begun: LaneBegun = { begun: true };
    holdLifeline(start.ticket)
      .then(() => {
        postMessage(begun);
        return Link.open(start.ticket, start.epoch, 'lane');
      })
      .then((link) => new Lane(link).begin(start))
      .catch((error: unknown) => {
        exit(classify(error).message);
      });
  },
  { once: true },
);
