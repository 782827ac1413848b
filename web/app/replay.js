// Replays a finished build from its events, in the same view that showed it live.

import { $, setText } from './dom.js';
import { duration } from './format.js';
import { fold, queued } from '/assets/js/fold.js';

const longest = 20_000; // events that are kept for a replay

export class Replay {
  #view;
  #events = [];
  #final = null; // the build's status at the end
  #tooLong = false;
  #at = 0; // ms since the first event
  #done = 0; // events that are drawn
  #status = null;
  #playing = 0; // the frame that was asked for; 0: stands still
  #last = 0; // when the last frame was drawn
  #end = 0; // when the build ended

  constructor(view) {
    this.#view = view;
    $('replay').addEventListener('submit', (event) => event.preventDefault());
    $('play').addEventListener('click', () => (this.#playing ? this.pause() : this.#play()));
    $('seek').addEventListener('input', ({ target }) => {
      this.pause();
      this.#seek((target.value / 1000) * this.#length);
      this.#label();
    });
  }

  /** Keeps what has come, for later. */
  keep(events) {
    if (this.#tooLong || this.#events.length + events.length > longest) {
      this.#tooLong = true;
      this.#events = [];
      return;
    }
    for (const event of events) this.#events.push(event);
  }

  forget() {
    this.pause();
    this.#events = [];
    this.#tooLong = false;
  }

  /** The build is finished: offers the replay. */
  offer(status) {
    this.#final = status;
    const end = this.#events.findIndex((e) => /^(build_(completed|failed|cancelled)|deploy_(completed|failed))$/.test(e.type)
      || (e.type === 'task_failed' && !e.data?.willRetry));
    if (end >= 0) this.#end = Date.parse(this.#events[end].timestamp);
    if (this.#tooLong || this.#length <= 0) return;
    this.#at = this.#length;
    this.#done = this.#events.length;
    $('replay').hidden = false;
    this.#showClock();
  }

  get #start() {
    return Date.parse(this.#events[0]?.timestamp);
  }

  get #length() {
    return this.#end - this.#start;
  }

  #play() {
    if (this.#at >= this.#length) this.#seek(0);
    this.#last = performance.now();
    this.#playing = requestAnimationFrame((t) => this.#step(t));
    this.#label();
  }

  pause() {
    cancelAnimationFrame(this.#playing);
    this.#playing = 0;
    this.#label();
  }

  #label() {
    setText($('play'), this.#playing ? 'Pause' : this.#at >= this.#length ? 'Replay' : 'Go on');
  }

  #step(t) {
    this.#at = Math.min(this.#length, this.#at + Math.max(0, t - this.#last) * Number($('speed').value));
    this.#last = t;
    this.#forward();
    if (this.#at >= this.#length) this.pause();
    else this.#playing = requestAnimationFrame((next) => this.#step(next));
  }

  #seek(at) {
    if (at < this.#at) {
      this.#view.clear();
      this.#done = 0;
      const { buildId, project, createdAt } = this.#final;
      this.#status = { ...queued(buildId), project, createdAt, updatedAt: createdAt };
    }
    this.#at = at;
    this.#forward();
  }

  /** Draws up to the moment where the replay is. */
  #forward() {
    const moment = this.#start + this.#at;
    const fresh = [];
    while (this.#done < this.#events.length && (this.#at >= this.#length || Date.parse(this.#events[this.#done].timestamp) <= moment)) {
      const event = this.#events[this.#done++];
      this.#status = fold(this.#status, event);
      fresh.push(event);
    }
    if (fresh.length) {
      this.#view.add(fresh);
      this.#view.show(this.#done === this.#events.length ? this.#final : this.#status);
    } else if (!this.#done) {
      this.#view.show(this.#status);
    }
    this.#view.tick(moment, this.#length);
    this.#showClock();
  }

  #showClock() {
    const value = String(Math.round((this.#at / this.#length) * 1000));
    if ($('seek').value !== value) $('seek').value = value;
    $('seek').setAttribute('aria-valuetext', `${duration(this.#at)} of ${duration(this.#length)}`);
    setText($('clock'), `${duration(this.#at)} / ${duration(this.#length)}`);
  }
}
