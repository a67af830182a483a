/** What the page's parts have in common. */

import type { Address } from './address.ts';
import type { Told, Topic } from './documents.ts';

export interface View {
  readonly root: HTMLElement;
  readonly title: string;
  readonly topics: readonly Topic[];
  /** Shows what the address says, asking the daemon for what is not there yet; again after the connection was lost. */
  readonly show: (address: Address, signal: AbortSignal) => Promise<void>;
  readonly hear: (told: Told) => void;
  readonly end: () => void;
}

/** What a view may do to the page around it. */
export interface Around {
  /** Goes to an address as a link does. */
  readonly go: (address: Address) => void;
  /** Says something politely to who cannot see it. */
  readonly speak: (text: string) => void;
}
