/** Asks for a key where the daemon wants one. It is kept nowhere: a cookie that no script reads stands for it. */

import { element } from '../report/dom.ts';
import { logIn, NotLoggedIn } from './ask.ts';
import { say } from './keyed.ts';

export function login(entered: () => void): HTMLElement {
  const key = element('input', {
    type: 'password', id: 'key', name: 'key', required: '', autocomplete: 'current-password', spellcheck: 'false',
  });
  const told = element('p', { class: 'trouble', role: 'alert' });
  told.hidden = true;
  const enter = element('button', { class: 'first' }, 'Log in');
  const form = element('form', { class: 'card login' }, element('h1', {}, 'Log in'),
    element('p', {}, 'This daemon wants to know who asks. ', element('code', {}, 'weft keys add NAME --scope read'),
      ' makes a key that may see what is here.'),
    element('label', { for: 'key' }, 'Key or token'), key, told, enter);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    enter.disabled = true;
    logIn(key.value.trim()).then(entered, (error: unknown) => {
      const said = error instanceof Error ? error.message : String(error);
      told.hidden = false;
      say(told, error instanceof NotLoggedIn ? 'That key is not good here.' : said);
      key.focus();
      key.select();
    }).finally(() => { enter.disabled = false; });
  });
  return form;
}
