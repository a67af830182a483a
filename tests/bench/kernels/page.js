/**
 * Products in a Worker of the page: onnxruntime-web's and our kernels' take turns, each sample some calls.
 * The task comes from `/task`, what was measured goes to `/samples`.
 */

import { WasmExecutor } from '../../../web-harness/harness/engines/weft/wasm.ts';
import { hasRelaxedSimd } from '../../../web-harness/harness/probe.ts';

/** A sample's calls take some milliseconds, of which clocks are sure. */
const SAMPLE_MS = 5;

const utf8 = new TextEncoder();

function varint(value) {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}

function joined(...parts) {
  const bytes = parts.map((part) => (typeof part === 'string' ? utf8.encode(part) : part));
  const whole = new Uint8Array(bytes.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of bytes) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Fields of ONNX's messages: a number, and what has a length. */
const number = (field, value) => joined(varint(field * 8), varint(value));
const field = (number_, ...parts) => {
  const bytes = joined(...parts);
  return joined(varint(number_ * 8 + 2), varint(bytes.length), bytes);
};

const FLOAT = 1;
const BYTES = 2;

const tensor = (name, shape, type, data) =>
  joined(...shape.map((size) => number(1, size)), number(2, type), field(8, name), field(9, data));
const port = (name, shape) => {
  const sizes = shape.map((size) => field(1, number(1, size)));
  return joined(field(1, name), field(2, field(1, number(1, FLOAT), field(2, ...sizes))));
};
const attribute = (name, value) => field(5, field(1, name), number(3, value), number(20, 2));

function model(node, weights, [m, k, n]) {
  const ports = [field(11, port('a', [m, k])), field(12, port('y', [m, n]))];
  const graph = field(7, field(1, node), field(2, 'g'), ...weights.map((weight) => field(5, weight)), ...ports);
  const opsets = [field(8, field(1, ''), number(2, 17)), field(8, field(1, 'com.microsoft'), number(2, 1))];
  return joined(number(1, 8), ...opsets, graph);
}

const named = (inputs, operator) => joined(...inputs.map((name) => field(1, name)), field(2, 'y'), field(4, operator));

function floats([m, k, n], weights) {
  return model(named(['a', 'b'], 'MatMul'), [tensor('b', [k, n], FLOAT, weights)], [m, k, n]);
}

function fourBits([m, k, n], block, numbers, scales) {
  const sizes = { K: k, N: n, bits: 4, block_size: block };
  const attributes = Object.entries(sizes).map(([name, value]) => attribute(name, value));
  const node = joined(named(['a', 'q', 's'], 'MatMulNBits'), ...attributes, field(7, 'com.microsoft'));
  const weights = [tensor('q', [n, k / block, block / 2], BYTES, numbers), tensor('s', [(n * k) / block], FLOAT, scales)];
  return model(node, weights, [m, k, n]);
}

const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function openTheirs(ort, bytes, input, [m, k]) {
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] });
  const feeds = { a: new ort.Tensor('float32', input, [m, k]) };
  return async () => (await session.run(feeds)).y.data;
}

async function openOurs(executor, files, { program, block }, input) {
  const runnable = await executor.open(files).add(program, decoded(block));
  const inputs = new Map([['a', input]]);
  return async () => {
    const { buffer, byteOffset, length } = (await runnable.run(inputs, [0]))[0];
    return new Float32Array(buffer, byteOffset, length / 4);
  };
}

async function callsOf(run) {
  for (let i = 0; i < 3; i += 1) await run();
  const started = performance.now();
  let calls = 0;
  while (performance.now() - started < 10 * SAMPLE_MS) {
    await run();
    calls += 1;
  }
  return Math.max(1, Math.round(calls / 10));
}

async function sample(run, calls) {
  const started = performance.now();
  for (let i = 0; i < calls; i += 1) await run();
  return (performance.now() - started) / calls;
}

/** The largest difference from what is right, by the mean size of that. */
function error(found, right) {
  const mean = right.reduce((sum, value) => sum + Math.abs(value), 0) / right.length;
  return right.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0) / mean;
}

async function contest({ m, k, n, block, cases }, { ort, executor, files }, rounds) {
  const input = Float32Array.from({ length: m * k }, (_, i) => Math.sin(i * i));
  const shape = [m, k, n];
  const runs = [
    ['onnxruntime-web fp32', await openTheirs(ort, floats(shape, files.get('floats')), input, shape)],
    ['onnxruntime-web 4 bits', await openTheirs(ort, fourBits(shape, block, files.get('four'), files.get('four scales')), input, shape)],
  ];
  for (const one of cases) runs.push([one.name, await openOurs(executor, files, one, input)]);
  const results = new Map();
  for (const [name, run] of runs) results.set(name, (await run()).slice());
  const series = [];
  for (const [name, run] of runs) series.push({ m, name, run, calls: await callsOf(run), ms: [] });
  for (let round = 0; round < rounds; round += 1) {
    for (const one of series) one.ms.push(await sample(one.run, one.calls));
  }
  const errors = {
    fp32: error(results.get('fp32'), results.get('onnxruntime-web fp32')),
    '4 bits': error(results.get('4 bits'), results.get('onnxruntime-web 4 bits')),
  };
  return { series: series.map(({ name, calls, ms }) => ({ m, name, calls, ms })), errors };
}

async function measure() {
  const task = await (await fetch('/task')).json();
  const ort = await import(task.engine.module);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: task.engine.wasm };
  const relaxed = hasRelaxedSimd();
  const module = await WebAssembly.compileStreaming(fetch(relaxed ? task.kernels.relaxed : task.kernels.plain));
  const files = new Map(Object.entries(task.files).map(([name, text]) => [name, decoded(text)]));
  const executor = new WasmExecutor(module, 2 ** 30);
  const found = { browser: navigator.userAgent, relaxed, series: [], errors: [] };
  for (const products of task.products) {
    const { series, errors } = await contest(products, { ort, executor, files }, task.rounds);
    found.series.push(...series);
    found.errors.push({ m: products.m, ...errors });
  }
  return found;
}

const found = await measure().catch((problem) => ({ problem: String(problem?.stack ?? problem) }));
await fetch('/samples', { method: 'POST', body: JSON.stringify(found) });
