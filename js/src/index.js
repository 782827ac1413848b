import { Connection } from './connection.js';
import { Cursor } from './cursor.js';
import { BuildError } from './error.js';
import { eventsOf } from './iterate.js';
import { watchPage } from './page.js';
import { canShare, Sharing } from './sharing.js';
import { defaults } from './timing.js';

/** @import { Details, Events, Host, Told } from './types.js' */

export { BuildError };
/** @typedef {import('./types.js').BuildEvent} BuildEvent */
/** @typedef {import('./types.js').EventData} EventData */
/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').Phase} Phase */
/** @typedef {import('./types.js').Status} Status */
/** @typedef {import('./types.js').Transport} Transport */

/**
 * Follows one build: each event once, in order and without a gap, over the best transport that the network allows. It
 * connects by itself, and continues from the last event after every failure, until the build is finished, close() is
 * called, or the server refuses the events (an `error` whose detail is `fatal`).
 *
 *     const progress = new BuildProgress('01JD…', { url: 'https://builds.example.com' });
 *     progress.addEventListener('update', ({ detail }) => draw(detail.status, detail.events));
 *     progress.addEventListener('end', ({ detail }) => done(detail.status));
 *
 * or `for await (const event of progress) …`.
 */
export class BuildProgress extends EventTarget {
  /** @type {Host} */
  #host;
  #cursor;
  /** @type {Connection|Sharing} */
  #source;
  /** @type {Sharing|undefined} */
  #sharing;
  #unwatch;
  #shown = '';
  /** @type {WeakMap<object, EventListener>} */
  #listeners = new WeakMap();

  /** The build is finished and all its events were dispatched. */
  ended = false;
  /** No more events follow. */
  closed = false;

  /**
   * @param {string} buildId
   * @param {Options} [options]
   */
  constructor(buildId, options = {}) {
    super();
    const url = new URL(options.url ?? '/', globalThis.location?.href); // Node has no location: it needs a whole one
    const { lastEventId = 0, from, tail, share = true, token } = options;
    if (Number(lastEventId > 0) + Number(from !== undefined) + Number(tail !== undefined) > 1) {
      throw new TypeError('lastEventId, from and tail exclude each other');
    }
    this.buildId = buildId;
    this.#cursor = new Cursor(buildId, lastEventId, from ? { from } : tail ? { tail } : null);
    this.#host = {
      buildId,
      url: url.href.replace(/\/+$/, ''),
      cursor: this.#cursor,
      timing: { ...defaults, ...options.timing },
      fetch: options.fetch ?? globalThis.fetch,
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
      token: async () => (typeof token === 'function' ? token() : token),
      renewable: typeof token === 'function',
      transport: null,
      shared: false,
      take: this.#take.bind(this),
      finish: this.#finish.bind(this),
      failed: this.#failed.bind(this),
      carried: this.#carried.bind(this),
    };
    const connection = new Connection(this.#host, options.transports);
    if (share && canShare()) {
      this.#sharing = new Sharing(`buildcast ${this.#host.url} ${buildId} ${share}`, this.#host, connection);
    }
    this.#source = this.#sharing ?? connection;
    this.#source.start();
    this.#unwatch = watchPage(this.#source, this.#host.timing);
  }

  /** The id of the last dispatched event: a later BuildProgress can continue from it. */
  get lastEventId() {
    return this.#cursor.at;
  }

  /** null: not known yet, or `missing` */
  get status() {
    return this.#cursor.status;
  }

  /** The server has answered that the build does not exist yet; the client waits for it. Also false while no server answers. */
  get missing() {
    return this.#cursor.missing;
  }

  /** The transport that delivers events now; null: none. */
  get transport() {
    return this.#host.transport;
  }

  /** Stops following. No event is dispatched after it. */
  close() {
    if (this.closed) return;
    this.closed = true;
    this.#unwatch();
    this.#source.stop();
    this.#host.transport = null;
    this.dispatchEvent(new Event('close'));
  }

  /**
   * The events from now on, until the end; it throws if a fatal error ends them. Leaving the loop does not close.
   * @returns {AsyncGenerator<BuildEvent, void, void>}
   */
  [Symbol.asyncIterator]() {
    return eventsOf(this, this.#host);
  }

  /**
   * An error thrown by a listener is reported and harms nobody else; Node would end the process.
   * @template {keyof Events} T
   * @param {T} type
   * @param {((event: Events[T]) => void)|{handleEvent: (event: Events[T]) => void}|null} listener
   * @param {boolean|AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, listener && this.#safe(listener), options);
  }

  /**
   * @template {keyof Events} T
   * @param {T} type
   * @param {((event: Events[T]) => void)|{handleEvent: (event: Events[T]) => void}|null} listener
   * @param {boolean|EventListenerOptions} [options]
   */
  removeEventListener(type, listener, options) {
    super.removeEventListener(type, listener && this.#safe(listener), options);
  }

  /** @param {any} listener */
  #safe(listener) {
    let safe = this.#listeners.get(listener);
    if (!safe) {
      safe = (event) => {
        try {
          if (typeof listener === 'function') listener.call(this, event);
          else listener.handleEvent(event);
        } catch (thrown) {
          (globalThis.reportError ?? console.error)(thrown);
        }
      };
      this.#listeners.set(listener, safe);
    }
    return safe;
  }

  /**
   * @template {keyof Details} T
   * @param {T} type
   * @param {Details[T]} detail
   */
  #tell(type, detail) {
    if (!this.closed) this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /**
   * @param {BuildEvent[]} events
   * @param {Told} [told]
   */
  #take(events, told = {}) {
    if (this.closed) return;
    const cursor = this.#cursor;
    cursor.hear(told);
    const fresh = cursor.take(events);
    const { status: now, missing } = cursor;
    const shown = JSON.stringify(now ? { ...now, updatedAt: '', lastEventId: 0 } : missing);
    const changed = (now || missing) && shown !== this.#shown;
    this.#shown = shown;
    if (fresh.length || changed) this.#sharing?.tell({ events: fresh });
    if (fresh.length) this.#tell('update', { buildId: this.buildId, events: fresh, lastEventId: cursor.at, status: now });
    if (!changed) return;
    if (now) this.#tell('status', now);
    else this.#tell('missing', { buildId: this.buildId });
  }

  #finish() {
    if (this.closed) return;
    this.#sharing?.tell({ over: true });
    this.ended = true;
    this.#tell('end', { status: this.status, lastEventId: this.lastEventId });
    this.close();
  }

  /** @param {BuildError} error */
  #failed(error) {
    if (error.code === 'cursor_gone') {
      const gap = this.#cursor.skip(error.firstEventId);
      if (gap) this.#tell('gap', gap);
      return;
    }
    if (error.code === 'cursor_ahead') this.#cursor.restart();
    this.#tell('error', error);
    if (error.fatal) this.close();
  }

  /**
   * @param {Transport|null} transport
   * @param {boolean} [shared]
   */
  #carried(transport, shared = false) {
    const host = this.#host;
    if (this.closed || (transport === host.transport && shared === host.shared)) return;
    Object.assign(host, { transport, shared });
    this.#sharing?.tell({});
    this.#tell('transport', { transport, shared });
  }
}
