import { fold, isTerminal } from './fold.js';

/** @import { BuildEvent, Status } from './types.js' */

/**
 * A cursor over one build's log: the id of the last event that was given, the same on every transport. Two transports
 * may feed it at once; each event passes once and in order.
 */
export class Cursor {
  /** @type {Status|null} true up to the cursor or beyond it; null: not known yet */
  status = null;
  #known = 0;

  /**
   * @param {string} buildId
   * @param {number} at the last event that was seen already
   */
  constructor(buildId, at) {
    this.buildId = buildId;
    this.at = at;
  }

  /**
   * Takes what follows the cursor without a gap, and passes over what was given already.
   * @param {BuildEvent[]} events
   * @returns {BuildEvent[]} the new ones
   */
  take(events) {
    const fresh = [];
    for (const event of events) {
      if (event.buildId !== this.buildId) continue;
      if (event.id === this.at + 1) {
        this.at = event.id;
        fresh.push(event);
        if (this.status?.lastEventId === event.id - 1) this.status = fold(this.status, event);
      } else if (event.id > this.at) {
        this.#known = Math.max(this.#known, event.id);
      }
    }
    return fresh;
  }

  /**
   * Takes over the server's fold, unless a newer one is known.
   * @param {Status|null|undefined} status
   */
  adopt(status) {
    if (status && (this.status?.lastEventId ?? 0) <= status.lastEventId) this.status = status;
  }

  /** An event was seen whose predecessors were not: they are to be read again. */
  get gap() {
    return this.#known > this.at;
  }

  /** The build is finished and all that its status counts was given. */
  get over() {
    return isTerminal(this.status) && this.at >= (this.status?.lastEventId ?? 0) && !this.gap;
  }

  /** Begins anew: the log is not the one that the cursor came from. */
  restart() {
    this.at = this.#known = 0;
    this.status = null;
  }
}
