import { BuildError } from './error.js';
import { catchUp } from './http.js';

/** @import { Connection } from './connection.js' */
/** @import { BuildEvent, Host, Status, Transport } from './types.js' */

/**
 * The leader's message: on each change, on a question, and as a heartbeat.
 * @typedef {object} Word
 * @property {BuildEvent[]} events that are new
 * @property {number} at the leader's cursor after them
 * @property {Status|null} status
 * @property {boolean} missing
 * @property {Transport|null} transport
 * @property {boolean} over
 */

/** Whether the tabs of an origin can share here. */
export const canShare = () => globalThis.navigator?.locks && globalThis.BroadcastChannel;

/** A follower's question: it is new, or may have missed events. */
const hello = 'hello';

/**
 * One connection for all tabs of an origin, because browsers allow six to a host. The tab that holds the lock leads and
 * has the connection; the others listen to it and wait for the lock, so that the browser replaces a leader that is closed
 * or crashes. If a leader holds the lock but is silent, another tab steals the lock.
 */
export class Sharing {
  /** @type {BroadcastChannel|undefined} */
  #channel;
  /** Ends a follower's requests, and its wait for the lock. */
  #session = new AbortController();
  /** @type {(() => void)|undefined} set while leading */
  #release;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  #catchingUp = false;

  /**
   * @param {string} name shared by those who follow the same build
   * @param {Host} host
   * @param {Connection} connection
   */
  constructor(name, host, connection) {
    this.name = name;
    this.host = host;
    this.connection = connection;
  }

  start() {
    this.stop();
    this.#session = new AbortController();
    this.#catchingUp = false;
    try {
      this.#channel = new BroadcastChannel(this.name);
      this.#channel.onmessage = ({ data }) => {
        if (!this.#release) this.#follow(data);
        else if (data === hello) this.tell({});
      };
      this.#channel.postMessage(hello);
      this.#wait(false);
      this.#hearIn(2);
    } catch {
      this.#alone();
    }
  }

  stop() {
    this.#session.abort();
    this.#yield();
    clearTimeout(this.#timer);
    this.#channel?.close();
    this.#channel = undefined;
  }

  /**
   * Tells the followers, if this one leads.
   * @param {Partial<Word>} word
   */
  tell(word) {
    if (!this.#release) return;
    const { cursor, transport } = this.host;
    const { at, status, missing } = cursor;
    this.#channel?.postMessage({ events: [], at, status, missing, transport, ...word });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.tell({}), this.host.timing.beat);
  }

  /**
   * Asks for the lock.
   * @param {boolean} steal from a leader that says nothing
   */
  #wait(steal) {
    const { signal } = this.#session;
    const lead = () => {
      if (signal.aborted || this.#release) return;
      return new Promise((/** @type {(_: void) => void} */ resolve) => {
        this.#release = resolve;
        this.connection.start();
        this.tell({});
      });
    };
    navigator.locks.request(this.name, steal ? { steal } : { signal }, lead).catch((thrown) => {
      if (signal.aborted) return;
      if (thrown.name !== 'AbortError') return this.#alone();
      this.#yield(); // another tab stole the lock because this one was silent
      this.#hearIn(3);
      this.#wait(false);
    });
  }

  /** @param {Word|'hello'} word */
  #follow(word) {
    if (word === hello) return;
    const { host } = this;
    const { cursor } = host;
    this.#hearIn(3);
    host.carried(word.transport, true);
    host.take(word.events, { status: word.missing ? null : word.status ?? undefined, lastEventId: word.at });
    // It does not know yet where it begins; or is behind the leader; or ahead of the log itself, which a poll then tells.
    if (cursor.start || word.at > cursor.at || (word.status && word.status.lastEventId < cursor.at)) this.#catchUp();
    else if (word.over) host.finish();
  }

  #catchUp() {
    const { host } = this;
    const { cursor } = host;
    const { at } = cursor;
    const { signal } = this.#session;
    if (this.#catchingUp) return;
    this.#catchingUp = true;
    catchUp(host, signal)
      .catch((thrown) => {
        const error = BuildError.from(thrown, 'refused');
        if (!signal.aborted) host.failed(error);
      })
      .then(() => {
        if (signal.aborted) return;
        this.#catchingUp = false;
        if (cursor.over) host.finish();
        else if (cursor.at !== at) this.#channel?.postMessage(hello); // the cursor has moved meanwhile
      });
  }

  /** @param {number} beats after so many silent ones the leader is replaced */
  #hearIn(beats) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#hearIn(3);
      this.#wait(true);
    }, beats * this.host.timing.beat);
  }

  #yield() {
    this.connection.stop();
    this.#release?.();
    this.#release = undefined;
  }

  /** Continues alone: this page may not share, such as one in a sandboxed frame. */
  #alone() {
    this.stop();
    this.connection.start();
  }
}
