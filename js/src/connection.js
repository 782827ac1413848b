import { Attempt } from './attempt.js';
import { Backoff } from './backoff.js';
import { BuildError } from './error.js';
import { longpoll, poll } from './transports/polling.js';
import { sse } from './transports/sse.js';
import { websocket } from './transports/websocket.js';

/** @import { Host, Transport } from './types.js' */

/** @type {Record<Transport, (attempt: Attempt) => Promise<void>>} */
const transports = { websocket, sse, longpoll, poll };

/** These errors are the same on every transport and do not go away by themselves. */
const lasting = /^(invalid_argument|permission_denied)$/;
const aboutToken = /^(unauthenticated|token_expired)$/;
const aboutCursor = /^cursor_(ahead|gone)$/;

/**
 * One transport, and its history on this network.
 * @typedef {object} Rung
 * @property {Transport} name
 * @property {number} shortLives how many connections in a row were cut soon
 * @property {number} blockedUntil the earliest time of the next attempt, by Date.now
 * @property {number} probeAfter how long it will be blocked after the next failure
 */

/**
 * A connection of this page: a ladder of transports, the best on top. It goes down the ladder until a transport works.
 * From time to time it tries the better ones, while the working one stays open.
 */
export class Connection {
  /** @type {Attempt|undefined} events come by this one */
  #live;
  /** @type {Attempt|undefined} not open yet: the next one, or a probe of a better one */
  #trial;
  /** @type {ReturnType<typeof setTimeout>|undefined} the next try if there is no live one, else the next probe */
  #timer;
  /** @type {Rung[]} */
  #rungs;
  #wanted = false;

  /**
   * @param {Host} host
   * @param {Transport[]} [names] the best first
   */
  constructor(host, names = /** @type {Transport[]} */ (Object.keys(transports))) {
    this.host = host;
    this.backoff = new Backoff(host.timing);
    const usable = names.filter((name) => transports[name] && (name !== 'websocket' || host.WebSocket));
    if (!usable.length) throw new TypeError('no usable transports');
    this.#rungs = usable.map((name) => ({
      name, shortLives: 0, blockedUntil: 0, probeAfter: host.timing.probe,
    }));
  }

  /** Connects, or reconnects: after a sleep or a change of network, the old connection may be dead. */
  start() {
    this.#drop();
    this.#wanted = true;
    this.backoff.reset();
    this.#try(0);
  }

  stop() {
    this.#wanted = false;
    this.#drop();
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#live?.abort();
    this.#trial?.abort();
    this.#live = this.#trial = undefined;
    this.host.carried(null);
  }

  /**
   * @param {number} from the best transport to be tried; the last one is never blocked
   * @param {boolean} [probe] try it, blocked or not
   */
  #try(from, probe = false) {
    clearTimeout(this.#timer);
    if (!this.#wanted) return; // a listener has just closed it
    const last = this.#rungs.length - 1;
    while (!probe && from < last && this.#rungs[from].blockedUntil > Date.now()) from++;
    this.#trial = new Attempt(this, from, transports[this.#rungs[from].name]);
  }

  /** @param {Attempt} attempt */
  onOpen(attempt) {
    const before = this.#live;
    this.#live = attempt;
    this.#trial = undefined;
    before?.abort(); // only now: it delivered events until the better one worked
    this.backoff.ease();
    // The better transports did not open although the server is reachable.
    for (const rung of this.#rungs.slice(0, before ? 0 : attempt.rung)) if (rung.blockedUntil < Date.now()) this.#block(rung);
    this.host.carried(this.#rungs[attempt.rung].name);
    this.#probeLater();
  }

  /**
   * @param {Attempt} attempt
   * @param {BuildError} error
   */
  onFail(attempt, error) {
    const wasLive = attempt === this.#live;
    if (wasLive) {
      this.#live = undefined;
      this.host.carried(null);
    } else {
      this.#trial = undefined;
    }
    const rung = this.#rungs[attempt.rung];
    if (this.#live && !aboutCursor.test(error.code)) {
      this.#block(rung);
      this.#probeLater();
    } else if (!this.#serverSaid(error)) {
      if (wasLive) this.#onCut(attempt, error, rung);
      else this.#onRefused(attempt, error);
    }
  }

  /**
   * Some errors are the server's word and not the transport's failure: another transport would hear the same.
   * @param {BuildError} error
   * @returns {boolean} it was one, and is dealt with
   */
  #serverSaid(error) {
    const { host } = this;
    const stale = aboutToken.test(error.code);
    const misplaced = aboutCursor.test(error.code);
    error.fatal = lasting.test(error.code) || (stale && !host.renewable);
    if (!error.fatal && !stale && !misplaced && !error.retryAfter) return false;
    host.failed(error);
    if (!error.fatal) this.#pause(error.retryAfter);
    return true;
  }

  /**
   * @param {Attempt} attempt
   * @param {BuildError} error
   * @param {Rung} rung
   */
  #onCut(attempt, error, rung) {
    if (Date.now() - attempt.openedAt >= this.host.timing.stable) {
      rung.shortLives = 0;
      rung.probeAfter = this.host.timing.probe;
      this.backoff.reset();
    } else {
      rung.shortLives++;
    }
    if (this.#trial) return; // a better one is being tried; if it fails, the descent continues from there
    const bad = error.code === 'stalled' || rung.shortLives >= this.host.timing.flaps;
    if (!bad || attempt.rung === this.#rungs.length - 1) return this.#pause();
    this.#block(rung);
    this.backoff.reset(); // only this transport made it wait
    this.#try(attempt.rung + 1);
  }

  /**
   * @param {Attempt} attempt
   * @param {BuildError} error
   */
  #onRefused(attempt, error) {
    if (attempt.rung < this.#rungs.length - 1) return this.#try(attempt.rung + 1);
    this.host.failed(new BuildError('unreachable', error.message, error));
    this.#pause();
  }

  /** @param {number} [atLeast] the wait that the server asked for, in milliseconds */
  #pause(atLeast) {
    this.#drop();
    if (this.#wanted) this.#timer = setTimeout(() => this.#try(0), this.backoff.next(atLeast));
  }

  /** @param {Rung} rung */
  #block(rung) {
    rung.blockedUntil = Date.now() + rung.probeAfter * (1 + Math.random() / 4);
    rung.probeAfter = Math.min(rung.probeAfter * 2, this.host.timing.probeMax);
  }

  /** Waits until one of the better transports may be tried again. */
  #probeLater() {
    clearTimeout(this.#timer);
    const better = this.#rungs.slice(0, this.#live?.rung);
    if (!better.length) return;
    const due = Math.min(...better.map((rung) => rung.blockedUntil));
    this.#timer = setTimeout(() => this.#try(better.findIndex((rung) => rung.blockedUntil === due), true), due - Date.now());
  }
}
