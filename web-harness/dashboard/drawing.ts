/** A plan's picture as SVG, by the page's own colours. */

import { shortened } from '../report/words.ts';
import type { Plan } from './documents.ts';
import { scrolling } from './parts.ts';
import { BOX, type Box, type Edge, layout, place, type Seat, type StageFigures } from './picture.ts';
import type { ShownLane } from './pool.ts';
import { bytes, time } from './say.ts';
import { svg } from './svg.ts';

const LINE = 19;
const LETTERS = 26;

export interface Drawn {
  readonly plan: Plan;
  readonly measured: readonly (StageFigures | null)[];
  readonly seats: readonly Seat[];
  readonly edges: readonly Edge[];
  readonly lanes: (lane: string) => ShownLane | null;
}

function arrow({ from, to, bytes: moved }: Edge, boxes: readonly Box[], down: boolean): SVGElement[] {
  const [a, b] = [boxes[from], boxes[to]];
  if (a === undefined || b === undefined) {
    return [];
  }
  const [x1, y1] = down ? [a.x + BOX.width / 2, a.y + BOX.height] : [a.x + BOX.width, a.y + BOX.height / 2];
  const [x2, y2] = down ? [b.x + BOX.width / 2, b.y] : [b.x, b.y + BOX.height / 2];
  const curve = down
    ? `M${x1} ${y1}C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2} ${x2} ${y2}`
    : `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;
  const tip = down
    ? `M${x2 - 5} ${y2 - 8}L${x2} ${y2}L${x2 + 5} ${y2 - 8}`
    : `M${x2 - 8} ${y2 - 5}L${x2} ${y2}L${x2 - 8} ${y2 + 5}`;
  const lines = [svg('path', { class: 'edge', d: curve }), svg('path', { class: 'edge', d: tip })];
  if (moved === null) {
    return lines;
  }
  const [x, y] = [(x1 + x2) / 2 + (down ? 8 : 0), (y1 + y2) / 2 - (down ? -4 : 8)];
  return [...lines, svg('text', { class: 'moved', x, y, 'text-anchor': down ? 'start' : 'middle' }, bytes(moved))];
}

/** The stage's state: away from its place, without a lane, or well. */
function standing({ lane, reason }: Seat, shown: ShownLane | null): string {
  if (lane === null) {
    return 'not run yet';
  }
  return reason !== null ? 'moved' : shown?.state ?? 'gone';
}

function stage(drawn: Drawn, { at, x, y }: Box): SVGElement {
  const { plan, measured, seats, lanes } = drawn;
  const [wanted, figures, seat] = [plan.stages[at], measured[at] ?? null, seats[at] ?? { lane: null, reason: null }];
  const lane = seat.lane ?? (wanted === undefined ? '' : place(wanted));
  const state = standing(seat, seat.lane === null ? null : lanes(seat.lane));
  const backend = lane.slice(lane.lastIndexOf('/') + 1).split(' ')[0] ?? '';
  const name = plan.shards[at] ?? 'its file is gone';
  const took = figures === null ? 'no request yet' : `computes ${time(figures.compute_us)}`;
  const transfer = figures === null ? '' : `transfer ${time(figures.transfer_us)}`;
  const moved = figures === null ? '' : `${bytes(figures.bytes_in)} in, ${bytes(figures.bytes_out)} out`;
  const lines: readonly (readonly [string, string])[] = [
    [`${at} · ${lane}`, 'strong'], [name, 'faint'], [took, ''], [transfer, ''], [moved, ''], [state, 'state'],
  ];
  const why = seat.reason === null ? '' : `, because ${seat.reason}`;
  const said = [took, transfer, moved].filter((text) => text !== '').join('; ');
  const title = `Stage ${at}: ${name} in ${lane}, ${state}${why}; ${said}`;
  const words = lines.map(([text, kind], row) =>
    svg('text', { class: kind, x: x + 16, y: y + 25 + row * LINE }, shortened(text, LETTERS)));
  const kind = backend.startsWith('ort') ? 'native' : backend;
  return svg('g', { class: 'stage', 'data-state': state, 'data-backend': kind, role: 'img', 'aria-label': title },
    svg('title', {}, title), svg('rect', { class: 'box', x, y, width: BOX.width, height: BOX.height, rx: 7 }),
    svg('rect', { class: 'strip', x, y: y + 8, width: 5, height: BOX.height - 16, rx: 2.5 }), ...words);
}

export function drawPlan(drawn: Drawn, down: boolean): HTMLElement {
  const { width, height, boxes } = layout(drawn.plan.stages, down);
  const root = svg('svg', { class: 'picture', viewBox: `0 0 ${width} ${height}`, width, height },
    ...drawn.edges.flatMap((edge) => arrow(edge, boxes, down)), ...boxes.map((box) => stage(drawn, box)));
  return scrolling('drawing', 'The plan’s stages', root);
}
