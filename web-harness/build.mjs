/**
 * Builds `dist/`: the page's template, and the assets under names that hold their content's digest.
 * Assets are stored compressed alone; the daemon serves them as `Content-Encoding: gzip`.
 * The report is one file with a place for its numbers; the dashboard is a page with a script and a style.
 */

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { buildKernels } from './kernels/build.mjs';

const HERE = import.meta.dirname;
const DIST = path.join(HERE, 'dist');
const ENGINE = path.dirname(createRequire(import.meta.url).resolve('onnxruntime-web'));

const SWAGGER = path.dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));

/** Where the daemon serves the assets; ECMAScript that the supported browsers all run. */
const PUBLIC_PATH = '/harness/assets/';
const TARGET = 'es2022';

/** Enough of the digest that two contents never share a name. */
const DIGEST_LENGTH = 16;

const manifest = {};

/** Stores one asset under its hashed name and answers its address. */
function store(logicalName, fileName, bytes) {
  const digest = createHash('sha256').update(bytes).digest('hex').slice(0, DIGEST_LENGTH);
  const { name, ext } = path.parse(fileName);
  const hashed = `${name}.${digest}${ext}`;
  writeFileSync(path.join(DIST, 'assets', `${hashed}.gz`), gzipSync(bytes, { level: 9 }));
  manifest[logicalName] = hashed;
  return PUBLIC_PATH + hashed;
}

function storeEngine(logicalName, moduleName, wasmName) {
  const read = (name) => readFileSync(path.join(ENGINE, name));
  return {
    module: store(`${logicalName}-js`, moduleName, withoutSourceMap(read(moduleName))),
    wasm: store(logicalName, wasmName, read(wasmName)),
    wasmName,
  };
}

/** The module of our own kernels, for every browser and for those with relaxed SIMD. */
function storeKernels() {
  const built = (name, relaxed) => store(name, `${name}.wasm`, buildKernels({ relaxed }));
  return { plain: built('kernels', false), relaxed: built('kernels-relaxed', true) };
}

/** The source map is not served, so nothing may ask for it. */
function withoutSourceMap(module) {
  return Buffer.from(module.toString('utf8').replace(/\n?\/\/# sourceMappingURL=\S+\s*$/, '\n'));
}

/** Stores a file of the API's page, which is served under its own name. */
function storeForDocs(name, bytes) {
  writeFileSync(path.join(DIST, 'docs', `${name}.gz`), gzipSync(bytes, { level: 9 }));
}

async function bundle(entry, define, format = 'esm') {
  const { outputFiles } = await build({
    entryPoints: [path.join(HERE, entry)],
    bundle: true,
    minify: true,
    format,
    target: TARGET,
    write: false,
    legalComments: 'none',
    define: Object.fromEntries(Object.entries(define).map(([name, value]) => [name, JSON.stringify(value)])),
  });
  return outputFiles[0].contents;
}

/** The report's page: its script and style stand in it, and its policy allows that script and no network. */
async function storeReport() {
  const text = async (entry) => Buffer.from(await bundle(entry, {}, 'iife')).toString('utf8');
  const [script, style] = await Promise.all(['report/main.ts', 'report/style.css'].map(text));
  if (/<\/script|<!--/i.test(script) || /<\/style/i.test(style)) {
    throw new Error('the script or the style of the report would end its element');
  }
  const policy = [
    "default-src 'none'",
    `script-src 'sha256-${createHash('sha256').update(script).digest('base64')}'`,
    // The charts' own; of pictures, those that the page makes itself.
    "style-src 'unsafe-inline'",
    'img-src data: blob:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  const parts = { POLICY: policy, STYLE: style, SCRIPT: script };
  const page = readFileSync(path.join(HERE, 'report', 'index.html'), 'utf8');
  const filled = page.replace(/\{\{(POLICY|STYLE|SCRIPT)\}\}/g, (_, name) => parts[name]);
  writeFileSync(path.join(DIST, 'report', 'index.html'), filled);
}

/** The dashboard's page, and its script and style under names that hold their content's digest. */
async function storeDashboard() {
  const store = async (entry, name, ext) => {
    const bytes = await bundle(entry, {});
    const digest = createHash('sha256').update(bytes).digest('hex').slice(0, DIGEST_LENGTH);
    const hashed = `${name}.${digest}.${ext}`;
    writeFileSync(path.join(DIST, 'dashboard', `${hashed}.gz`), gzipSync(bytes, { level: 9 }));
    return `/dashboard/${hashed}`;
  };
  const [SCRIPT, STYLE] = await Promise.all([
    store('dashboard/main.ts', 'dashboard', 'js'),
    store('dashboard/style.css', 'style', 'css'),
  ]);
  const page = readFileSync(path.join(HERE, 'dashboard', 'index.html'), 'utf8');
  const filled = page.replace(/\{\{(SCRIPT|STYLE)\}\}/g, (_, name) => ({ SCRIPT, STYLE })[name]);
  writeFileSync(path.join(DIST, 'dashboard', 'index.html'), filled);
}

rmSync(DIST, { recursive: true, force: true });
mkdirSync(path.join(DIST, 'assets'), { recursive: true });
mkdirSync(path.join(DIST, 'dashboard'));
mkdirSync(path.join(DIST, 'docs'));
mkdirSync(path.join(DIST, 'report'));
const engineAssets = {
  plain: storeEngine('ort-wasm', 'ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm'),
  jspi: storeEngine('ort-jspi', 'ort.jspi.bundle.min.mjs', 'ort-wasm-simd-threaded.jspi.wasm'),
  kernels: storeKernels(),
};
const lane = store('lane', 'lane.js', await bundle('harness/lane.ts', {}));
const page = store('page', 'page.js', await bundle('harness/boot.ts', { LANE_URL: lane, ENGINE_ASSETS: engineAssets }));
const template = readFileSync(path.join(HERE, 'harness', 'index.html'), 'utf8');
writeFileSync(path.join(DIST, 'index.html'), template.replace('{{PAGE}}', page));
writeFileSync(path.join(DIST, 'assets', 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
storeForDocs('docs.js', await bundle('docs/page.js', {}));
storeForDocs('docs.css', readFileSync(path.join(SWAGGER, 'swagger-ui.css')));
await storeReport();
await storeDashboard();
