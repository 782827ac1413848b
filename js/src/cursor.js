import { fold, isTerminal, queued } from './fold.js';

/** @import { BuildEvent, Status, Told } from './types.js' */

/**
 * A cursor over one build's log: the id of the last event that was dispatched. All transports share it; two may feed it
 * at once, and each event passes once and in order.
 */
export class Cursor {
  /** @type {Status|null} true up to the cursor or beyond it; null: not known yet, or there is no such build */
  status = null;
  /** The server has answered that the build does not exist yet. */
  missing = false;
  /** The status is based on one from the server, not on an event that was assumed to be the first. */
  told = false;
  #known = 0;

  /**
   * @param {string} buildId
   * @param {number} at the last event that was seen already
   * @param {{from?: 'latest', tail?: number}|null} [start] where to begin instead; null once the server has told which
   *   id that is
   */
  constructor(buildId, at, start = null) {
    this.buildId = buildId;
    this.at = at;
    this.start = start;
  }

  /** The query that tells the server where to begin. */
  get where() {
    return this.start ?? { lastEventId: this.at };
  }

  /**
   * Takes over what the server says of the log, unless newer is known.
   * @param {Told} told
   */
  hear({ after, firstEventId = 1, lastEventId = this.at, status }) {
    if (this.start) {
      if (after !== undefined) [this.at, this.start] = [after, null];
    } else if (!this.at) {
      this.at = firstEventId - 1; // no event was seen, so none is missed
    }
    if (status) {
      if (status.lastEventId < Math.max(this.at, this.status?.lastEventId ?? 0)) return;
      this.status = status;
      this.missing = false;
      this.told = true;
    } else if (status === null && lastEventId >= this.at) {
      this.status = null;
      this.missing = this.told = true;
    }
  }

  /**
   * Takes what follows the cursor without a gap, and passes over what was handed on already.
   * @param {BuildEvent[]} events
   * @returns {BuildEvent[]} the new ones
   */
  take(events) {
    const fresh = [];
    for (const event of events) {
      if (event.buildId !== this.buildId) continue;
      if (event.id === this.at + 1 && !this.start) {
        this.at = event.id;
        fresh.push(event);
        this.#fold(event);
      } else if (event.id > this.at) {
        this.#known = Math.max(this.#known, event.id);
      }
    }
    return fresh;
  }

  /** @param {BuildEvent} event */
  #fold(event) {
    const before = event.id - 1;
    if (this.missing || (!before && !this.status)) {
      // The build's first event: the status is correct without the server's, except for the project.
      this.status = { ...queued(this.buildId), firstEventId: event.id, lastEventId: before };
      this.missing = this.told = false;
    }
    if (this.status?.lastEventId === before) this.status = fold(this.status, event);
  }

  /** An event arrived before its predecessors: they must be read. */
  get gap() {
    return this.#known > this.at;
  }

  /** The build is finished, and all events up to its status were dispatched. */
  get over() {
    return !this.start && isTerminal(this.status) && this.at >= (this.status?.lastEventId ?? 0) && !this.gap;
  }

  /**
   * Goes on from the first event that is kept. The status is not known then: the log may be that of a new build.
   * @param {number} first
   * @returns {{from: number, to: number}|undefined} the ids that were missed
   */
  skip(first) {
    const gap = { from: this.at + 1, to: first - 1 };
    if (!(gap.to >= gap.from)) return undefined;
    this.at = gap.to;
    this.#forget();
    return gap;
  }

  /** Begins again: the cursor belongs to another log. */
  restart() {
    this.at = this.#known = 0;
    this.#forget();
  }

  #forget() {
    this.status = null;
    this.missing = this.told = false;
  }
}
