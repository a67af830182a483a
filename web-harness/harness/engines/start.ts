/**
 * Which engine a lane's backend is.
 * It owns the choice and nothing of what engines do.
 */

import type { LaneStart } from '../laneworker.ts';
import type { StartedEngine } from './engine.ts';
import { type EngineAssets, startOnnxRuntime } from './onnxruntime.ts';
import { type KernelModules, startWeftWasm, startWeftWgsl } from './weft.ts';

/** The built files of all engines, as the page's server names them. */
export interface Assets extends EngineAssets {
  readonly kernels: KernelModules;
}

/** Starts the engine and proves it; `died` is called when it cannot go on. */
export function startEngine(start: LaneStart, died: (reason: string) => void): Promise<StartedEngine> {
  const { backend, threads, webnnDevice, memoryMax, assets } = start;
  if (backend === 'weft-wgsl') return startWeftWgsl(memoryMax, died);
  if (backend === 'weft-wasm') return startWeftWasm(assets.kernels, memoryMax);
  return startOnnxRuntime(assets, { backend, threads, webnnDevice, memoryMax }, died);
}
