/**
 * The bound of the throughput and cold-start measurements: the engine alone, in a Worker, told only when to run.
 * A binary message holds one set of inputs in the frame layout of `docs/protocol.md`.
 * A text message orders so many `runs`, or runs `for_ms` milliseconds, and is answered with how many there were, the
 * microseconds that they took and the last run's first output.
 */

const options = new URLSearchParams(location.search);
const sets = [];

const socket = new WebSocket(`ws://${location.host}/link/loop`);
socket.binaryType = 'arraybuffer';
socket.onmessage = async ({ data }) => {
  if (typeof data !== 'string') {
    sets.push(readInputs(data));
    return;
  }
  try {
    const { ort, session } = await engine;
    socket.send(JSON.stringify(await repeat(ort, session, JSON.parse(data))));
  } catch (error) {
    socket.send(JSON.stringify({ error: String(error) }));
  }
};
const engine = start();

async function start() {
  const ort = await import(options.get('module'));
  ort.env.wasm.numThreads = Number(options.get('threads'));
  ort.env.wasm.wasmPaths = { wasm: options.get('wasm') };
  const model = await (await fetch(options.get('model'))).arrayBuffer();
  const session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ['wasm'] });
  return { ort, session };
}

async function repeat(ort, session, { runs = Infinity, for_ms: time = Infinity }) {
  let first = null;
  let count = 0;
  const started = performance.now();
  while (count < runs && performance.now() - started < time) {
    const feeds = {};
    for (const { name, type, shape, values } of sets[count % sets.length]) {
      feeds[name] = new ort.Tensor(type, values, shape);
    }
    const results = await session.run(feeds);
    for (const name of session.outputNames) {
      const { data } = results[name];
      if (name === session.outputNames[0]) first = data;
    }
    count += 1;
  }
  const took_us = Math.round((performance.now() - started) * 1000);
  return { count, took_us, output: Array.from(first) };
}
