/** Plans: which there are, and one as a picture that follows what happens to its stages. */

import { element } from '../report/dom.ts';
import { type Address, format, START } from './address.ts';
import { ask, Refused } from './ask.ts';
import type { Instance, Lane, List, Plan, Recovery, Run, Told } from './documents.ts';
import { drawPlan } from './drawing.ts';
import { keyed, type Kept, say } from './keyed.ts';
import { edges, figures, place, seats } from './picture.ts';
import { about } from './parts.ts';
import { Pool, type ShownLane } from './pool.ts';
import { dateAndTime, plural, time } from './say.ts';
import type { Around, View } from './view.ts';

/** Requests whose times the picture shows, the newest. */
const RUNS = 50;

/** What comes live is shown this often at most. */
const SHOWN_EVERY_MS = 250;

/** Narrower pages show a plan from the top down. */
const DOWN_BELOW = 620;

function item(address: () => Address): (plan: Plan) => Kept<Plan> {
  return ({ id }) => {
    const link = element('a', {});
    const what = about('');
    const root = element('li', {}, link, what);
    return {
      root,
      show: (plan) => {
        link.href = format({ ...START, view: 'plans', plan: id });
        say(link, plan.name ?? plan.model.slice(0, 8));
        const stands = plan.standing ? ' · stands for its model' : '';
        const cannot = plan.unusable === null ? '' : ' · cannot run';
        say(what, `${plural(plan.stages.length, 'stage')}${stands}${cannot}`);
        if (address().plan === id) {
          link.setAttribute('aria-current', 'true');
        } else {
          link.removeAttribute('aria-current');
        }
      },
    };
  };
}

class Plans implements View {
  readonly root: HTMLElement;
  readonly title = 'Plans';
  readonly topics = ['pool', 'runs', 'plans'] as const;
  readonly #around: Around;
  readonly #pool = new Pool();
  readonly #none = element('p', { class: 'about' },
    'There is no plan. ', element('code', {}, 'weft plan make MODEL'), ' makes one.');
  readonly #fill: (plans: readonly Plan[]) => void;
  readonly #picture = element('section', { class: 'plan', 'aria-labelledby': 'plan-title' });
  readonly #sizes = new ResizeObserver(() => { this.#drawSoon(); });
  #address: Address = START;
  #plans = new Map<string, Plan>();
  #runs: Run[] = [];
  #recoveries: Recovery[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(around: Around) {
    this.#around = around;
    const list = element('ul', { class: 'plans' });
    this.#fill = keyed<Plan>(list, ({ id }) => id, item(() => this.#address));
    this.#sizes.observe(this.#picture);
    this.root = element('div', { class: 'view' }, element('h1', {}, 'Plans'), this.#none,
      element('div', { class: 'beside' }, element('nav', { 'aria-label': 'Plans' }, list), this.#picture));
  }

  async show(address: Address, signal: AbortSignal): Promise<void> {
    this.#address = address;
    const [plans, instances, lanes] = await Promise.all([
      ask<List<Plan>>('/api/v1/plans', signal),
      ask<List<Instance>>('/api/v1/instances', signal),
      ask<List<Lane>>('/api/v1/lanes', signal),
    ]);
    this.#pool.set(instances.items, lanes.items);
    this.#plans = new Map(plans.items.map((plan) => [plan.id, plan]));
    // Without a name, the newest is meant.
    const newest = plans.items.at(-1)?.id ?? '';
    this.#address = { ...address, plan: address.plan === '' ? newest : address.plan };
    this.#showList();
    await this.#one(signal);
  }

  hear({ topic, event }: Told): void {
    if (topic === 'pool') {
      const aloud = this.#pool.tell(event as Instance);
      if (aloud !== null) {
        this.#around.speak(aloud);
      }
    } else if (topic === 'runs') {
      const run = event as Run;
      if (run.provenance?.plan !== this.#address.plan) {
        return;
      }
      this.#runs = [run, ...this.#runs].slice(0, RUNS);
    } else if (topic === 'plans') {
      this.#tell(event as { made?: Plan; removed?: Plan; recovery?: Recovery });
    }
    this.#drawSoon();
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#sizes.disconnect();
  }

  #tell({ made, removed, recovery }: { made?: Plan; removed?: Plan; recovery?: Recovery }): void {
    if (made !== undefined) {
      this.#plans.set(made.id, made);
      if (this.#address.plan === '') {
        this.#address = { ...this.#address, plan: made.id };
      }
    }
    if (removed !== undefined) {
      this.#plans.delete(removed.id);
    }
    if (recovery?.plan === this.#address.plan) {
      this.#recoveries = [recovery, ...this.#recoveries];
      const { stage, lane, fallback } = recovery;
      this.#around.speak(`Stage ${stage} ${fallback === null ? 'is back' : `went to ${lane}: ${fallback.reason}`}`);
    }
    this.#showList();
  }

  #showList(): void {
    this.#none.hidden = this.#plans.size > 0;
    this.#fill([...this.#plans.values()]);
  }

  async #one(signal: AbortSignal): Promise<void> {
    const { plan } = this.#address;
    if (plan === '') {
      this.#picture.replaceChildren();
      return;
    }
    try {
      const [followed, runs] = await Promise.all([
        ask<Plan>(`/api/v1/plans/${encodeURIComponent(plan)}`, signal),
        ask<List<Run>>(`/api/v1/runs?limit=${RUNS}&plan=${encodeURIComponent(plan)}`, signal),
      ]);
      this.#plans.set(plan, followed);
      this.#recoveries = [...followed.recoveries ?? []];
      this.#runs = [...runs.items];
      this.#draw();
    } catch (error) {
      if (!(error instanceof Refused)) {
        throw error;
      }
      this.#picture.replaceChildren(element('p', { class: 'trouble', role: 'alert' }, error.message));
    }
  }

  #drawSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#draw();
    }, SHOWN_EVERY_MS);
  }

  #draw(): void {
    const plan = this.#plans.get(this.#address.plan);
    if (plan === undefined) {
      return;
    }
    const measured = figures(plan, this.#runs);
    const where = seats(plan, measured, this.#recoveries);
    const down = this.#picture.clientWidth < DOWN_BELOW;
    const lanes = (lane: string): ShownLane | null => this.#pool.lane(lane);
    const drawn = drawPlan({ plan, measured, seats: where, edges: edges(plan, measured), lanes }, down);
    const well = this.#runs.filter(({ error }) => error === null);
    const middle = well.map(({ timing }) => timing.total).sort((a, b) => a - b)[Math.floor(well.length / 2)] ?? null;
    const fallback = plan.fallback === 'none' ? 'nothing' : plan.fallback;
    const when = dateAndTime(plan.made_at_us);
    const made = `${plural(plan.stages.length, 'stage')}, made ${when}, which may fall back to ${fallback}.`;
    const ran = well.length === 0
      ? 'No request has run under it yet.'
      : `Medians of the latest ${plural(well.length, 'request')}: ${time(middle)} each.`;
    const runs = element('a', { href: format({ ...START, view: 'runs', plan: plan.id }) }, 'Requests under this plan');
    const unusable = plan.unusable === null ? [] : [element('p', { class: 'trouble' }, plan.unusable)];
    this.#picture.replaceChildren(element('h2', { id: 'plan-title' }, plan.name ?? plan.model.slice(0, 12)), ...unusable,
      element('p', {}, about(`${made} ${ran}`)), drawn, element('p', { class: 'more' }, runs), this.#events(plan));
  }

  #events(plan: Plan): HTMLElement {
    const items = this.#recoveries.slice(0, 20).map(({ stage, at_us: at, lane, fallback, took_us: took }) => {
      const wanted = plan.stages[stage];
      const of = wanted === undefined ? '' : `, for ${place(wanted)}`;
      const what = fallback === null ? `is back in ${lane}` : `went to ${lane}${of}`;
      const after = took === null ? '' : `, ${time(took)} after the loss`;
      const why = fallback === null ? '' : `; ${fallback.reason}`;
      return element('li', {}, element('b', {}, `Stage ${stage}`), ` ${what}${after}`, about(` ${dateAndTime(at)}${why}`));
    });
    const none = element('p', {}, about('No stage has had to move.'));
    return element('div', {}, element('h3', {}, 'Recoveries'),
      items.length === 0 ? none : element('ul', { class: 'recoveries' }, ...items));
  }
}

export function plansView(around: Around): View {
  return new Plans(around);
}

