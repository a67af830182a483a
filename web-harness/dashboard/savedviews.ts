/** The addresses that were given names, of whatever view. */

import { element } from '../report/dom.ts';
import { type Address, format, parse } from './address.ts';
import { say } from './keyed.ts';
import { forget, save, saved, shelf } from './saved.ts';

/** Links to addresses that were kept here, and a place to keep this one. */
export function savedViews(now: () => Address): { root: HTMLElement; show: () => void } {
  const list = element('ul', { class: 'saved' });
  const told = element('span', { class: 'about', role: 'status' });
  const asked = 'Name of this view';
  const name = element('input', { type: 'text', maxlength: '60', required: '', placeholder: asked, 'aria-label': asked });
  const form = element('form', { class: 'save' }, name, element('button', {}, 'Save this view'), told);
  const fill = (): void => {
    list.replaceChildren(...saved(shelf()).map(({ name: title, search }) => {
      const link = element('a', { href: search }, title);
      if (format(parse(search.slice(1))) === format({ ...now(), run: '' })) {
        link.setAttribute('aria-current', 'true');
      }
      const click = (): void => {
        forget(shelf(), title);
        fill();
      };
      const remove = element('button', { type: 'button', 'aria-label': `Forget the view ${title}`, click }, '×');
      return element('li', {}, link, remove);
    }));
    list.hidden = list.childElementCount === 0;
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const kept = save(shelf(), name.value, format({ ...now(), run: '' }));
    say(told, kept ? `kept as ${name.value.trim()}` : 'this browser keeps nothing');
    name.value = '';
    fill();
  });
  return { root: element('div', { class: 'views' }, list, form), show: () => { say(told, ''); fill(); } };
}
