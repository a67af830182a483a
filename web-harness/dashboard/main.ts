/** The page: its head, the view that the address names, the daemon's events, and logging in where that is wanted. */

import { element } from '../report/dom.ts';
import { type Address, format, parse, START, type View as ViewName, VIEWS } from './address.ts';
import { ask, logOut, NotLoggedIn, Refused } from './ask.ts';
import type { Told } from './documents.ts';
import { historyView } from './history.ts';
import { say } from './keyed.ts';
import { Live, type Standing } from './live.ts';
import { login } from './login.ts';
import { overview } from './overview.ts';
import { plansView } from './plans.ts';
import { runsView } from './runs.ts';
import { shelf } from './saved.ts';
import { suitesView } from './suites.ts';
import type { Around, View } from './view.ts';

const TITLES: Readonly<Record<ViewName, string>> = {
  overview: 'Overview',
  runs: 'Requests',
  plans: 'Plans',
  suites: 'Suites',
  history: 'History',
};

/** That this browser has logged in, since no script sees its cookie. */
const SESSION = 'weft.session';

/** Words that follow each other sooner are spoken together. */
const SPOKEN_EVERY_MS = 1500;

/** As long as a lost connection counts down. */
const SECOND_MS = 1000;

function part(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) {
    throw new Error(`the page has lost its ${id}`);
  }
  return found;
}

class Page {
  readonly #page = part('page');
  readonly #spoken = part('spoken');
  readonly #links = new Map<ViewName, HTMLElement>();
  readonly #standing = element('span', { class: 'standing' });
  readonly #again = element('button', { type: 'button' }, 'Try now');
  readonly #leave = element('button', { type: 'button' }, 'Log out');
  readonly #trouble = element('p', { class: 'trouble', role: 'alert' });
  readonly #live: Live;
  readonly #around: Around = {
    go: (address) => { this.#go(address); },
    speak: (text) => { this.#speak(text); },
  };
  #view: { readonly name: ViewName; readonly view: View } | null = null;
  #showing = new AbortController();
  /** Events that came while what they change was asked for; null when nothing is. */
  #held: Told[] | null = null;
  #words: string[] = [];
  #count: ReturnType<typeof setInterval> | undefined;

  constructor() {
    this.#live = new Live({
      open: () => new WebSocket(`${location.origin.replace(/^http/, 'ws')}/v2/ws`, 'weft.v2') as never,
      after: (ms, call) => {
        const timer = setTimeout(call, ms);
        return () => { clearTimeout(timer); };
      },
      chance: Math.random,
      now: Date.now,
    }, (standing) => { this.#stands(standing); }, (told) => { this.#hear(told); });
    this.#head();
    this.#trouble.hidden = true;
    document.addEventListener('click', (event) => { this.#clicked(event); });
    addEventListener('popstate', () => { void this.#show(); });
    addEventListener('online', () => { this.#live.hurry(); });
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) {
        this.#live.hurry();
      }
    });
  }

  start(): void {
    void this.#show();
  }

  #head(): void {
    const links = VIEWS.map((name) => {
      const link = element('a', { href: format({ ...START, view: name }) }, TITLES[name]);
      this.#links.set(name, link);
      return link;
    });
    this.#again.hidden = true;
    this.#again.addEventListener('click', () => { this.#live.hurry(); });
    this.#leave.hidden = true;
    this.#leave.addEventListener('click', () => { void logOut().finally(() => { this.#askWho(); }); });
    part('head').append(
      element('a', { class: 'brand', href: '/' }, 'weft'),
      element('nav', { 'aria-label': 'Views' }, ...links),
      element('div', { class: 'tools' }, this.#standing, this.#again, this.#leave),
    );
    this.#page.before(this.#trouble);
  }

  /** Links of the page's own are followed without loading it again. */
  #clicked(event: MouseEvent): void {
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    if (link !== null && plain && !event.defaultPrevented && link.origin === location.origin
      && link.pathname === '/' && link.hash === '' && link.target === '') {
      event.preventDefault();
      this.#go(parse(link.search));
    }
  }

  #go(address: Address): void {
    const wanted = format(address);
    if (wanted !== `${location.pathname}${location.search}`) {
      history.pushState(null, '', wanted);
    }
    void this.#show();
  }

  /** Shows what the address says. */
  async #show(): Promise<void> {
    const address = parse(location.search);
    this.#showing.abort();
    const showing = new AbortController();
    this.#showing = showing;
    const view = this.#viewOf(address.view);
    for (const [name, link] of this.#links) {
      link.toggleAttribute('aria-current', false);
      if (name === address.view) {
        link.setAttribute('aria-current', 'page');
      }
    }
    document.title = address.view === 'overview' ? 'weft' : `${view.title} · weft`;
    // Events are held back until what they change is there.
    this.#held = [];
    this.#live.start();
    try {
      await this.#live.follow(view.topics);
      await view.show(address, showing.signal);
      this.#trouble.hidden = true;
      this.#leave.hidden = !hasSession();
    } catch (error) {
      if (showing.signal.aborted) {
        return;
      }
      this.#failed(error);
    }
    if (this.#showing === showing) {
      const held = this.#held;
      this.#held = null;
      held.forEach((told) => { this.#hear(told); });
    }
  }

  #viewOf(name: ViewName): View {
    if (this.#view?.name === name) {
      return this.#view.view;
    }
    this.#view?.view.end();
    const make = { overview, runs: runsView, plans: plansView, suites: suitesView, history: historyView }[name];
    const view = make(this.#around);
    const isFirst = this.#view === null;
    this.#view = { name, view };
    this.#page.replaceChildren(view.root);
    if (!isFirst) {
      // Everybody begins where the new view does.
      scrollTo(0, 0);
      this.#page.focus({ preventScroll: true });
      this.#speak(view.title);
    }
    return view;
  }

  #failed(error: unknown): void {
    if (error instanceof NotLoggedIn) {
      this.#askWho();
      return;
    }
    this.#trouble.hidden = false;
    say(this.#trouble, error instanceof Refused ? error.message : 'The daemon does not answer.');
    this.#leave.hidden = !(error instanceof Refused && error.status === 403);
  }

  /** The address stays, so that what was wanted is shown afterwards. */
  #askWho(): void {
    this.#live.stop();
    this.#view?.view.end();
    this.#view = null;
    this.#held = [];
    this.#leave.hidden = true;
    this.#trouble.hidden = true;
    noteSession(false);
    this.#page.replaceChildren(login(() => {
      noteSession(true);
      void this.#show();
    }));
    this.#page.querySelector('input')?.focus();
  }

  #hear(told: Told): void {
    if (this.#held === null) {
      this.#view?.view.hear(told);
    } else {
      this.#held.push(told);
    }
  }

  #stands(standing: Standing): void {
    clearInterval(this.#count);
    const before = this.#standing.dataset['state'];
    this.#standing.dataset['state'] = standing.state;
    this.#again.hidden = standing.state !== 'lost';
    if (standing.state === 'lost') {
      const count = (): void => {
        const seconds = Math.max(0, Math.ceil((standing.at - Date.now()) / SECOND_MS));
        say(this.#standing, `Connection lost; again in ${seconds} s`);
      };
      count();
      this.#count = setInterval(count, SECOND_MS);
      if (before === 'live') {
        this.#speak('The connection to the daemon is lost');
        // Whoever may not be here any more is asked who they are.
        void ask('/api/v1/activity').catch((error: unknown) => {
          if (error instanceof NotLoggedIn) {
            this.#askWho();
          }
        });
      }
      return;
    }
    say(this.#standing, { connecting: 'Connecting…', live: 'Live', ended: '' }[standing.state]);
    if (standing.state === 'ended') {
      this.#count = undefined;
    }
    if (standing.state === 'live' && this.#count !== undefined) {
      this.#count = undefined;
      this.#speak('Connected again');
      // Meanwhile anything may have happened.
      void this.#show();
    }
  }

  /** What comes close together is said together, and what would take too long is not said. */
  #speak(text: string): void {
    this.#words.push(text);
    if (this.#words.length === 1) {
      setTimeout(() => {
        const [few, more] = [this.#words.slice(-3), this.#words.length - 3];
        say(this.#spoken, `${few.join('. ')}${more > 0 ? `, and ${more} more changes` : ''}`);
        this.#words = [];
      }, SPOKEN_EVERY_MS);
    }
  }
}

function hasSession(): boolean {
  return shelf().getItem(SESSION) === 'open';
}

function noteSession(isOpen: boolean): void {
  try {
    shelf().setItem(SESSION, isOpen ? 'open' : 'over');
  } catch {
    // Then the page offers no way to log out, and the session ends with its time.
  }
}

new Page().start();
