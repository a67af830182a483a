/** Elements that stay the same while what they show changes, so that focus, selection and scrolling stay too. */

/** A list's elements, each with what changes it. */
export interface Kept<T> {
  readonly root: Element;
  readonly show: (item: T) => void;
}

/** Has `parent` hold an element for each item, in their order; those of items that stay are kept. */
export function keyed<T>(
  parent: Element,
  key: (item: T) => string,
  make: (item: T) => Kept<T>,
): (items: readonly T[]) => void {
  const kept = new Map<string, Kept<T>>();
  return (items) => {
    const wanted = new Set(items.map(key));
    // First, so that those that stay need not be moved past them: who is moved loses the focus.
    for (const [name, one] of kept) {
      if (!wanted.has(name)) {
        one.root.remove();
        kept.delete(name);
      }
    }
    let place = parent.firstElementChild;
    for (const item of items) {
      const name = key(item);
      const one = kept.get(name) ?? make(item);
      kept.set(name, one);
      one.show(item);
      if (one.root === place) {
        place = place.nextElementSibling;
      } else {
        parent.insertBefore(one.root, place);
      }
    }
  };
}

/** Changes a text only when it is another one: what did not change is not painted, spoken or deselected. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

export function mark(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}
