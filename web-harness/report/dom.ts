/** Elements in one expression. Texts are always texts, never markup. */

type Attributes = Readonly<Record<string, string | (() => void)>>;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'string') {
      made.setAttribute(name, value);
    } else {
      made.addEventListener(name, value);
    }
  }
  made.append(...children);
  return made;
}

export interface Choice {
  readonly value: string;
  readonly label: string;
}

/** A choice of few, which the arrow keys walk through; `chosen` is called at once with the first. */
export function choice(legend: string, choices: readonly Choice[], chosen: (value: string) => void): HTMLElement {
  const name = `choice-${legend.replaceAll(/\W/g, '')}`;
  const options = choices.map(({ value, label }, at) => {
    const input = element('input', { type: 'radio', name, value, change: () => { chosen(value); } });
    input.checked = at === 0;
    return element('label', {}, input, element('span', {}, label));
  });
  const first = choices[0];
  if (first !== undefined) {
    chosen(first.value);
  }
  return element('fieldset', { class: 'choice' }, element('legend', {}, legend), ...options);
}

export function download(name: string, type: string, body: BlobPart): void {
  const url = URL.createObjectURL(new Blob([body], { type }));
  element('a', { href: url, download: name }).click();
  // The browser has begun to read it by then.
  setTimeout(() => { URL.revokeObjectURL(url); }, 60_000);
}
