/**
 * A model that any backend must be able to run: y = x + x over four floats.
 * It owns the model's bytes and the expected answer.
 */

import type { Bytes } from '../../protocol/frame.ts';

export const TRIAL_INPUT = [0.5, -1, 2, 3];
export const TRIAL_OUTPUT = [1, -2, 4, 6];

/** A tensor's name and its type, float[4], as an ONNX `ValueInfoProto`. */
function floats(name: string): number[] {
  return [0x0a, 1, name.charCodeAt(0), 0x12, 10, 0x0a, 8, 0x08, 1, 0x12, 4, 0x0a, 2, 0x08, 4];
}

/** The ONNX model: IR version 8, opset 13, one `Add`. */
export function trialModel(): Bytes {
  const add = [0x0a, 1, 0x78, 0x0a, 1, 0x78, 0x12, 1, 0x79, 0x22, 3, 0x41, 0x64, 0x64];
  const graph = [
    ...[0x0a, add.length, ...add],
    ...[0x12, 1, 0x74],
    ...[0x5a, floats('x').length, ...floats('x')],
    ...[0x62, floats('y').length, ...floats('y')],
  ];
  return Uint8Array.from([0x08, 8, 0x42, 2, 0x10, 13, 0x3a, graph.length, ...graph]);
}
