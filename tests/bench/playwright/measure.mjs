/**
 * What a user would do without weft: a browser steered by Playwright, the engine in its page, `page.evaluate` per
 * request. Prints one JSON object: the browser's version, and for every request its total and the part that the engine
 * took, in microseconds. The task comes as JSON on standard input.
 */

import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const task = JSON.parse(readFileSync(0, 'utf8'));
const { executable, site, requests, warm_up: warmUp, inputs } = task;

const browser = await chromium.launch({ executablePath: executable, chromiumSandbox: task.sandbox });
try {
  const page = await browser.newPage();
  await page.goto(`${site}/blank`);
  await page.evaluate(start, task);
  const samples = [];
  for (let request = 0; request < warmUp + requests; request += 1) {
    const feeds = inputs[request % inputs.length];
    const started = performance.now();
    const { compute } = await page.evaluate(infer, feeds);
    const total = performance.now() - started;
    if (request >= warmUp) samples.push([micros(total), micros(compute)]);
  }
  console.log(JSON.stringify({ browser_version: browser.version(), samples }));
} finally {
  await browser.close();
}

function micros(milliseconds) {
  return Math.round(milliseconds * 1000);
}

/** Runs in the page. */
async function start({ module, wasm, model, threads }) {
  const ort = await import(module);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { wasm };
  const bytes = new Uint8Array(await (await fetch(model)).arrayBuffer());
  globalThis.engine = { ort, session: await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] }) };
}

/** Runs in the page: numbers come as JSON and go as JSON, which is what `evaluate` carries. */
async function infer(feeds) {
  const { ort, session } = globalThis.engine;
  const tensors = {};
  for (const [name, { datatype, shape, data }] of Object.entries(feeds)) {
    tensors[name] =
      datatype === 'INT64'
        ? new ort.Tensor('int64', BigInt64Array.from(data, BigInt), shape)
        : new ort.Tensor('float32', Float32Array.from(data), shape);
  }
  const started = performance.now();
  const results = await session.run(tensors);
  const compute = performance.now() - started;
  const outputs = {};
  for (const name of session.outputNames) outputs[name] = Array.from(results[name].data);
  return { outputs, compute };
}
