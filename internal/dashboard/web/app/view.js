// Shows a build at one moment: now, or a moment of a replay.

import { $, setData, setText, setTime } from './dom.js';
import { ago, asText, isFinished, took, words } from './format.js';
import { Chart } from './chart.js';
import { EventList } from './events.js';
import { Facts } from './facts.js';
import { Log } from './log.js';
import { Preview } from './preview.js';
import { Timeline } from './timeline.js';
import { eventsOf } from './api.js';

const quietFor = 4000; // ms between two sentences for a screen reader

export class View {
  status = null;
  #last = 0; // the last event that was added, or is no longer kept
  timeline = new Timeline();
  #chart = new Chart($('axis'), $('rows'));
  #events = new EventList($('events'));
  #log;
  #facts = new Facts();
  #preview = new Preview();
  #target = ''; // of the deploy
  #spoken = '';
  #spokenAt = 0;

  constructor(buildId) {
    this.#log = new Log($('log'), $('follow'), $('only'), eventsOf(buildId));
    setText($('id'), buildId);
    setText($('name'), buildId);
  }

  /** Clears the page for another log or another moment. */
  clear() {
    this.#last = 0;
    this.timeline = new Timeline();
    this.#chart.clear();
    this.#events.clear();
    this.#log.clear();
    this.#facts.clear();
  }

  add(events) {
    let facts = false;
    for (const event of events) {
      this.#keptFrom(event.id);
      this.#last = event.id;
      this.timeline.add(event);
      this.#events.add(event);
      this.#log.add(event);
      facts = this.#facts.add(event) || facts;
      if (event.type === 'deploy_completed') this.#target = asText(event.data?.target);
    }
    if (facts) this.#facts.draw();
  }

  /** Reports that the events between the last one and this one are no longer kept. */
  #keptFrom(id) {
    if (!(id > this.#last + 1)) return;
    for (const part of [this.#events, this.#log]) part.miss(this.#last + 1, id - 1);
    this.#last = id - 1;
  }

  /** There is no such build yet. */
  missing() {
    this.clear();
    this.status = null;
    document.title = `No such build yet · ${$('id').textContent}`;
    setText($('name'), $('id').textContent);
    setData($('state'), 'state', 'missing');
    setText($('state'), 'No such build yet');
    setText($('message'), '\u00a0');
    $('progress').value = 0;
    for (const part of ['percent', 'created', 'took', 'tasks']) setText($(part), '–');
    this.#preview.clear();
    setText($('spoken'), 'No such build yet');
  }

  /** Draws what depends on time. `span`: the least width of the timeline in ms. */
  tick(now, span) {
    this.#chart.draw(this.timeline, now, span);
    if (!this.status) return;
    setText($('took'), took(this.status, now));
    if (Date.parse(this.status.createdAt) > 0) setTime($('created'), this.status.createdAt, ago(this.status.createdAt, Date.now()));
  }

  show(status) {
    this.status = status;
    if (!this.#last) this.#keptFrom(status.firstEventId);
    setText($('took-name'), isFinished(status) ? 'Took' : 'Running for');
    const state = status.status;
    const name = status.project || status.buildId;
    setText($('name'), name);
    document.title = `${isFinished(status) ? words[state] : `${status.progress} %`} · ${name}`;
    setData($('state'), 'state', state);
    setText($('state'), words[state] ?? state);
    setData($('progress'), 'state', state);
    $('progress').value = status.progress;
    setText($('percent'), `${status.progress} %`);
    setData($('message'), 'state', state);
    setText($('message'), status.message || '\u00a0');
    const { total, completed, failed } = status.tasks;
    setText($('tasks'), total || completed ? `${completed} of ${total || '?'}${failed ? `, ${failed} failed` : ''}` : '–');
    this.#preview.show(status.previewUrl, this.#target);
    this.#say(status);
  }

  /** Announces the build's state to screen readers: each phase when it begins, and progress from time to time. */
  #say({ status, progress, message }) {
    const phase = words[status] ?? status;
    const same = this.#spoken.startsWith(`${phase},`);
    if (same && performance.now() - this.#spokenAt < quietFor) return;
    this.#spoken = `${phase}, ${progress} %. ${message}`;
    this.#spokenAt = performance.now();
    setText($('spoken'), this.#spoken);
  }
}
