/**
 * Reads from the engine's verbose log how many graph nodes run on which execution provider.
 * It owns the parsing alone; a log that it does not understand is an error, never a guess.
 */

import type { Backend, Placement } from '../protocol/messages.ts';

/** The log's origin mark of the lines that state the placement. */
const ORIGIN = 'VerifyEachNodeIsAssignedToAnEp]';

const GROUP = /^(?:All nodes|Node\(s\)) placed on \[(\w+)\]\. Number of nodes: (\d+)$/;

/** A node's name may hold a line break, so its closing parenthesis may be on a line of its own. */
const NODE = /^\S+ \(/;

export class PlacementError extends Error {
  constructor(message: string) {
    super(`the engine's log does not state the node placement: ${message}`);
    this.name = 'PlacementError';
  }
}

interface Group {
  readonly key: string;
  readonly nodes: number;
  readonly listed: boolean;
  seen: number;
}

/** Takes the lines logged while one session was created. */
export function parsePlacement(lines: readonly string[], backend: Backend): Placement {
  const groups: Group[] = [];
  let headings = 0;
  for (const line of lines) {
    const text = placementText(line);
    if (text === null) continue;
    if (text === 'Node placements') headings += 1;
    else if (headings > 0) readLine(text, groups, backend);
  }
  if (headings !== 1) throw new PlacementError(`${headings} headings instead of one`);
  return countGroups(groups);
}

function placementText(line: string): string | null {
  const at = line.indexOf(ORIGIN);
  return at < 0 || !line.includes('[V:onnxruntime:') ? null : line.slice(at + ORIGIN.length).trim();
}

function readLine(text: string, groups: Group[], backend: Backend): void {
  const match = GROUP.exec(text);
  if (match !== null) {
    const [, provider = '', nodes = ''] = match;
    groups.push({ key: keyOf(provider, backend), nodes: Number(nodes), listed: text.startsWith('Node(s)'), seen: 0 });
    return;
  }
  const group = groups.at(-1);
  if (group === undefined || !NODE.test(text)) throw new PlacementError(`unknown line "${text}"`);
  group.seen += 1;
}

function countGroups(groups: readonly Group[]): Placement {
  const placement: Placement = {};
  for (const group of groups) {
    if (group.listed && group.seen !== group.nodes) {
      throw new PlacementError(`${group.nodes} nodes on ${group.key}, but ${group.seen} listed`);
    }
    if (placement[group.key] !== undefined) throw new PlacementError(`${group.key} is stated twice`);
    placement[group.key] = group.nodes;
  }
  return placement;
}

function keyOf(provider: string, backend: Backend): string {
  switch (provider) {
    case 'CPUExecutionProvider':
      return backend === 'wasm' ? 'wasm' : 'cpu';
    case 'WebGpuExecutionProvider':
      return 'webgpu';
    case 'WebNNExecutionProvider':
      return 'webnn';
    default:
      throw new PlacementError(`unknown execution provider ${provider}`);
  }
}
