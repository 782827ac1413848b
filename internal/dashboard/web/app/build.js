// The page of one build: follows it, and replays it when it is finished.

import { BuildProgress } from '../js/index.js';
import { $, setData, setText } from './dom.js';
import { isFinished, transports } from './format.js';
import { buildPath, call, eventsOf, home, now } from './api.js';
import { offerCancel } from './cancel.js';
import { Replay } from './replay.js';
import { View } from './view.js';

const tickEvery = 200; // ms between drawings of what runs

const id = decodeURIComponent(location.pathname.split('/').pop());
const view = new View(id);
const replay = new Replay(view, eventsOf(id));
let clock = 0;

function notice(text) {
  setText($('notice'), text);
  $('notice').hidden = !text;
}

function link(transport, text) {
  setData($('link'), 'transport', transport);
  setText($('link'), text);
}

/** A build that is not there yet has a status too: it is waited for. */
function show(status) {
  if (!status.lastEventId && !(Date.parse(status.createdAt) > 0)) return;
  view.show(status);
  $('cancel').hidden = isFinished(status);
  if (isFinished(status) && $('ask').open) $('ask').close();
}

/** Bars that run grow while somebody looks. */
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
  progress.addEventListener('status', ({ detail }) => show(detail));
  progress.addEventListener('transport', ({ detail }) => {
    if (!detail.transport) {
      link('none', 'connecting');
      return;
    }
    link(detail.transport, transports[detail.transport] + (detail.shared ? ', shared by tabs' : ''));
    if (view.status) notice('');
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
    notice('This build was deleted and made again: here is the new one.');
  } else if (fatal) {
    clearInterval(clock);
    link('none', 'not followed');
    notice(`This build cannot be followed: ${message}.`);
  } else if (code === 'unreachable') {
    notice('The server does not answer at the moment. This page goes on by itself when it is back; what you see is the last that came.');
  }
}

/** The status comes first: it is there at once, where a long log takes a moment. */
async function begin() {
  if (!/^[A-Za-z0-9_-]{1,26}$/.test(id)) {
    link('none', 'no such build');
    notice('This cannot be a build: its id has 1 to 26 of A–Z a–z 0–9 _ -. The list of builds shows those that there are.');
    return;
  }
  offerCancel(id);
  try {
    show(await call(`${buildPath(id)}/status`));
  } catch (error) {
    if (error.status === 404) setText($('state'), 'Not here yet');
    if (error.status === 404) notice(`There is no build ${id} yet. It appears here as soon as its first event comes.`);
    else notice('The server does not answer at the moment. This page goes on by itself when it is back.');
  }
  follow();
}

begin();
