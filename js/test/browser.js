// What a browser has and Node 20 has not: locks between tabs, a page that is hidden.

/** Web Locks, as far as sharing needs them. */
class Locks {
  #held = new Map();
  #queues = new Map();

  request(name, { steal, signal }, callback) {
    return new Promise((resolve, reject) => {
      const wanted = { callback, resolve, reject };
      const queue = this.#queues.get(name) ?? this.#queues.set(name, []).get(name);
      const aborted = () => Object.assign(new Error('aborted'), { name: 'AbortError' });
      if (steal) {
        this.#held.get(name)?.reject(aborted());
        this.#held.delete(name);
        queue.unshift(wanted);
      } else {
        queue.push(wanted);
      }
      signal?.addEventListener('abort', () => {
        if (!queue.includes(wanted)) return;
        queue.splice(queue.indexOf(wanted), 1);
        reject(aborted());
      });
      this.#grant(name, queue);
    });
  }

  async #grant(name, queue) {
    if (this.#held.has(name) || !queue.length) return;
    const next = queue.shift();
    this.#held.set(name, next);
    await null; // a lock is never granted at once
    next.resolve(await next.callback({ name }));
    if (this.#held.get(name) !== next) return;
    this.#held.delete(name);
    this.#grant(name, queue);
  }
}

/** Lets tabs share for the time of a test. */
export function fakeLocks(t) {
  const locks = new Locks();
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true });
  t.after(() => (before ? Object.defineProperty(globalThis, 'navigator', before) : delete globalThis.navigator));
  return locks;
}

/** A page for the time of a test. */
export function fakePage(t) {
  const document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  const window = new EventTarget();
  Object.assign(globalThis, { document, window });
  t.after(() => {
    delete globalThis.document;
    delete globalThis.window;
  });
  const show = (state) => {
    document.visibilityState = state;
    document.dispatchEvent(new Event('visibilitychange'));
  };
  return { window, hide: () => show('hidden'), show: () => show('visible') };
}
