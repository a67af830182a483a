/** The page: reads the report that stands in it, and draws. */

import { coldStarts } from './charts/cold.ts';
import { heat, MEASURES } from './charts/heat.ts';
import { margins } from './charts/margins.ts';
import { roofline } from './charts/roof.ts';
import { spread } from './charts/spread.ts';
import { warmUp } from './charts/warmup.ts';
import { type Group, isMeasured, type Measured, ranked, type Report, row } from './document.ts';
import { type Choice, choice, download, element } from './dom.ts';
import { drawAll, figure, forget } from './figure.ts';
import { absent, cells, drawable, environment, head, method, overview } from './sections.ts';
import { fileName, sampleWords, scenarioWords } from './words.ts';

/** More models than this are shown one at a time. */
const GROUPS_MAX = 6;

/** What goes wrong is said on the page, not in a console that nobody opens. */
function trouble(message: string): void {
  document.body.prepend(element('p', { role: 'alert', class: 'trouble' }, `This report is not whole: ${message}`));
}

function heatmap(report: Report): HTMLElement[] {
  const rows = report.results.cells.map((_, at) => row(report, at));
  const measured = rows.filter(isMeasured);
  const scenarios = [...new Set(measured.map(({ cell }) => cell.scenario))];
  const [first] = scenarios;
  if (first === undefined) {
    return [element('p', {}, 'No cell was measured.')];
  }
  let scenario = first;
  const there = (name: string): Choice[] =>
    MEASURES.filter(({ of }) => measured.some((row) => row.cell.scenario === name && of(row) !== null))
      .map(({ name: value, label }) => ({ value, label }));
  const of = (name: string): (typeof MEASURES)[number] => {
    const found = MEASURES.find((measure) => measure.name === name) ?? MEASURES[0];
    if (found === undefined) {
      throw new Error('there is no measure');
    }
    return found;
  };
  const [framed, shows] = figure(heat(report, rows, scenario, of('median')));
  const what = element('div', {});
  const offer = (): void => {
    what.replaceChildren(choice('Show', there(scenario), (name) => { shows(heat(report, rows, scenario, of(name))); }));
  };
  offer();
  const requests = choice('Requests', scenarios.map((value) => ({ value, label: scenarioWords(value) })), (name) => {
    scenario = name;
    offer();
  });
  return [element('div', { class: 'choices' }, ...(scenarios.length > 1 ? [requests] : []), what), framed];
}

function charts(report: Report, group: Group): HTMLElement {
  const rows = ranked(report, group);
  const what = `${group.model}, ${scenarioWords(group.scenario)}`;
  const native = group.native === null ? null : row(report, group.native);
  const made = [spread(what, sampleWords(group.scenario), rows)];
  if (native !== null && isMeasured(native) && rows.some(({ shown }) => shown.over_native !== null)) {
    made.unshift(margins(what, native, rows));
  }
  if (rows.some(({ cell }) => cell.warm_up_us.length > 0)) {
    made.push(warmUp(what, rows));
  }
  return element('section', { class: 'group' }, element('h3', {}, what), element('div', { class: 'charts' },
    ...made.map((chart) => figure(chart)[0])));
}

function models(report: Report): HTMLElement[] {
  const groups = report.groups.filter((group) => drawable(report, group));
  if (groups.length <= GROUPS_MAX) {
    return groups.map((group) => charts(report, group));
  }
  const place = element('div', {});
  const options = groups.map((group, at) =>
    element('option', { value: String(at) }, `${group.model}, ${scenarioWords(group.scenario)}`));
  const select = element('select', {}, ...options);
  const show = (): void => {
    const group = groups[Number(select.value)];
    if (group !== undefined) {
      forget(place);
      place.replaceChildren(charts(report, group));
      drawAll();
    }
  };
  select.addEventListener('change', show);
  show();
  return [element('label', { class: 'select' }, `Of ${groups.length}, show `, select), place];
}

/** A chart for each way in which cells start. */
function starts(report: Report): HTMLElement[] {
  const rows = measuredRows(report).filter(({ shown }) => shown.cold.length > 0);
  const ways = [...new Set(rows.map(({ cell }) => cell.scenario))];
  return ways.map((way) => figure(coldStarts(scenarioWords(way), rows.filter(({ cell }) => cell.scenario === way)))[0]);
}

function roofs(report: Report): HTMLElement[] {
  const chart = roofline(report, measuredRows(report));
  return chart === null ? [] : [figure(chart)[0]];
}

function measuredRows(report: Report): Measured[] {
  return report.results.cells.map((_, at) => row(report, at)).filter(isMeasured);
}

function section(id: string, title: string, children: readonly HTMLElement[]): HTMLElement {
  return element('section', { id, 'aria-labelledby': `${id}-title` }, element('h2', { id: `${id}-title` }, title), ...children);
}

function draw(page: HTMLElement, report: Report): void {
  const { results } = report;
  document.title = `weft ${results.suite} ${results.id}`;
  const sections = [
    section('overview', 'Fastest lanes', overview(report)),
    section('lanes', 'Models and lanes', heatmap(report)),
    ...[section('starts', 'Cold starts', starts(report)), section('roofs', 'Computing and memory', roofs(report))]
      .filter((section) => section.childElementCount > 1),
    section('models', 'Model by model', models(report)),
    section('absent', 'Not measured, or not right', absent(report)),
    section('environment', 'Where it was measured', environment(report)),
    section('cells', 'All cells', cells(report)),
    section('method', 'How it was measured', method(report)),
  ];
  const links = sections.map((section) =>
    element('a', { href: `#${section.id}` }, section.querySelector('h2')?.textContent ?? ''));
  const whole = element('button', {
    type: 'button',
    click: () => { download(`${fileName(results.id)}.json`, 'application/json', JSON.stringify(results)); },
  }, 'The whole result, with every sample (JSON)');
  page.replaceChildren(head(report), element('nav', { 'aria-label': 'Parts' }, ...links), ...sections,
    element('footer', {}, whole));
  drawAll();
}

addEventListener('error', ({ message }) => { trouble(message); });
addEventListener('unhandledrejection', ({ reason }) => { trouble(String(reason)); });
document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
  trouble(`${violatedDirective} keeps it from ${blockedURI}`);
});

const page = document.getElementById('page');
const report = document.getElementById('report');
if (page === null || report === null) {
  throw new Error('the page has lost its parts');
}
draw(page, JSON.parse(report.textContent) as Report);
