// Replays a finished build from its log, in the same view that showed it live.

import { $, setText } from './dom.js';
import { duration } from './format.js';
import { Pages } from './pages.js';
import { fold, queued } from '../js/fold.js';

const ahead = [500, 1500, 2500, 3500]; // pages with the events that are so far ahead are read in advance

export class Replay {
  #view;
  #pages;
  #final = null; // the build's status at the end
  #start = 0; // when the first event happened
  #end = 0; // when the build ended
  #at = 0; // ms since the start
  #done = 0; // the last event that is drawn
  #status = null;
  #playing = 0; // the requested animation frame; 0: paused
  #last = 0; // when the last frame was drawn
  #turn = 0; // increases when a drawing under way becomes obsolete

  constructor(view, readEvents) {
    this.#pages = new Pages(readEvents);
    this.#view = view;
    $('replay').addEventListener('submit', (event) => event.preventDefault());
    $('play').addEventListener('click', () => (this.#playing ? this.pause() : this.#play()));
    $('seek').addEventListener('input', ({ target }) => {
      this.pause();
      this.#seek((target.value / 1000) * this.#length);
      this.#label();
    });
  }

  /** Keeps live events for the replay. */
  keep(events) {
    for (const event of events) {
      this.#start ||= Date.parse(event.timestamp);
      this.#pages.add(event);
    }
  }

  forget() {
    this.pause();
    this.#start = 0;
    this.#pages.clear();
  }

  /** The build is finished: offers the replay. */
  offer(status) {
    this.#final = status;
    this.#end = Date.parse(status.finishedAt);
    if (!(this.#length > 0)) return;
    this.#at = this.#length;
    this.#done = this.#pages.length;
    $('replay').hidden = false;
    this.#showClock();
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
    this.#turn++;
    this.#label();
  }

  #label() {
    setText($('play'), this.#playing ? 'Pause' : this.#at >= this.#length ? 'Replay' : 'Continue');
  }

  async #step(t) {
    this.#at = Math.min(this.#length, this.#at + Math.max(0, t - this.#last) * Number($('speed').value));
    this.#last = t;
    if (!await this.#forward()) return;
    if (this.#at >= this.#length) this.pause();
    else this.#playing = requestAnimationFrame((next) => this.#step(next));
  }

  #seek(at) {
    if (at < this.#at) {
      this.#view.clear();
      this.#done = this.#pages.first - 1;
      const { buildId, project, createdAt } = this.#final;
      this.#status = { ...queued(buildId), project, createdAt, updatedAt: createdAt };
    }
    this.#at = at;
    this.#forward();
  }

  /**
   * Draws up to the moment where the replay is.
   * @returns {Promise<boolean>} it is there, and nothing else has been asked for meanwhile
   */
  async #forward() {
    const turn = ++this.#turn;
    try {
      while (!this.#draw()) {
        this.#readAhead();
        await this.#pages.load(this.#done + 1);
        if (turn !== this.#turn) return false;
        this.#last = performance.now(); // the replay's clock stops while the log is read
      }
    } catch (error) {
      this.pause();
      setText($('clock'), `Not read: ${error.message}`);
      return false;
    }
    this.#readAhead();
    return true;
  }

  #readAhead() {
    for (const n of ahead) this.#pages.load(this.#done + n).catch(() => {}); // the error is shown when the page is needed
  }

  /** @returns {boolean} all events up to the moment were in memory */
  #draw() {
    const moment = this.#start + this.#at;
    const fresh = [];
    let event;
    while ((event = this.#pages.get(this.#done + 1)) && (this.#at >= this.#length || Date.parse(event.timestamp) <= moment)) {
      this.#done++;
      this.#status = fold(this.#status, event);
      fresh.push(event);
    }
    const all = this.#done === this.#pages.length;
    if (fresh.length) this.#view.add(fresh);
    if (fresh.length || this.#done < this.#pages.first) this.#view.show(all ? this.#final : this.#status);
    this.#view.tick(moment, this.#length);
    this.#showClock();
    return all || Boolean(event);
  }

  #showClock() {
    const value = String(Math.round((this.#at / this.#length) * 1000));
    if ($('seek').value !== value) $('seek').value = value;
    $('seek').setAttribute('aria-valuetext', `${duration(this.#at)} of ${duration(this.#length)}`);
    setText($('clock'), `${duration(this.#at)} / ${duration(this.#length)}`);
  }
}
