/** A plan as a picture: where its boxes stand, what passes between them, what its stages took. Pure. */

import type { Plan, PlanStage, Recovery, Run, StageRun } from './documents.ts';

export interface Box {
  readonly at: number;
  readonly x: number;
  readonly y: number;
}

export interface Edge {
  readonly from: number;
  readonly to: number;
  /** Null where requests' bytes tell only sums of several edges. */
  readonly bytes: number | null;
}

export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly Box[];
}

export const BOX = { width: 216, height: 141 } as const;
const GAP = { along: 92, beside: 24 } as const;
const MARGIN = 14;

function makers(stage: PlanStage): number[] {
  return [...new Set(stage.inputs.flatMap(({ from }) => from === undefined ? [] : [from]))];
}

/** How many stages must have run before each. */
export function depths(stages: readonly PlanStage[]): number[] {
  const found: number[] = [];
  for (const stage of stages) {
    found.push(Math.max(-1, ...makers(stage).map((from) => found[from] ?? 0)) + 1);
  }
  return found;
}

/** From the left to the right, or from the top down where there is no room for that. */
export function layout(stages: readonly PlanStage[], down: boolean): Layout {
  const depth = depths(stages);
  const along = down ? BOX.height + GAP.along * 0.6 : BOX.width + GAP.along;
  const beside = (down ? BOX.width : BOX.height) + GAP.beside;
  const boxes = stages.map((_, at): Box => {
    const level = depth[at] ?? 0;
    const before = depth.slice(0, at).filter((other) => other === level).length;
    const [a, b] = [MARGIN + level * along, MARGIN + before * beside];
    return down ? { at, x: b, y: a } : { at, x: a, y: b };
  });
  const end = (of: (box: Box) => number): number => Math.max(0, ...boxes.map(of)) + MARGIN;
  return { width: end(({ x }) => x + BOX.width), height: end(({ y }) => y + BOX.height), boxes };
}

/** What stages took and moved in the latest requests. */
export interface StageFigures {
  readonly lane: string;
  readonly requests: number;
  readonly compute_us: number;
  readonly transfer_us: number;
  readonly bytes_in: number;
  readonly bytes_out: number;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low = 0, high = 0] = [sorted[(sorted.length - 1) >> 1], sorted[middle]];
  return (low + high) / 2;
}

/** Of each stage, of runs that went well, the newest first; null where there are none. */
export function figures(plan: Plan, runs: readonly Run[]): (StageFigures | null)[] {
  return plan.stages.map((_, at) => {
    const parts = runs.flatMap(({ error, provenance }) =>
      error === null ? (provenance?.stages ?? []).filter(({ stage }) => stage === at) : []);
    const [newest] = parts;
    if (newest === undefined) {
      return null;
    }
    const of = (value: (part: StageRun) => number): number => median(parts.map(value));
    return {
      lane: newest.lane,
      requests: parts.length,
      compute_us: of(({ timing_us }) => timing_us.compute),
      transfer_us: of(({ timing_us }) => timing_us.transfer + timing_us.decode + timing_us.encode),
      bytes_in: of(({ bytes_in }) => bytes_in),
      bytes_out: of(({ bytes_out }) => bytes_out),
    };
  });
}

export function edges(plan: Plan, measured: readonly (StageFigures | null)[]): Edge[] {
  const outputs = new Map(plan.outputs.map(({ name, by }) => [name, by]));
  return plan.stages.flatMap((stage, to) => makers(stage).map((from): Edge => {
    const isOnlyReader = plan.stages.every((other, at) => at === to || !makers(other).includes(from));
    const read = new Set(stage.inputs.filter((input) => input.from === from).map(({ name }) => name));
    const made = plan.stages[from]?.outputs ?? [];
    const isAllRead = made.every((name) => read.has(name)) && ![...outputs.values()].includes(from);
    const isOnlySource = stage.inputs.every((input) => input.from === from);
    if (isOnlySource) {
      return { from, to, bytes: measured[to]?.bytes_in ?? null };
    }
    return { from, to, bytes: isOnlyReader && isAllRead ? measured[from]?.bytes_out ?? null : null };
  }));
}

/** Where each stage runs by what was told last, and why there: a recovery since, else its newest request. */
export interface Seat {
  readonly lane: string | null;
  readonly reason: string | null;
}

export function seats(plan: Plan, measured: readonly (StageFigures | null)[], recoveries: readonly Recovery[]): Seat[] {
  return plan.stages.map((stage, at) => {
    const last = recoveries.filter((recovery) => recovery.stage === at)
      .reduce<Recovery | null>((newest, next) => newest === null || next.at_us > newest.at_us ? next : newest, null);
    if (last !== null) {
      return { lane: last.lane, reason: last.fallback?.reason ?? null };
    }
    return { lane: measured[at]?.lane ?? stage.lane ?? null, reason: null };
  });
}

/** Where a stage is wanted, in words. */
export function place({ lane, browser, backend }: PlanStage): string {
  if (lane !== undefined) {
    return lane;
  }
  if (browser !== undefined) {
    return backend === undefined ? browser : `${backend} in ${browser}`;
  }
  return backend ?? 'any lane';
}
