/**
 * Compiles the page's own kernels: C without a library, by the compiler that setup has put into the cache.
 * One module for every browser, and one for those with relaxed SIMD.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';

const HERE = import.meta.dirname;
const LOCK = path.join(HERE, '..', '..', '.setup', 'zig.txt');

const FEATURES = ['simd128', 'nontrapping_fptoint', 'sign_ext', 'bulk_memory'];

/** The stack holds the blocks that kernels work on. `src/kernels/wasm/memory.rs` says where a program's memory begins. */
const STACK_BYTES = 256 * 1024;

function compilers() {
  const { WEFT_CACHE, XDG_CACHE_HOME } = process.env;
  return path.join(WEFT_CACHE ?? path.join(XDG_CACHE_HOME ?? path.join(homedir(), '.cache'), 'weft'), 'zig');
}

/** The module's bytes. */
export function buildKernels({ relaxed }) {
  const version = /^ziglang==(\S+)/m.exec(readFileSync(LOCK, 'utf8'))[1];
  const scratch = mkdtempSync(path.join(tmpdir(), 'weft-kernels-'));
  try {
    const file = path.join(scratch, 'kernels.wasm');
    const features = relaxed ? [...FEATURES, 'relaxed_simd'] : FEATURES;
    const sources = readdirSync(HERE).filter((name) => name.endsWith('.c')).sort();
    const compile = ['cc', '-target', 'wasm32-freestanding', `-mcpu=generic+${features.join('+')}`, '-O3'];
    const language = ['-std=c17', '-ffreestanding', '-nostdlib', '-fno-sanitize=undefined', '-Wall', '-Wextra', '-Werror'];
    const link = ['--no-entry', '--import-memory', '--strip-all', '--export=__heap_base', '-z', `stack-size=${STACK_BYTES}`];
    const linking = link.map((option) => `-Wl,${option}`);
    const zig = path.join(compilers(), version, 'zig');
    const caches = path.join(compilers(), 'cache');
    execFileSync(zig, [...compile, ...language, ...linking, '-o', file, ...sources], {
      cwd: HERE,
      env: { ...process.env, ZIG_GLOBAL_CACHE_DIR: caches, ZIG_LOCAL_CACHE_DIR: caches },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    return readFileSync(file);
  } catch (error) {
    throw error.code === 'ENOENT' ? new Error(`Zig ${version} is missing: python3 .setup/zig.py`) : error;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}
