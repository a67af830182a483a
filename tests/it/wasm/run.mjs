/**
 * Runs programs in the page's module, by the page's own code, in Node: cases come as JSON on standard input.
 * Prints for each its outputs' words, or what it failed with.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

const HARNESS = path.join(import.meta.dirname, '..', '..', '..', 'web-harness');
const ASSETS = path.join(HARNESS, 'dist', 'assets');

const { build } = createRequire(path.join(HARNESS, 'build.mjs'))('esbuild');
const entryPoints = [path.join(HARNESS, 'harness', 'engines', 'weft', 'wasm.ts')];
const { outputFiles } = await build({ entryPoints, bundle: true, format: 'esm', write: false });
const { WasmExecutor } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);

const manifest = JSON.parse(readFileSync(path.join(ASSETS, 'manifest.json'), 'utf8'));
const module = new WebAssembly.Module(gunzipSync(readFileSync(path.join(ASSETS, `${manifest.kernels}.gz`))));

const bytes = (text) => Uint8Array.from(Buffer.from(text, 'base64'));

const { files, cases } = JSON.parse(readFileSync(0, 'utf8'));
const executor = new WasmExecutor(module, 2 ** 31);
// All cases share one memory, as a model's programs do.
const session = executor.open(new Map(Object.entries(files).map(([name, text]) => [name, bytes(text)])));
const answers = [];
for (const { program, block, inputs } of cases) {
  const runnable = await session.add(program, bytes(block));
  const words = Object.entries(inputs).map(([name, { float, data }]) => {
    const { buffer } = bytes(data);
    return [name, float ? new Float32Array(buffer) : new Int32Array(buffer)];
  });
  try {
    const outputs = await runnable.run(new Map(words), runnable.outputs.map((_, i) => i));
    answers.push({ outputs: outputs.map((output) => Buffer.from(output).toString('base64')) });
  } catch (error) {
    answers.push({ error: error.message });
  }
  runnable.end();
}
process.stdout.write(JSON.stringify(answers));
