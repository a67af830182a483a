/**
 * The engine onnxruntime-web: one instance per Worker, bound to one backend.
 * It owns the sessions and is the only file that knows the library; it never talks to the daemon.
 */

import type * as Ort from 'onnxruntime-web';
import type { Bytes } from '../../protocol/frame.ts';
import type { Capability, LibraryBackend, Step, TensorDescription, TensorHead, WebnnDevice } from '../../protocol/messages.ts';
import { micros } from '../clock.ts';
import { installTap } from '../consoletap.ts';
import { Failure } from '../failure.ts';
import { type Gpu, openGpu, watchGpu } from '../gpu.ts';
import { heapMax, seeGpu, seeWasm } from '../memory.ts';
import { parsePlacement } from '../placement.ts';
import { hasJspi } from '../probe.ts';
import { checkBodyLength, type Datatype, decodeTensor, encodeTensor, type TensorValues } from '../tensors.ts';
import { probeWebnn, type WebnnOutcome } from '../webnn.ts';
import type { BoundStep, Engine, LoadedModel, ModelFiles, OutputTensor, StartedEngine } from './engine.ts';
import { TRIAL_INPUT, TRIAL_OUTPUT, trialModel } from './trial.ts';

/** The library's files of one build, as the page's server names them. */
export interface EngineFiles {
  readonly module: string;
  readonly wasm: string;
  /** The name of the `.wasm` file in the library's package. */
  readonly wasmName: string;
}

export interface EngineAssets {
  /** The plain build: every browser runs it, and it holds the wasm backend alone. */
  readonly plain: EngineFiles;
  /** The JSPI build: it holds the native WebGPU and WebNN providers and needs JSPI. */
  readonly jspi: EngineFiles;
}

export interface EngineWish {
  readonly backend: LibraryBackend;
  readonly threads: number;
  readonly webnnDevice: WebnnDevice | null;
  /** The bytes that the engine's heap may grow to. */
  readonly memoryMax: number;
}

interface Session {
  readonly session: Ort.InferenceSession;
  readonly inputs: ReadonlyMap<string, string>;
  readonly outputs: ReadonlyMap<string, Datatype>;
}

interface Placed {
  readonly session: Ort.InferenceSession;
  readonly placement: Record<string, number>;
}

/** What the backend is bound to beside the library. */
interface Hardware {
  readonly gpu: Gpu | null;
  readonly webnn: WebnnOutcome | null;
  readonly webnnDevice: WebnnDevice | null;
  readonly provider: Ort.InferenceSession.ExecutionProviderConfig;
}

const ORT_TYPES: Readonly<Record<Datatype, Ort.Tensor.Type>> = {
  BOOL: 'bool',
  UINT8: 'uint8',
  INT8: 'int8',
  UINT16: 'uint16',
  INT16: 'int16',
  FP16: 'float16',
  UINT32: 'uint32',
  INT32: 'int32',
  FP32: 'float32',
  UINT64: 'uint64',
  INT64: 'int64',
  FP64: 'float64',
  BYTES: 'string',
};

const DATATYPE_OF = new Map(Object.entries(ORT_TYPES).map(([datatype, type]) => [type, datatype as Datatype]));

/** The library's log severities. */
const VERBOSE = 0;
const WARNING = 2;

/** All that a WebAssembly memory of 32 bits can have. */
const HEAP_MAX = 2 ** 32;

/** A dimension without size and name reads as -1 through an unsigned pointer. */
const LARGEST_DIMENSION = 0x7fff_ffff;

/** Starts the library for a lane's backend and proves it with a small model; throws with the reason when it cannot. */
export async function startOnnxRuntime(
  assets: EngineAssets,
  wish: EngineWish,
  died: (reason: string) => void,
): Promise<StartedEngine> {
  const { backend } = wish;
  if (backend !== 'wasm' && !hasJspi()) {
    throw new Error(`the engine's ${backend} build needs JSPI, and 'Suspending' in WebAssembly is false`);
  }
  const files = backend === 'wasm' ? assets.plain : assets.jspi;
  const hardware = await openHardware(wish);
  seeWasm(wish.memoryMax);
  if (hardware.gpu !== null) seeGpu(hardware.gpu.device);
  const started = performance.now();
  const ort = (await import(files.module)) as typeof Ort;
  const imported = performance.now();
  ort.env.wasm.numThreads = Math.max(1, wish.threads);
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmPaths = { wasm: files.wasm };
  const engine = new OnnxRuntime(ort, backend, hardware);
  await engine.prove();
  const proven = performance.now();
  if (hardware.gpu !== null) {
    watchGpu(hardware.gpu.device, died, (error) => {
      engine.gpuError = error;
    });
  }
  const capability: Capability = {
    backend,
    engine: `onnxruntime-web@${ort.env.versions.web ?? 'unknown'}/${files.wasmName}`,
    // The library sets this to 1 where threads are missing.
    threads: ort.env.wasm.numThreads,
    adapter: hardware.gpu?.adapter ?? null,
    features: hardware.gpu?.features ?? null,
    limits: hardware.gpu?.limits ?? null,
    webnn: hardware.webnn,
    webnn_device: hardware.webnnDevice,
    memory_max: heapMax(),
    timing_us: { import: micros(started, imported), init: micros(imported, proven) },
  };
  return { engine, capability };
}

async function openHardware({ backend, webnnDevice: asked }: EngineWish): Promise<Hardware> {
  switch (backend) {
    case 'wasm':
      return { gpu: null, webnn: null, webnnDevice: null, provider: 'wasm' };
    case 'webgpu': {
      const gpu = await openGpu();
      return { gpu, webnn: null, webnnDevice: null, provider: { name: 'webgpu', device: gpu.device } };
    }
    case 'webnn': {
      const webnnDevice = asked ?? 'cpu';
      const webnn = await probeWebnn();
      if (webnn[webnnDevice] !== 'ok') {
        throw new Error(`navigator.ml.createContext refused ${webnnDevice}: ${webnn[webnnDevice]}`);
      }
      return { gpu: null, webnn, webnnDevice, provider: { name: 'webnn', deviceType: webnnDevice } };
    }
  }
}

class OnnxRuntime implements Engine {
  /** An error that WebGPU reported outside any call; the step during which it came cannot be trusted. */
  gpuError: GPUError | null = null;
  readonly #sessions = new Map<string, Session>();
  readonly #tap = installTap(console);

  constructor(
    private readonly ort: typeof Ort,
    private readonly backend: LibraryBackend,
    private readonly hardware: Hardware,
  ) {}

  /** Runs the trial model; its session stays, because the library lets go of the WebGPU device with the last one. */
  async prove(): Promise<void> {
    const trial = { graph: trialModel(), files: [] };
    const stays = await this.#open(trial, {}, WARNING);
    const { session, placement } = await this.#openTelling(trial, {});
    await session.release();
    if (placement[this.backend] !== 1) {
      throw new Error(`the engine placed a trial model on ${JSON.stringify(placement)} instead of ${this.backend}`);
    }
    const x = new this.ort.Tensor('float32', Float32Array.from(TRIAL_INPUT), [TRIAL_INPUT.length]);
    const { y } = await stays.run({ x });
    const values = Array.from((await y?.getData()) as Float32Array);
    if (values.length !== TRIAL_OUTPUT.length || values.some((value, i) => value !== TRIAL_OUTPUT[i])) {
      throw new Error(`the engine computed [${values.join(', ')}] instead of [${TRIAL_OUTPUT.join(', ')}]`);
    }
  }

  checkRoom(bytes: number): void {
    if (bytes <= HEAP_MAX) return;
    const message = `its ${bytes} bytes are more than the engine's heap of ${HEAP_MAX} bytes can hold`;
    throw new Failure('too_large', 'elsewhere', message);
  }

  async load(
    name: string,
    model: ModelFiles,
    freeDimensions: Readonly<Record<string, number>>,
  ): Promise<LoadedModel> {
    if (this.#sessions.has(name)) {
      throw new Failure('invalid_request', 'never', `session "${name}" holds another model`);
    }
    const { session, placement } = await this.#create(model, freeDimensions);
    try {
      const inputs = session.inputMetadata.map(describeValue);
      const outputs = session.outputMetadata.map(describeValue);
      this.#sessions.set(name, {
        session,
        inputs: new Map(inputs.map((input) => [input.name, input.datatype])),
        outputs: new Map(outputs.map((output) => [output.name, output.datatype])),
      });
      return { placement, inputs, outputs };
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  async unload(name: string): Promise<void> {
    const { session } = this.#session(name);
    this.#sessions.delete(name);
    await session.release();
  }

  program(): Promise<void> {
    return Promise.reject(new Failure('invalid_request', 'never', 'this engine runs graphs, not programs'));
  }

  bind({ session: name, inputs: heads, outputs: wanted }: Step, body: Bytes): BoundStep {
    const { session, inputs, outputs } = this.#session(name);
    const feeds = this.#feed(inputs, heads, body);
    for (const output of wanted) {
      if (!outputs.has(output)) throw new Failure('invalid_request', 'never', `the model has no output "${output}"`);
    }
    return {
      run: async () => {
        const results = await (wanted.length === 0 ? session.run(feeds) : session.run(feeds, wanted));
        await this.#readBack(results);
        return { outputs: () => encodeResults(results) };
      },
    };
  }

  #feed(inputs: Session['inputs'], heads: readonly TensorHead[], body: Bytes): Record<string, Ort.Tensor> {
    checkBodyLength(heads, body);
    const feeds: Record<string, Ort.Tensor> = {};
    let start = 0;
    for (const head of heads) {
      const fault = faultOf(head, inputs.get(head.name), feeds);
      if (fault !== null) throw new Failure('invalid_request', 'never', `tensor "${head.name}" ${fault}`);
      feeds[head.name] = this.#tensor(head, decodeTensor(head, body, start));
      start += head.byteLength;
    }
    for (const name of inputs.keys()) {
      if (!Object.hasOwn(feeds, name)) throw new Failure('invalid_request', 'never', `input "${name}" is missing`);
    }
    return feeds;
  }

  #tensor(head: TensorHead, values: TensorValues): Ort.Tensor {
    const type = ORT_TYPES[head.datatype as Datatype];
    return new this.ort.Tensor(type, values, head.shape);
  }

  async #readBack(results: Ort.InferenceSession.OnnxValueMapType): Promise<void> {
    for (const name in results) {
      const tensor = results[name];
      if (tensor !== undefined && tensor.location !== 'cpu') await tensor.getData(true);
    }
    const error = this.gpuError;
    if (error === null) return;
    this.gpuError = null;
    const code = error instanceof GPUOutOfMemoryError ? 'out_of_memory' : 'internal';
    throw new Failure(code, 'elsewhere', `WebGPU reported: ${error.message}`);
  }

  #session(name: string): Session {
    const session = this.#sessions.get(name);
    if (session === undefined) throw new Failure('model_not_ready', 'same', `session "${name}" is not loaded`);
    return session;
  }

  async #create(model: ModelFiles, freeDimensions: Readonly<Record<string, number>>): Promise<Placed> {
    const told = await this.#openTelling(model, freeDimensions);
    if (this.backend !== 'webgpu') return told;
    // The WebGPU provider logs each kernel of each run at its session's severity, so a quiet one takes over.
    // It comes when the first has gone: there may be no room for the weights of both.
    await told.session.release();
    return { session: await this.#open(model, freeDimensions, WARNING), placement: told.placement };
  }

  /** Creates a session and reads its node placement from the log of its creation. */
  async #openTelling(model: ModelFiles, freeDimensions: Readonly<Record<string, number>>): Promise<Placed> {
    const { outcome: session, lines } = await this.#tap.record(() => this.#open(model, freeDimensions, VERBOSE));
    try {
      return { session, placement: parsePlacement(lines, this.backend) };
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  #open(
    model: ModelFiles,
    freeDimensions: Readonly<Record<string, number>>,
    logSeverityLevel: typeof VERBOSE | typeof WARNING,
  ): Promise<Ort.InferenceSession> {
    const [own, ...beside] = model.files;
    const graph = model.graph ?? own?.data;
    if (graph === undefined) throw new Failure('invalid_request', 'never', 'the load names no file');
    const weights = model.graph === null ? beside : model.files;
    return this.ort.InferenceSession.create(graph, {
      externalData: weights.map(({ digest, data }) => ({ path: digest, data })),
      executionProviders: [this.hardware.provider],
      freeDimensionOverrides: freeDimensions,
      logSeverityLevel,
    });
  }
}

function faultOf({ name, datatype }: TensorHead, wanted: string | undefined, feeds: object): string | null {
  if (wanted === undefined) return 'is no input of the model';
  if (Object.hasOwn(feeds, name)) return 'came twice';
  return datatype === wanted ? null : `is ${datatype} instead of ${wanted}`;
}

function describeValue(value: Ort.InferenceSession.ValueMetadata): TensorDescription & { datatype: Datatype } {
  const datatype = value.isTensor ? DATATYPE_OF.get(value.type) : undefined;
  if (!value.isTensor || datatype === undefined) {
    const what = value.isTensor ? value.type : 'not a tensor';
    throw new Failure('invalid_request', 'never', `the model's "${value.name}" is ${what}, which no request can hold`);
  }
  const shape = value.shape.map((size) => (typeof size === 'number' && size > LARGEST_DIMENSION ? -1 : size));
  return { name: value.name, datatype, shape };
}

function encodeResults(results: Ort.InferenceSession.OnnxValueMapType): OutputTensor[] {
  return Object.entries(results).map(([name, { type, dims, data }]) => {
    const datatype = DATATYPE_OF.get(type);
    if (datatype === undefined) throw new Failure('internal', 'elsewhere', `output "${name}" is ${type}`);
    return { name, datatype, shape: dims, bytes: encodeTensor(data as TensorValues) };
  });
}
