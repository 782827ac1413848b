// The page of webhooks: endpoints and how they fare, and the deliveries that failed. It asks again and again while
// somebody looks.

import { $, el, setData, setText, setTime } from './dom.js';
import { ago, duration, plural } from './format.js';
import { call, now } from './api.js';
import { ask, editEndpoint, showSecret } from './webhookforms.js';
import { Deliveries } from './deliveries.js';

const every = 3000; // ms between polls
const base = 'api/webhooks';

let key = ''; // stays on this page and is not stored
let timer;
let round = 0; // of polls: only the answer to the latest is shown
const cards = new Map(); // endpoint id -> card
const deliveries = new Deliveries(send, notice);

function send(path, method = 'GET', body) {
  return call(base + path, { method, body, key });
}

function notice(text) {
  setText($('notice'), text);
  $('notice').hidden = !text;
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  try {
    const [{ endpoints }, status] = await Promise.all([send('/endpoints'), send('/status')]);
    if (mine !== round) return;
    $('login').hidden = true;
    $('content').hidden = $('add').hidden = false;
    draw(endpoints, status);
    await deliveries.refresh(endpoints);
    if (mine !== round) return;
    notice('');
  } catch (error) {
    if (mine !== round) return;
    if (error.status === 401) {
      askForKey();
      return;
    }
    notice(error.status === 0
      ? 'The server does not answer at the moment. This page continues by itself when it is back.'
      : `Webhooks cannot be read: ${error.message}.`);
  }
  if (!document.hidden) timer = setTimeout(refresh, every);
}

function askForKey() {
  setText($('login-error'), key ? 'This is not a key of this server.' : '');
  $('content').hidden = $('add').hidden = true;
  $('login').hidden = false;
  $('key').focus();
}

function draw(endpoints, status) {
  const known = new Set(endpoints.map((e) => e.id));
  for (const [id, card] of cards) {
    if (known.has(id)) continue;
    card.item.remove();
    cards.delete(id);
  }
  endpoints.forEach((endpoint, i) => {
    let card = cards.get(endpoint.id);
    if (!card) cards.set(endpoint.id, (card = newCard(endpoint.id)));
    update(card, endpoint, status.endpoints.find((s) => s.endpointId === endpoint.id));
    if ($('endpoints').children[i] !== card.item) $('endpoints').insertBefore(card.item, $('endpoints').children[i] ?? null);
  });
  $('empty').hidden = endpoints.length > 0;
  setText($('count'), endpoints.length ? plural(endpoints.length, 'endpoint') : '');
  const { bytes, windows } = status.log;
  setText($('log'), `The database takes ${size(bytes)}. ` + ['1h', '24h', '7d'].map((w) =>
    `${plural(windows[w].events, 'event')} (${size(windows[w].bytes)}) in ${spans[w]}`).join(', ') + '.');
}

const spans = { '1h': 'the last hour', '24h': '24 hours', '7d': '7 days' };

function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  for (; bytes >= 1000 && i < units.length - 1; i++) bytes /= 1000;
  return `${i ? bytes.toFixed(1) : bytes} ${units[i]}`;
}

const facts = { success: 'Arrived, 1 h · 24 h · 7 d', took: 'Answers in, p50 · p99', waiting: 'Waiting', retrying: 'Retrying', dead: 'Dead' };

function newCard(id) {
  const card = {
    state: el('span', 'state'), url: el('span', 'url mono'), about: el('p', 'about'), why: el('p', 'why'),
    said: el('pre', 'said'), numbers: {}, toggle: button('Disable'), endpoint: null,
  };
  const list = el('dl', 'numbers');
  for (const [name, title] of Object.entries(facts)) {
    card.numbers[name] = el('dd');
    list.append(el('div', '', el('dt', '', title), card.numbers[name]));
  }
  const tools = el('div', 'tools');
  for (const [text, act] of [['Test', test], ['Edit', edit], ['', toggle], ['New secret', rotate], ['Rewind', rewind], ['Redeliver dead', redeliver], ['Delete', remove]]) {
    const b = text ? button(text) : card.toggle;
    b.addEventListener('click', () => act(card));
    tools.append(b);
  }
  card.said.hidden = true;
  card.said.setAttribute('role', 'status');
  card.item = el('li', 'endpoint', el('div', 'first', card.state, card.url), card.about, card.why, list, tools, card.said);
  card.item.id = `endpoint-${id}`;
  return card;
}

const button = (text) => Object.assign(el('button', '', text), { type: 'button' });

function update(card, endpoint, status) {
  card.endpoint = endpoint;
  const { breaker } = endpoint;
  const open = endpoint.enabled && breaker.state !== 'closed';
  setData(card.state, 'state', open ? 'open' : endpoint.enabled ? 'enabled' : 'disabled');
  setText(card.state, open ? 'Not answering' : endpoint.enabled ? 'Enabled' : 'Disabled');
  setText(card.url, endpoint.url);
  setText(card.about, about(endpoint));
  setText(card.why, open ? whyOpen(breaker) : endpoint.disabledReason ?? '');
  card.why.hidden = !card.why.textContent;
  setText(card.toggle, endpoint.enabled ? 'Disable' : 'Enable');
  if (!status) return;
  const share = (w) => (status.windows[w].success == null ? '–' : `${percent(status.windows[w].success)}`);
  const day = status.windows['24h'];
  setText(card.numbers.success, ['1h', '24h', '7d'].map(share).join(' · '));
  setText(card.numbers.took, day.p50Ms == null ? '–' : `${duration(day.p50Ms)} · ${duration(day.p99Ms)}`);
  setText(card.numbers.waiting, status.backlog ? `${plural(status.backlog, 'event')} of ${plural(status.cursors, 'build')}` : '0');
  setText(card.numbers.retrying, status.retrying.toLocaleString('en'));
  setText(card.numbers.dead, status.dead.toLocaleString('en'));
  card.numbers.retrying.className = status.retrying ? 'warn' : '';
  card.numbers.dead.className = status.dead ? 'bad' : '';
}

// Rounds down: 99.95 % must not be shown as 100 %.
const percent = (share) => `${share === 1 ? 100 : Math.floor(share * 1000) / 10} %`;

function about(e) {
  const followed = [...e.builds.map((b) => `build ${b}`), ...e.projects.map((p) => `project ${p}`)].join(', ');
  return [
    e.description, e.types.length ? e.types.join(', ') : 'all events', followed || 'of all builds',
    e.ordering === 'strict' ? 'strict order' : '', e.payload === 'thin' ? 'without data' : '', e.rateLimit ? `${e.rateLimit} a second at most` : '',
  ].filter(Boolean).join(' · ');
}

function whyOpen({ reason, openedAt, probeAt }) {
  const wait = Date.parse(probeAt) - now();
  const next = wait > 1000 ? `tried again in ${duration(wait)}` : 'tried again now';
  return `${reason}. Events wait since ${ago(openedAt, now())}; ${next}.`;
}

/** Runs a user's action and shows its result. */
async function act(card, what) {
  try {
    await what();
  } catch (error) {
    say(card, `It failed: ${error.message}.`);
  }
  await refresh();
}

function say(card, text) {
  setText(card.said, text);
  card.said.hidden = !text;
}

const pathOf = ({ endpoint }, below = '') => `/endpoints/${encodeURIComponent(endpoint.id)}${below}`;

function test(card) {
  say(card, 'Asking the receiver …');
  return act(card, async () => {
    const { status, durationMs, error, response } = await send(pathOf(card, '/test'), 'POST');
    const head = status ? `It answered ${status} in ${duration(durationMs)}` : `No answer after ${duration(durationMs)}`;
    say(card, [error ? `${head}: ${error}.` : `${head}.`, response].filter(Boolean).join('\n'));
  });
}

function edit(card) {
  return editEndpoint(card.endpoint, (change) => send(pathOf(card), 'PATCH', change)).then(refresh);
}

function toggle(card) {
  const { enabled } = card.endpoint;
  if (!enabled) return act(card, () => send(pathOf(card), 'PATCH', { enabled: true }));
  return ask({
    title: 'Disable this endpoint?', text: 'Nothing is sent until it is enabled again. Builds that begin meanwhile are not sent to it later.', yes: 'Disable',
    act: () => send(pathOf(card), 'PATCH', { enabled: false }),
  }).then(refresh);
}

async function rotate(card) {
  let made;
  await ask({
    title: 'Make a new secret?', text: 'Requests are signed with both for the hours given, so that the receiver can change over.', yes: 'Make it',
    fields: [{ name: 'hours', label: 'Hours that both sign', type: 'number', value: '24', min: 0, max: 168 }],
    act: async ({ hours }) => {
      made = await send(pathOf(card, '/rotate-secret'), 'POST', { overlapSeconds: Math.round(Number(hours) * 3600) });
    },
  });
  if (made) showSecret(made.secret);
  await refresh();
}

function rewind(card) {
  return ask({
    title: 'Deliver again from an event on', text: 'The events of the build are sent again, from this one on.', yes: 'Rewind',
    fields: [{ name: 'buildId', label: 'Build', required: true, maxLength: 26 }, { name: 'eventId', label: 'Event', type: 'number', value: '1', min: 1 }],
    act: ({ buildId, eventId }) => send(pathOf(card, '/rewind'), 'POST', { buildId, eventId: Number(eventId) }),
  }).then(refresh);
}

function redeliver(card) {
  return ask({
    title: 'Redeliver what was given up', text: 'All dead events of this endpoint that were last tried within these hours are tried again.', yes: 'Redeliver',
    fields: [{ name: 'hours', label: 'Hours', type: 'number', value: '24', min: 1, max: 168 }],
    act: async ({ hours }) => {
      const since = new Date(now() - Number(hours) * 3_600_000).toISOString();
      const { redelivered } = await send(pathOf(card, '/redeliver'), 'POST', { since });
      say(card, redelivered ? `${plural(redelivered, 'event')} will be tried again.` : 'There was none.');
    },
  }).then(refresh);
}

function remove(card) {
  return ask({
    title: 'Delete this endpoint?', text: `${card.endpoint.url} is sent nothing any more, and what waits for it is gone.`, yes: 'Delete', danger: true,
    act: () => send(pathOf(card), 'DELETE'),
  }).then(refresh);
}

$('add').addEventListener('click', async () => {
  let made;
  await editEndpoint(null, async (asked) => (made = await send('/endpoints', 'POST', asked)));
  if (made) showSecret(made.secret);
  await refresh();
});
$('login').addEventListener('submit', (event) => {
  event.preventDefault();
  key = $('key').value;
  refresh();
});
document.addEventListener('visibilitychange', () => (document.hidden ? clearTimeout(timer) : refresh()));
refresh();
