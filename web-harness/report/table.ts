/** Tables whose columns sort by a button in their head. */

import { csv, type Value } from './csv.ts';
import { download, element } from './dom.ts';
import { sorted } from './sort.ts';
import { fileName } from './words.ts';

export interface Column<T> {
  readonly name: string;
  /** What is sorted by, and in the CSV. */
  value: (row: T) => Value;
  /** What is read, where that is not the value itself. */
  text?: (row: T) => string;
  /** Where it leads, if anywhere. */
  href?: (row: T) => string;
}

/** More rows are shown when they are asked for: a page with all of them at once opens slowly. */
const ROWS_MAX = 100;

/** A table without order, of few rows. */
export function plain(columns: readonly string[], rows: readonly (readonly string[])[]): HTMLElement {
  const head = element('tr', {}, ...columns.map((name) => element('th', { scope: 'col' }, name)));
  const body = rows.map((row) => element('tr', {}, ...row.map((text) => element('td', {}, text))));
  return element('div', { class: 'scrolls', tabindex: '0', role: 'group', 'aria-label': columns.join(', ') },
    element('table', {}, element('thead', {}, head), element('tbody', {}, ...body)));
}

/** A row that is `chosen` is marked as such. */
export function table<T>(
  title: string,
  columns: readonly Column<T>[],
  rows: readonly T[],
  chosen: (row: T) => boolean = () => false,
): HTMLElement {
  let order: { readonly column: Column<T>; readonly descending: boolean } | null = null;
  let most = ROWS_MAX;
  const body = element('tbody', {});
  const cell = (column: Column<T>, row: T): HTMLElement => {
    const value = column.value(row);
    const text = column.text?.(row) ?? (value === null ? '' : String(value));
    const child = column.href === undefined ? text : element('a', { href: column.href(row) }, text);
    return element('td', typeof value === 'number' ? { class: 'number' } : {}, child);
  };
  const line = (row: T): HTMLElement => {
    const marked = chosen(row) ? { class: 'chosen', 'aria-current': 'true' } : {};
    return element('tr', marked, ...columns.map((column) => cell(column, row)));
  };
  const fill = (): void => {
    const ordered = order === null ? rows : sorted(rows, order.column.value, order.descending);
    body.replaceChildren(...ordered.slice(0, most).map(line));
  };
  const heads = columns.map((column) => {
    const click = (): void => {
      order = { column, descending: order?.column === column && !order.descending };
      const direction = order.descending ? 'descending' : 'ascending';
      heads.forEach((head) => { head.removeAttribute('aria-sort'); });
      head.setAttribute('aria-sort', direction);
      fill();
    };
    const head = element('th', { scope: 'col' }, element('button', { type: 'button', click }, column.name));
    return head;
  });
  fill();
  const exported = element('button', {
    type: 'button',
    'aria-label': `CSV of ${title}`,
    click: () => {
      const names = columns.map(({ name }) => name);
      const values = rows.map((row) => columns.map((column) => column.value(row)));
      download(`${fileName(document.title, title)}.csv`, 'text/csv', csv({ columns: names, rows: values }));
    },
  }, 'CSV');
  const all = element('button', { type: 'button' }, `Show all ${rows.length} rows`);
  all.addEventListener('click', () => {
    most = rows.length;
    fill();
    all.remove();
  });
  return element('div', { class: 'table' },
    element('div', { class: 'scrolls', tabindex: '0', role: 'group', 'aria-label': title },
      element('table', {}, element('thead', {}, element('tr', {}, ...heads)), body)),
    element('div', { class: 'exports' }, ...(rows.length > most ? [all] : []), exported));
}
