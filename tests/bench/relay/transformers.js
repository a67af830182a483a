/**
 * What a page has without weft: transformers.js with the engine that it brings, in a Worker, told only when to run.
 * It is asked and answers as `loop.js` is and does.
 */

const options = new URLSearchParams(location.search);
const { AutoModel, Tensor, env } = await import(options.get('module'));

const sets = [];

env.allowLocalModels = true;
env.allowRemoteModels = false;
env.localModelPath = '/hf/';
env.useBrowserCache = false;
env.backends.onnx.wasm.numThreads = Number(options.get('threads'));
env.backends.onnx.wasm.wasmPaths = options.get('wasm');

// It knows the model by its files alone.
const config = { model_type: 'custom' };
const loading = AutoModel.from_pretrained(options.get('model'), { config, dtype: 'fp32', device: 'wasm', local_files_only: true });

const socket = new WebSocket(`ws://${location.host}/link/loop`);
socket.binaryType = 'arraybuffer';
socket.onmessage = async ({ data }) => {
  if (typeof data !== 'string') {
    sets.push(readInputs(data));
    return;
  }
  try {
    socket.send(JSON.stringify(await repeat(await loading, JSON.parse(data))));
  } catch (error) {
    socket.send(JSON.stringify({ error: String(error?.stack ?? error) }));
  }
};

async function repeat(model, { runs }) {
  let first = null;
  const started = performance.now();
  for (let run = 0; run < runs; run += 1) {
    const feeds = {};
    for (const { name, type, shape, values } of sets[run % sets.length]) feeds[name] = new Tensor(type, values, shape);
    const outputs = await model(feeds);
    for (const output of Object.values(outputs)) first ??= output.data;
    if (run + 1 < runs) first = null;
  }
  const took_us = Math.round((performance.now() - started) * 1000);
  return { count: runs, took_us, output: Array.from(first) };
}
