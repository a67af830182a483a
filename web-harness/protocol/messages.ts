/**
 * The messages of the harness link, version 5, as `docs/protocol.md` states them.
 * It owns their shapes and the reading of the daemon's; it never acts on one.
 */

import type { JsonObject } from './frame.ts';
import { MessageError, Reader } from './reader.ts';

/** Those of the library. */
const LIBRARY_BACKENDS = ['wasm', 'webgpu', 'webnn'] as const;
export type LibraryBackend = (typeof LIBRARY_BACKENDS)[number];

export const BACKENDS = [...LIBRARY_BACKENDS, 'weft-wgsl', 'weft-wasm'] as const;
export type Backend = (typeof BACKENDS)[number];

export const WEBNN_DEVICES = ['cpu', 'gpu', 'npu'] as const;
export type WebnnDevice = (typeof WEBNN_DEVICES)[number];

export type FailureCode = 'invalid_request' | 'model_not_ready' | 'lane_lost' | 'out_of_memory' | 'too_large' | 'cancelled' | 'internal';
export type Retry = 'same' | 'elsewhere' | 'never';

/** Node counts per execution provider. */
export type Placement = Record<string, number>;

// What the page holds when it is served.

export interface BootBlock {
  readonly protocol: number;
  readonly ticket: string;
  readonly epoch: number;
  readonly heartbeatMs: number;
}

export interface Hello {
  readonly type: 'hello';
  readonly protocol: number;
  readonly role: 'page' | 'lane';
  readonly ticket: string;
  readonly epoch: number;
}

// The control link of a page.

export interface StartLane {
  readonly type: 'start_lane';
  readonly lane: number | string;
  readonly ticket: string;
  readonly backend: Backend;
  readonly threads: number;
  readonly webnnDevice: WebnnDevice | null;
  /** The bytes that the engine's heap may grow to. */
  readonly memoryMax: number;
}

export interface StopLane {
  readonly type: 'stop_lane';
  readonly lane: number | string;
}

export type ToPage = StartLane | StopLane;

export interface Environment {
  readonly user_agent: string;
  readonly cross_origin_isolated: boolean;
  readonly shared_array_buffer: boolean;
  readonly hardware_concurrency: number;
  readonly simd: boolean;
  readonly relaxed_simd: boolean;
  readonly threads: boolean;
  readonly jspi: boolean;
  readonly visibility: string;
  /** Why this browser keeps no weights between loads; null where it does. */
  readonly cache_fault: string | null;
}

export type FromPage =
  | { readonly type: 'page_ready'; readonly environment: Environment }
  | {
      readonly type: 'heartbeat';
      readonly seq: number;
      readonly visibility: string;
      readonly js_heap_bytes: number | null;
    }
  | { readonly type: 'lane_exited'; readonly lane: number | string; readonly message: string };

// The link of a lane.

export interface TensorHead {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

export interface FileFetch {
  readonly url: string;
  readonly digest: string;
  readonly bytes: number;
}

/** The load's body holds the digests of all files' leaves in their order, then the graph. */
export interface ModelFetch {
  readonly digest: string;
  /** None where the first file is the graph; the other files are called by their digests in it. */
  readonly graphBytes: number;
  readonly files: readonly FileFetch[];
}

/** Where the bytes of a model's files came from: the daemon, or this browser's cache. */
export interface FetchedBytes {
  readonly network: number;
  readonly cache: number;
}

export interface Load {
  readonly type: 'load';
  readonly id: number;
  readonly session: string;
  readonly model: ModelFetch;
  readonly freeDimensions: Readonly<Record<string, number>>;
}

export interface Unload {
  readonly type: 'unload';
  readonly id: number;
  readonly session: string;
}

/** What a session of our own engine runs for inputs of certain sizes. The body holds its block of bytes, then its JSON. */
export interface Program {
  readonly type: 'program';
  readonly id: number;
  readonly session: string;
  /** Its name on this link. */
  readonly program: number;
  /** Programs of the session that go first. */
  readonly drops: readonly number[];
  readonly blockBytes: number;
}

export interface Step {
  readonly type: 'step';
  readonly id: number;
  readonly session: string;
  /** None where the engine runs the graph itself. */
  readonly program: number | null;
  readonly inputs: readonly TensorHead[];
  readonly outputs: readonly string[];
}

export interface Cancel {
  readonly type: 'cancel';
  readonly id: number;
}

export type ToLane = Load | Unload | Program | Step | Cancel;

export interface Adapter {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  readonly software: boolean;
}

export interface Capability {
  readonly backend: Backend;
  readonly engine: string;
  readonly threads: number;
  readonly adapter: Adapter | null;
  readonly features: readonly string[] | null;
  readonly limits: Readonly<Record<string, number>> | null;
  readonly webnn: Readonly<Record<WebnnDevice, string>> | null;
  readonly webnn_device: WebnnDevice | null;
  readonly memory_max: number;
  readonly timing_us: { readonly import: number; readonly init: number };
}

export interface TensorDescription {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly (number | string)[];
}

export interface TensorReply {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters: { readonly binary_data_size: number };
}

export interface StepTiming {
  readonly decode: number;
  readonly wait: number;
  readonly compute: number;
  readonly encode: number;
  readonly total: number;
}

/** What a lane's Worker holds, in bytes. */
export interface LaneMemory {
  /** The library's heap, which grows and never shrinks; of our own engine, files and memories that it keeps. */
  readonly wasm_bytes: number;
  /** Buffers and textures as they were asked for. */
  readonly gpu_bytes: number;
}

export interface Failed {
  readonly type: 'failed';
  readonly id: number;
  readonly code: FailureCode;
  readonly message: string;
  readonly retry: Retry;
}

export type FromLane =
  | { readonly type: 'lane_ready'; readonly capability: Capability }
  | { readonly type: 'lane_unavailable'; readonly reason: string; readonly no_adapter: boolean }
  | ({ readonly type: 'memory' } & LaneMemory)
  | {
      readonly type: 'loaded';
      readonly id: number;
      readonly placement: Placement;
      readonly inputs: readonly TensorDescription[];
      readonly outputs: readonly TensorDescription[];
      readonly timing_us: { readonly fetch: number; readonly create: number };
      readonly fetched_bytes: FetchedBytes;
      /** By how much the lane's memory grew meanwhile. */
      readonly grown: LaneMemory;
    }
  | { readonly type: 'unloaded'; readonly id: number }
  | { readonly type: 'programmed'; readonly id: number }
  | {
      readonly type: 'result';
      readonly id: number;
      readonly outputs: readonly TensorReply[];
      readonly timing_us: StepTiming;
    }
  | Failed;

export function readBootBlock(fields: JsonObject): BootBlock {
  const reader = new Reader(fields, null);
  return {
    protocol: reader.count('protocol'),
    ticket: reader.text('ticket'),
    epoch: reader.count('epoch'),
    heartbeatMs: reader.count('heartbeat_ms'),
  };
}

export function readToPage(fields: JsonObject): ToPage {
  const reader = new Reader(fields, null);
  const type = reader.choice('type', ['start_lane', 'stop_lane'] as const);
  switch (type) {
    case 'start_lane':
      return {
        type,
        lane: readLane(fields),
        ticket: reader.text('ticket'),
        backend: reader.choice('backend', BACKENDS),
        threads: reader.count('threads'),
        webnnDevice: reader.choiceOrNull('webnn_device', WEBNN_DEVICES),
        memoryMax: reader.count('memory_max'),
      };
    case 'stop_lane':
      return { type, lane: readLane(fields) };
  }
}

const TO_LANE = ['load', 'unload', 'program', 'step', 'cancel'] as const;

export function readToLane(fields: JsonObject): ToLane {
  const type = new Reader(fields, null).choice('type', TO_LANE);
  const id = new Reader(fields, null).count('id');
  const reader = new Reader(fields, id);
  switch (type) {
    case 'cancel':
      return { type, id };
    case 'unload':
      return { type, id, session: reader.text('session') };
    case 'load': {
      const model = reader.object('model');
      return {
        type,
        id,
        session: reader.text('session'),
        model: {
          digest: model.text('digest'),
          graphBytes: model.count('graph_bytes'),
          files: model.objects('files').map(readFileFetch),
        },
        freeDimensions: reader.object('free_dimensions').everyCount(),
      };
    }
    case 'program':
      return {
        type,
        id,
        session: reader.text('session'),
        program: reader.count('program'),
        drops: reader.counts('drops'),
        blockBytes: reader.count('block_bytes'),
      };
    case 'step':
      return {
        type,
        id,
        session: reader.text('session'),
        program: reader.has('program') ? reader.count('program') : null,
        inputs: reader.objects('inputs').map(readTensorHead),
        outputs: reader.texts('outputs'),
      };
  }
}

function readFileFetch(reader: Reader): FileFetch {
  return { url: reader.text('url'), digest: reader.text('digest'), bytes: reader.count('bytes') };
}

function readTensorHead(reader: Reader): TensorHead {
  return {
    name: reader.text('name'),
    datatype: reader.text('datatype'),
    shape: reader.counts('shape'),
    byteLength: reader.object('parameters').count('binary_data_size'),
  };
}

/** The daemon names its lanes; the page only repeats the name. */
function readLane(fields: JsonObject): number | string {
  const lane = fields['lane'];
  if (typeof lane === 'number' || typeof lane === 'string') return lane;
  throw new MessageError(null, 'lane is not a number or a string');
}
