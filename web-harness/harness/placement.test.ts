import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parsePlacement } from './placement.ts';

/** Logs of onnxruntime-web 1.30.0, captured in Chromium while a session was created. */
function captured(name: string): string[] {
  return readFileSync(new URL(`testdata/${name}.log`, import.meta.url), 'utf8').split('\n');
}

const HEADING = '2026-11-23 17:07:38.4 [V:onnxruntime:, session_state.cc:1377 VerifyEachNodeIsAssignedToAnEp] Node placements';

function line(text: string): string {
  return `2026-11-23 17:07:38.4 [V:onnxruntime:, session_state.cc:1383 VerifyEachNodeIsAssignedToAnEp] ${text}`;
}

describe('parsePlacement', () => {
  it.each([
    ['placement-wasm-silero', 'wasm', { wasm: 108 }],
    ['placement-webgpu-magika', 'webgpu', { cpu: 2, webgpu: 97 }],
    ['placement-webnn-magika', 'webnn', { webnn: 6, cpu: 84 }],
    ['placement-webnn-magika-fixed', 'webnn', { webnn: 4, cpu: 1 }],
  ] as const)('reads the captured log %s', (name, backend, placement) => {
    expect(parsePlacement(captured(name), backend)).toEqual(placement);
  });

  it('names the CPU provider after the backend', () => {
    const lines = [HEADING, line(' All nodes placed on [CPUExecutionProvider]. Number of nodes: 3')];
    expect(parsePlacement(lines, 'wasm')).toEqual({ wasm: 3 });
    expect(parsePlacement(lines, 'webgpu')).toEqual({ cpu: 3 });
  });

  it('takes a graph without nodes as it is', () => {
    expect(parsePlacement([HEADING], 'wasm')).toEqual({});
  });

  it.each([
    ['an empty log', []],
    ['a log of another severity', ['[I:onnxruntime:, inference_session.cc:1 Initialize] Session successfully initialized.']],
    ['two sessions in one log', [HEADING, HEADING]],
    ['an unknown provider', [HEADING, line(' All nodes placed on [XnnpackExecutionProvider]. Number of nodes: 3')]],
    ['a group that lists fewer nodes', [HEADING, line(' Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2'), line('  Add (a)')]],
    ['a node before any group', [HEADING, line('  Add (a)')]],
    ['a sentence that it does not know', [HEADING, line(' Nodes: CPUExecutionProvider 3')]],
    [
      'a provider that is stated twice',
      [
        HEADING,
        line(' All nodes placed on [CPUExecutionProvider]. Number of nodes: 3'),
        line(' All nodes placed on [CPUExecutionProvider]. Number of nodes: 4'),
      ],
    ],
  ])('refuses %s', (_name, lines) => {
    expect(() => parsePlacement(lines, 'wasm')).toThrow(/does not state the node placement/);
  });
});
