/** A failed request. The status is 0 if the server could not be reached; the field is the one that is wrong. */
export class ApiError extends Error {
  constructor(message, status, field = '') {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** Where the server is: the pages may be below a path of another site, so no address begins with a slash. */
export const home = new URL('../../', import.meta.url).href;

let skew = 0;

/** The server's time, from the Date header of its answers. Durations of running steps use it. */
export const now = () => Date.now() + skew;

/** Sends a request and returns the answer's JSON. The path is relative to the server's address. */
export async function call(path, { method = 'GET', body: sent, key, signal, headers: more } = {}) {
  let answer;
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(sent && { 'Content-Type': 'application/json' }), ...more };
  try {
    answer = await fetch(home + path, { method, headers, body: sent && JSON.stringify(sent), signal });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new ApiError('the server does not answer', 0);
  }
  const date = Date.parse(answer.headers.get('Date') ?? '');
  // The header counts whole seconds, and an answer from the browser's cache has an old one.
  if (date && answer.status === 200 && method === 'GET') skew = Math.abs(date - Date.now()) > 2500 ? date - Date.now() : 0;
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(body?.detail || body?.title || `the server answered ${answer.status}`, answer.status, body?.field);
  return body;
}

export const buildPath = (id) => `api/builds/${encodeURIComponent(id)}`;

/** Reads events of a build: those after one, at most `limit` of them. */
export const eventsOf = (id) => async (after, limit) =>
  (await call(`${buildPath(id)}/events?lastEventId=${after}&limit=${limit}`)).events;
