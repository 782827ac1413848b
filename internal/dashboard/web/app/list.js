// The list of builds. It polls the newest page while it is visible; the filters are in its address.
//
// It polls instead of streaming: one answer of a kilobyte has the builds that are new, that left the filter, and that
// changed. A stream of the running builds (/events?build=…) has each line of their output, needs one of the six
// connections that a browser has for all tabs, and does not report new builds.

import { $, el, setData, setText, setTime } from './dom.js';
import { ago, isFinished, plural, took, words } from './format.js';
import { call, home, now } from './api.js';

const every = 2000; // ms between polls
const everyRunning = 1000; // while a build runs
const pageSize = 50;
const maxPolled = 200; // of the newest builds; older ones are not polled again

const filter = $('filter');
const list = $('builds');
const rows = new Map(); // build id -> row
let builds = []; // of the newest page, then the older ones
let next = '';
let wanted = pageSize;
let asking; // AbortController of the request under way
let timer;

function query(extra = {}) {
  const q = new URLSearchParams();
  if (filter.q.value.trim()) q.set('q', filter.q.value.trim());
  if (filter.status.value) q.set('status', filter.status.value);
  if (filter.project.value.trim()) q.set('project', filter.project.value.trim());
  for (const [name, value] of Object.entries(extra)) q.set(name, value);
  return q;
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const page = await call(`api/builds?${query({ limit: Math.min(wanted, maxPolled) })}`, { signal: mine.signal });
    take(page);
    notice('');
  } catch (error) {
    if (mine.signal.aborted) return;
    notice(error.status === 0
      ? 'The server does not answer at the moment. The list continues by itself when it is back.'
      : `The list could not be read: ${error.message}.`);
  }
  if (!document.hidden) timer = setTimeout(refresh, builds.every(isFinished) ? every : everyRunning);
}

function take(page) {
  const first = new Set(page.builds.map((b) => b.buildId));
  const older = wanted > maxPolled ? builds.slice(maxPolled).filter((b) => !first.has(b.buildId)) : [];
  builds = [...page.builds, ...older];
  if (!older.length) next = page.next;
  draw();
}

async function more() {
  wanted += pageSize;
  $('older').disabled = true;
  if (wanted <= maxPolled) {
    await refresh();
  } else {
    try {
      const page = await call(`api/builds?${query({ limit: pageSize, before: next })}`);
      builds.push(...page.builds);
      next = page.next;
      draw();
    } catch (error) {
      notice(`Older builds could not be read: ${error.message}.`);
    }
  }
  $('older').disabled = false;
}

/** Draws the builds. It reuses the rows, so that focus and selection stay. */
function draw() {
  const keep = new Set(builds.map((b) => b.buildId));
  for (const [id, row] of rows) {
    if (keep.has(id)) continue;
    row.item.remove();
    rows.delete(id);
  }
  builds.forEach((b, i) => {
    let row = rows.get(b.buildId);
    if (!row) rows.set(b.buildId, (row = newRow(b)));
    update(row, b);
    if (list.children[i] !== row.item) list.insertBefore(row.item, list.children[i] ?? null);
  });
  list.setAttribute('aria-busy', 'false');
  $('older').hidden = !next;
  summarise(builds);
  offerProjects();
}

function newRow({ buildId }) {
  const row = {
    state: el('span', 'state'), project: el('b'), id: el('span', 'mono', buildId), message: el('span', 'message'),
    meter: document.createElement('progress'), percent: el('span', 'percent'), when: el('time', 'when'), took: el('span', 'took'),
  };
  row.meter.max = 100;
  row.meter.setAttribute('aria-hidden', 'true'); // the percentage beside it is read
  const link = el('a', 'row', row.state, el('span', 'name', row.project, row.id), row.message, row.meter, row.percent, row.when, row.took);
  link.href = `${home}builds/${encodeURIComponent(buildId)}`;
  row.item = el('li', '', link);
  return row;
}

function update(row, b) {
  setData(row.state, 'state', b.status);
  setText(row.state, words[b.status] ?? b.status);
  setText(row.project, b.project);
  row.project.hidden = !b.project;
  setText(row.message, b.message);
  row.message.title = b.message;
  setData(row.meter, 'state', b.status);
  if (row.meter.value !== b.progress) row.meter.value = b.progress;
  setText(row.percent, `${b.progress} %`);
  setTime(row.when, b.createdAt, ago(b.createdAt, now()));
  setText(row.took, b.startedAt ? took(b, now()).replace(/\.\d s$/, ' s') : '');
}

function summarise(shown) {
  const running = shown.filter((b) => !isFinished(b)).length;
  setText($('count'), shown.length ? `${plural(shown.length, 'build')}${next ? ' shown' : ''}${running ? `, ${running} running` : ''}` : '');
  const empty = $('empty');
  empty.hidden = shown.length > 0;
  const filtered = filter.q.value || filter.status.value || filter.project.value;
  if (empty.hidden || empty.dataset.filtered === String(Boolean(filtered))) return;
  empty.dataset.filtered = String(Boolean(filtered));
  if (filtered) empty.replaceChildren('No build matches the filter.');
  else empty.replaceChildren('There are no builds yet. Start one here, or in a terminal:', el('br'), el('code', '', 'buildcast build PLAN.yaml'));
}

function offerProjects() {
  const names = [...new Set(builds.map((b) => b.project).filter(Boolean))].sort();
  const known = $('projects');
  if (known.dataset.names === names.join('\n')) return;
  known.dataset.names = names.join('\n');
  known.replaceChildren(...names.map((name) => Object.assign(el('option'), { value: name })));
}

function notice(text) {
  setText($('notice'), text);
  $('notice').hidden = !text;
}

/** Keeps the filter in the address, so that a reload and a link have it. */
function remember() {
  const q = query();
  history.replaceState(null, '', q.size ? `?${q}` : location.pathname);
}

function filterChanged() {
  remember();
  wanted = pageSize;
  builds = [];
  clearTimeout(timer);
  timer = setTimeout(refresh, 150); // wait until the user stops typing
}

const asked = new URLSearchParams(location.search);
for (const name of ['q', 'status', 'project']) filter[name].value = asked.get(name) ?? '';
filter.addEventListener('input', filterChanged);
filter.addEventListener('submit', (event) => event.preventDefault());
$('older').addEventListener('click', more);
document.addEventListener('visibilitychange', () => (document.hidden ? clearTimeout(timer) : refresh()));
refresh();
