import { BuildError } from './error.js';
import { catchUp, readStatus } from './http.js';

/** @import { Connection } from './connection.js' */
/** @import { BuildEvent, Told } from './types.js' */

/** One attempt at one transport, from its first byte to its end. After abort() it reports nothing. */
export class Attempt {
  #abort = new AbortController();
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  #timer;
  #repairing = false;
  signal = this.#abort.signal;
  /** When it opened, by Date.now; 0: not yet. */
  openedAt = 0;

  /**
   * @param {Connection} connection
   * @param {number} rung which transport it is, in the connection's order
   * @param {(attempt: Attempt) => Promise<void>} transport
   */
  constructor(connection, rung, transport) {
    this.connection = connection;
    this.host = connection.host;
    this.rung = rung;
    transport(this).then(
      () => this.fail(new BuildError('cut')),
      (thrown) => this.fail(BuildError.from(thrown, this.openedAt ? 'cut' : 'refused')),
    );
  }

  /** Events get through. */
  opened() {
    if (this.openedAt || this.signal.aborted) return;
    this.openedAt = Date.now();
    this.connection.onOpen(this);
  }

  /**
   * The next sign of life is to come within this time: a proxy that holds a stream back keeps it open without an error.
   * @param {number} ms
   */
  expect(ms) {
    clearTimeout(this.#timer);
    if (this.signal.aborted) return;
    this.#timer = setTimeout(() => this.fail(new BuildError('stalled', `silent for ${ms} ms`)), ms);
  }

  /**
   * Waits; for ever if it is aborted meanwhile.
   * @param {number} ms
   */
  sleep(ms) {
    return new Promise((resolve) => (this.#timer = setTimeout(resolve, ms)));
  }

  /**
   * Hands on what a stream carried, and reads again what it lost.
   * @param {BuildEvent[]} events
   * @param {Told} [told]
   * @param {number} [last] the id that the stream has come to
   */
  push(events, told, last = 0) {
    if (this.signal.aborted) return;
    const { cursor } = this.host;
    this.host.take(events, told);
    const behind = cursor.gap || cursor.at < last;
    if (this.#repairing || !(behind || (events.length && !cursor.told))) return;
    this.#repairing = true;
    (behind ? catchUp : readStatus)(this.host, this.signal).then(
      () => (this.#repairing = false),
      (thrown) => this.fail(BuildError.from(thrown, 'gap')),
    );
  }

  /** @param {BuildError} error */
  fail(error) {
    if (this.signal.aborted) return;
    this.abort();
    this.connection.onFail(this, error);
  }

  abort() {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }
}
