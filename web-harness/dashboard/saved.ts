/** Addresses that were given names, kept in this browser. */

const PLACE = 'weft.saved';

/** More would be no list that anybody reads. */
const SAVED_MAX = 50;
const NAME_MAX = 60;

export interface Saved {
  readonly name: string;
  readonly search: string;
}

/** The part of `localStorage` that is used; a browser may refuse either. */
export interface Shelf {
  getItem: (name: string) => string | null;
  setItem: (name: string, value: string) => void;
}

/** What this browser keeps for the page; nothing where it is told to keep nothing. */
export function shelf(): Shelf {
  try {
    return localStorage;
  } catch {
    return { getItem: () => null, setItem: () => { throw new Error('this browser keeps nothing'); } };
  }
}

function isSaved(value: unknown): value is Saved {
  const saved = value as Partial<Saved> | null;
  return typeof saved?.name === 'string' && typeof saved.search === 'string' && /^\/(\?|$)/.test(saved.search);
}

/** What cannot be read counts as nothing: other pages of the address may have written there. */
export function saved(shelf: Shelf): Saved[] {
  try {
    const kept: unknown = JSON.parse(shelf.getItem(PLACE) ?? '[]');
    return Array.isArray(kept) ? kept.filter(isSaved).slice(0, SAVED_MAX) : [];
  } catch {
    return [];
  }
}

/** Keeps an address under a name, in place of another of that name. Answers whether the browser keeps it. */
export function save(shelf: Shelf, name: string, search: string): boolean {
  const named = name.trim().slice(0, NAME_MAX);
  if (named === '') {
    return false;
  }
  const others = saved(shelf).filter((other) => other.name !== named);
  return write(shelf, [...others, { name: named, search }].slice(-SAVED_MAX));
}

export function forget(shelf: Shelf, name: string): boolean {
  return write(shelf, saved(shelf).filter((other) => other.name !== name));
}

function write(shelf: Shelf, list: readonly Saved[]): boolean {
  try {
    shelf.setItem(PLACE, JSON.stringify(list));
    return true;
  } catch {
    return false;
  }
}
