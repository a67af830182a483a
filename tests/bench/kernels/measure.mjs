/**
 * Has a browser measure products in its page, and prints what it found as JSON.
 * The task comes as JSON on standard input; a browser that is not there is told as `missing`.
 */

import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';

const HARNESS = path.join(import.meta.dirname, '..', '..', '..', 'web-harness');
const ASSETS = path.join(HARNESS, 'dist', 'assets');
const MEASURED_WITHIN_MS = 300_000;

const PAGE = '<!doctype html><title>kernels</title><script>new Worker("/worker.js", { type: "module" })</script>';

const HEADERS = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
};

const CHROMIUM = ['--headless=new', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Where each browser may be, and how it is told to open a page with a profile of its own. */
const BROWSERS = {
  chromium: [['chromium', 'chromium-browser'], (url, folder) => [...CHROMIUM, ...sandbox(), `--user-data-dir=${folder}`, url]],
  firefox: [['firefox-esr', 'firefox'], (url, folder) => ['--headless', '--no-remote', '--profile', folder, url]],
  webkitgtk: [['MiniBrowser'], (url) => [url]],
};

/** WebKitGTK's browser lies beside the library. */
const LIBRARIES = '/usr/lib';

function sandbox() {
  return process.getuid() === 0 ? ['--no-sandbox'] : [];
}

function below(folder) {
  try {
    return readdirSync(folder).map((name) => path.join(folder, name));
  } catch {
    return [];
  }
}

function found(names) {
  const libraries = below(LIBRARIES).flatMap(below).filter((folder) => /^webkit2gtk-4/.test(path.basename(folder)));
  const folders = [...process.env.PATH.split(':'), ...libraries];
  const files = names.flatMap((name) => folders.map((folder) => path.join(folder, name)));
  return files.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function files(task) {
  const manifest = JSON.parse(readFileSync(path.join(ASSETS, 'manifest.json'), 'utf8'));
  const { build } = createRequire(path.join(HARNESS, 'build.mjs'))('esbuild');
  const entryPoints = [path.join(import.meta.dirname, 'page.js')];
  const { outputFiles } = await build({ entryPoints, bundle: true, format: 'esm', target: 'es2022', write: false });
  const at = (name) => `/assets/${manifest[name]}`;
  const engine = { module: at('ort-wasm-js'), wasm: at('ort-wasm') };
  const kernels = { plain: at('kernels'), relaxed: at('kernels-relaxed') };
  return {
    '/': ['text/html', PAGE],
    '/worker.js': ['text/javascript', outputFiles[0].contents],
    '/task': ['application/json', JSON.stringify({ ...task, engine, kernels })],
  };
}

function serve(served, measured) {
  const server = createServer((request, response) => {
    if (request.method === 'POST') {
      let text = '';
      request.on('data', (part) => (text += part));
      request.on('end', () => {
        response.end();
        measured(JSON.parse(text));
      });
      return;
    }
    if (request.url.startsWith('/assets/')) {
      const type = request.url.endsWith('.wasm') ? 'application/wasm' : 'text/javascript';
      response.writeHead(200, { ...HEADERS, 'content-type': type, 'content-encoding': 'gzip' });
      response.end(readFileSync(path.join(ASSETS, `${path.basename(request.url)}.gz`)));
      return;
    }
    const [type, body] = served[request.url] ?? [null, null];
    response.writeHead(type === null ? 404 : 200, { ...HEADERS, 'content-type': type ?? 'text/plain' });
    response.end(body);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

async function measure(task) {
  const [names, commandLine] = BROWSERS[task.browser];
  const program = found(names);
  const display = task.browser === 'webkitgtk' ? found(['xvfb-run']) : null;
  if (program === undefined || display === undefined) return { missing: `${task.browser} is not there` };
  let measured, failed;
  const promise = new Promise((resolve, reject) => ([measured, failed] = [resolve, reject]));
  const server = await serve(await files(task), measured);
  const folder = mkdtempSync(path.join(tmpdir(), 'weft-kernels-'));
  const options = commandLine(`http://127.0.0.1:${server.address().port}/`, folder);
  const command = display === null ? [program, options] : [display, ['-a', program, ...options]];
  const child = spawn(...command, { detached: true, stdio: 'ignore', env: { ...process.env, HOME: folder } });
  const late = setTimeout(() => failed(new Error(`${task.browser} measured nothing in time`)), MEASURED_WITHIN_MS);
  child.on('exit', (code) => failed(new Error(`${task.browser} ended with ${code}`)));
  try {
    return await promise;
  } finally {
    clearTimeout(late);
    child.removeAllListeners('exit');
    // The browser's processes are a group of their own.
    process.kill(-child.pid, 'SIGKILL');
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

process.stdout.write(JSON.stringify(await measure(JSON.parse(readFileSync(0, 'utf8')))));
