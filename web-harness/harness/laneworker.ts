/**
 * What the page and a lane's Worker say to each other, which is only how it starts, that it has begun and that it ended.
 */

import type { Backend, WebnnDevice } from '../protocol/messages.ts';
import type { Assets } from './engines/start.ts';

export interface LaneStart {
  readonly ticket: string;
  readonly epoch: number;
  readonly backend: Backend;
  readonly threads: number;
  readonly webnnDevice: WebnnDevice | null;
  readonly memoryMax: number;
  readonly assets: Assets;
}

/** The Worker holds its lifeline: from now on its end is seen. */
export interface LaneBegun {
  readonly begun: true;
}

export interface LaneExit {
  readonly reason: string;
}

export type LaneWord = LaneBegun | LaneExit;
