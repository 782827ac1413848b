import { readPage } from './http.js';

/** @import { BuildEvent, Host } from './types.js' */

const maxQueued = 10_000; // events

/**
 * The events of a BuildProgress as an iterator. A reader that falls far behind uses no memory: the events that it has not
 * taken are read again from the server. Events that are no longer kept by then are skipped.
 * @param {import('./index.js').BuildProgress} progress
 * @param {Host} host
 * @returns {AsyncGenerator<BuildEvent, void, void>}
 */
export function eventsOf(progress, host) {
  /** @type {BuildEvent[]} */
  let queue = [];
  let at = progress.lastEventId; // the reader's own cursor
  let behind = false;
  /** The first events after a gap. @type {Set<number>} */
  const landings = new Set();
  /** @type {import('./error.js').BuildError|undefined} */
  let fatal;
  let wake = () => {};
  const done = new AbortController();
  progress.addEventListener('update', ({ detail }) => {
    at ||= detail.events[0].id - 1; // the log may begin later than at 1, or be followed from its end
    if (!behind) queue.push(...detail.events);
    if (queue.length > maxQueued) {
      queue = [];
      behind = true;
    }
    wake();
  }, done);
  progress.addEventListener('gap', ({ detail }) => landings.add(detail.to + 1), done);
  progress.addEventListener('error', ({ detail }) => {
    if (detail.fatal) fatal = detail;
    if (detail.code !== 'cursor_ahead') return;
    queue = [];
    at = 0;
  }, done);
  progress.addEventListener('close', () => wake(), done);

  const take = async () => {
    if (!behind) return queue.splice(0);
    behind = false; // the queue is filled again from now on
    const page = await readPage(host, done.signal, { where: { lastEventId: at } }).catch((thrown) => {
      if (thrown.code === 'cursor_gone' && thrown.firstEventId > at + 1) at = thrown.firstEventId - 1;
      else if (progress.closed) throw thrown;
    });
    behind ||= page?.hasMore ?? true;
    if (!page) await new Promise((resolve) => setTimeout(resolve, host.timing.retry));
    return page?.events ?? [];
  };

  return (async function* () {
    try {
      for (;;) {
        for (const event of await take()) {
          if (progress.closed && !progress.ended) break;
          if (event.id !== at + 1 && !(event.id > at && landings.delete(event.id))) continue;
          at = event.id;
          yield event;
        }
        if (fatal) throw fatal;
        if (progress.closed && !(progress.ended && (behind || queue.length))) return;
        if (!behind && !queue.length) await new Promise((/** @type {(_: void) => void} */ resolve) => (wake = resolve));
      }
    } finally {
      done.abort();
    }
  })();
}
