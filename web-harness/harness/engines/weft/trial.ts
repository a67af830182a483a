/**
 * Programs that any host must be able to run: y = x + x over four floats.
 * It owns the programs and leaves what they must answer to the library's trial.
 */

import type { Bytes } from '../../../protocol/frame.ts';
import { TRIAL_INPUT } from '../trial.ts';
import type { GpuProgram } from './program.ts';
import type { WasmProgram } from './wasm.ts';

const DOUBLE = `
struct Sizes { len: u32 }
@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < sizes.len) { y[id.x] = x[id.x] + x[id.x]; }
}
`;

const LENGTH = TRIAL_INPUT.length;

/** One block of uniforms. */
const UNIFORM_BYTES = 16;

const port = (name: string, buffer: number): GpuProgram['inputs'][number] => {
  return { name, datatype: 'FP32', shape: [LENGTH], buffer };
};

export const GPU_TRIAL: GpuProgram = {
  buffers: [4 * LENGTH, 4 * LENGTH, 4],
  fills: [],
  kept: null,
  inputs: [port('x', 0)],
  outputs: [port('y', 1)],
  modules: [DOUBLE],
  pipelines: [{ module: 0, entry: 'main', constants: {} }],
  uniforms: UNIFORM_BYTES,
  once: [],
  calls: [{ pipeline: 0, uniform: 0, uniform_bytes: UNIFORM_BYTES, buffers: [0, 1], groups: [1, 1, 1] }],
  fault: 2,
};

export function gpuTrialBlock(): Bytes {
  const block = new Uint8Array(UNIFORM_BYTES);
  new DataView(block.buffer).setUint32(0, LENGTH, true);
  return block;
}

/** Behind what the module keeps for itself. */
const WASM_X = 320 * 1024;
const WASM_Y = WASM_X + 64;
const WASM_RECORDS = WASM_Y + 64;

/** A map as `web-harness/kernels/abi.h` has it: its head, itself, its input, its instruction. */
const STRIDES = [1, 0, 0, 0, 0, 0];
const MAP = [WASM_Y, 1, ...[LENGTH, 1, 1, 1, 1, 1], ...STRIDES, 1, 0, 1, 1];
const INPUT = [WASM_X, ...STRIDES];

/** The sum of floats, of register 0 and itself, into register 1. */
const SUM = [128, 1];
const RECORD = [0, MAP.length + INPUT.length + SUM.length, 1, ...MAP, ...INPUT, ...SUM];

export const WASM_TRIAL: WasmProgram = {
  memory: WASM_RECORDS + 4 * RECORD.length,
  records: { address: WASM_RECORDS, bytes: 4 * RECORD.length },
  shared: [],
  own: [],
  inputs: [{ name: 'x', datatype: 'FP32', shape: [LENGTH], address: WASM_X }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [LENGTH], address: WASM_Y }],
  kept: null,
  calls: { address: WASM_RECORDS, count: 1 },
};

export function wasmTrialBlock(): Bytes {
  return new Uint8Array(Int32Array.from(RECORD).buffer);
}
