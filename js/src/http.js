import { BuildError } from './error.js';

/** @import { Host, Page } from './types.js' */

/**
 * Sends a GET. The answer is checked; its body is not read.
 * @param {Host} host
 * @param {string} path
 * @param {AbortSignal} signal ends the request and the answer's body
 * @param {Record<string, string>} [headers]
 */
export async function get(host, path, signal, headers = {}) {
  const token = await host.token();
  if (token) headers.authorization = `Bearer ${token}`;
  signal.throwIfAborted();
  const { fetch } = host; // browsers refuse it as another object's method
  const answer = await fetch(host.url + path, { headers, signal, cache: 'no-store' }).catch((thrown) => {
    throw notAnswered(host.url, thrown);
  });
  if (!answer.ok) throw await problem(answer);
  return answer;
}

/**
 * Names the likely cause of a failed request. A browser does not tell a page why a request to another origin failed.
 * @param {string} url
 * @param {any} thrown
 */
function notAnswered(url, thrown) {
  const { origin } = globalThis.location ?? {};
  if (thrown?.name !== 'TypeError' || !origin || new URL(url).origin === origin) return thrown;
  return new BuildError('refused', `${url} does not answer, or does not let pages of ${origin} read its answers: ` +
    `start buildcast with --allow-origins ${origin}`, thrown);
}

/**
 * The error in an answer (RFC 9457), or the text of a proxy's answer.
 * @param {Response} answer
 */
async function problem(answer) {
  const told = await answer.json().catch(() => 0);
  const retryAfter = Number(answer.headers.get('retry-after')); // a date is left to the backoff
  return BuildError.told({ code: `http_${answer.status}`, retryAfter, ...told });
}

/**
 * Sends a GET and reads its JSON, within a time.
 * @param {Host} host
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {number} ms how long it may take, with the body
 */
async function getJSON(host, path, signal, ms) {
  const request = new AbortController();
  const abort = () => request.abort();
  const timer = setTimeout(() => request.abort(new BuildError('stalled', `silent for ${ms} ms`)), ms);
  signal.addEventListener('abort', abort);
  try {
    signal.throwIfAborted();
    return await (await get(host, path, request.signal)).json();
  } catch (thrown) {
    throw BuildError.from(thrown, thrown instanceof SyntaxError ? 'bad_answer' : 'refused');
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort); // a poll's signal outlives thousands of requests
  }
}

/** @param {Host} host */
const buildPath = (host) => `/api/builds/${encodeURIComponent(host.buildId)}`;

/**
 * Polls once.
 * @param {Host} host
 * @param {AbortSignal} signal
 * @param {{wait?: number, where?: object}} [how] `wait`: how long the server may hold the answer until there is
 *   something, in milliseconds; `where`: to begin, in place of the cursor's
 * @returns {Promise<Page>}
 */
export async function readPage(host, signal, { wait = 0, where = host.cursor.where } = {}) {
  const query = new URLSearchParams({ ...where, ...(wait && { wait: `${wait / 1000}s` }) });
  return getJSON(host, `${buildPath(host)}/events?${query}`, signal, host.timing.connect + wait);
}

/**
 * Reads the status from the server if it is needed: polls carry none, and the fold continues from it.
 * @param {Host} host
 * @param {AbortSignal} signal
 */
export async function readStatus(host, signal) {
  const { cursor } = host;
  if (cursor.told && !cursor.missing) return;
  let status = null;
  try {
    status = await getJSON(host, `${buildPath(host)}/status`, signal, host.timing.connect);
  } catch (thrown) {
    if (/** @type {BuildError} */ (thrown).code !== 'not_found') {
      if (cursor.status || (!cursor.at && !cursor.start)) return; // the events alone determine the status
      throw thrown;
    }
  }
  if (!signal.aborted) host.take([], { status });
}

/**
 * Polls from the cursor, and passes the events on.
 * @param {Host} host
 * @param {AbortSignal} signal
 * @param {number} [wait] milliseconds
 * @param {() => void} [opened] is called before the events are
 * @returns {Promise<{events: import('./types.js').BuildEvent[], more: boolean}>}
 */
export async function readOn(host, signal, wait, opened) {
  const { cursor } = host;
  const { at, start } = cursor;
  const { events, firstEventId, lastEventId, hasMore } = await readPage(host, signal, { wait });
  if (signal.aborted) return { events, more: false };
  opened?.();
  host.take(events, { after: events.length ? events[0].id - 1 : lastEventId, firstEventId });
  const more = hasMore || cursor.gap;
  if (more && cursor.at === at && !start) throw new BuildError('gap', `event ${at + 1} is missing`);
  return { events, more };
}

/**
 * Reads the log from the cursor to its end.
 * @param {Host} host
 * @param {AbortSignal} signal
 */
export async function catchUp(host, signal) {
  while ((await readOn(host, signal)).more);
  await readStatus(host, signal);
}
