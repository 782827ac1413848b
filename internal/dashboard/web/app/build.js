// The page of one build: follows it, and replays it when it is finished.

import { BuildProgress } from '../js/index.js';
import { $, el, setData, setText } from './dom.js';
import { isFinished, transports } from './format.js';
import { buildPath, call, eventsOf, home, now } from './api.js';
import { close, offer } from './asking.js';
import { Replay } from './replay.js';
import { Request } from './request.js';
import { View } from './view.js';

const tickEvery = 200; // ms between drawings of running steps

const id = decodeURIComponent(location.pathname.split('/').pop());
const view = new View(id);
const replay = new Replay(view, eventsOf(id));
const request = new Request(id);
let clock = 0;

/** Shows a notice, or none; `back`: with a link to the list of builds. */
function notice(text, back = false) {
  if (text === $('notice').dataset.text) return;
  $('notice').dataset.text = text;
  $('notice').replaceChildren(text);
  if (back) $('notice').append(' ', Object.assign(el('a', '', 'All builds'), { href: home }));
  $('notice').hidden = !text;
}

function link(transport, text) {
  setData($('link'), 'transport', transport);
  setText($('link'), text);
}

function show(status) {
  view.show(status);
  request.show(status);
  $('cancel').hidden = isFinished(status);
  if (isFinished(status)) close('ask');
}

/** The build does not exist yet: the page waits for it. */
function missing() {
  view.missing();
  replay.forget();
  request.forget();
  $('cancel').hidden = true;
  close('ask');
  notice(`There is no build ${id} yet. This page shows it as soon as it exists.`, true);
}

/** Bars of running steps grow while the page is visible. */
function startClock() {
  clock ||= setInterval(() => document.hidden || view.tick(now()), tickEvery);
}

function follow() {
  const progress = new BuildProgress(id, { url: home });
  progress.addEventListener('update', ({ detail }) => {
    notice('');
    view.add(detail.events);
    replay.keep(detail.events);
    if (detail.status) show(detail.status);
    view.tick(now());
  });
  progress.addEventListener('status', ({ detail }) => {
    notice('');
    show(detail);
    label();
  });
  progress.addEventListener('missing', () => {
    missing();
    label();
  });
  progress.addEventListener('gap', () => {
    view.clear(); // the next events may belong to another build with this id
    replay.forget();
    request.forget();
  });
  let by = { transport: null, shared: false };
  const label = () => {
    const { transport, shared } = by;
    if (!transport) link('none', 'connecting');
    else link(transport, `${progress.missing ? 'waiting' : 'live'} · ${transports[transport]}${shared ? ', shared by tabs' : ''}`);
  };
  progress.addEventListener('transport', ({ detail }) => {
    by = detail;
    label();
    if (by.transport && view.status) notice('');
    if (by.transport && progress.missing) missing();
  });
  progress.addEventListener('end', ({ detail }) => {
    clearInterval(clock);
    link('ended', 'finished');
    notice('');
    if (detail.status) show(detail.status);
    view.tick(now());
    if (detail.status) replay.offer(detail.status);
  });
  progress.addEventListener('error', ({ detail }) => failed(detail));
  startClock();
}

function failed({ code, message, fatal }) {
  if (code === 'cursor_ahead') {
    view.clear();
    replay.forget();
    notice('The log of this build ends before what was shown here, as after a restored backup: here it is from its beginning.');
  } else if (fatal) {
    clearInterval(clock);
    link('none', 'not followed');
    notice(`This build cannot be followed: ${message}.`, true);
  } else if (code === 'unreachable') {
    notice(view.status
      ? 'The server does not answer at the moment. This page continues by itself when it is back; it shows what came last.'
      : 'The server does not answer at the moment. This page continues by itself when it is back.');
  }
}

/** Reads the status first: it arrives sooner than a long log. */
async function begin() {
  if (!/^[A-Za-z0-9_-]{1,26}$/.test(id)) {
    link('none', 'no such build');
    setText($('state'), 'No such build');
    notice('This address cannot be that of a build: a build\'s id has 1 to 26 of A–Z a–z 0–9 _ -.', true);
    return;
  }
  offer($('cancel'), $('ask'), 'be cancelled', (key) => call(`${buildPath(id)}/cancel`, { method: 'POST', key }));
  try {
    show(await call(`${buildPath(id)}/status`));
  } catch (error) {
    if (error.status === 404) missing();
    else failed({ code: 'unreachable' });
  }
  follow();
}

begin();
