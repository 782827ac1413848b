import { BuildError } from '../error.js';
import { catchUp, get } from '../http.js';
import { eventStream } from './eventstream.js';

/** @import { Attempt } from '../attempt.js' */

/**
 * Server-sent events, read with fetch: EventSource hides comments, so it cannot distinguish a quiet stream from one that
 * a proxy buffers.
 * @param {Attempt} attempt
 */
export async function sse(attempt) {
  const { host, signal } = attempt;
  const { cursor, timing } = host;
  if (cursor.over) return host.finish();
  attempt.expect(timing.connect);
  const path = `/events/${encodeURIComponent(host.buildId)}?${new URLSearchParams(/** @type {any} */ (cursor.where))}`;
  const answer = await get(host, path, signal, { accept: 'text/event-stream' });
  if (answer.status === 204) return end(attempt);
  if (!answer.body || !/^text\/event-stream/.test(answer.headers.get('content-type') ?? '')) {
    throw new BuildError('bad_answer'); // a sign-in page, perhaps
  }
  attempt.expect(timing.firstByte);
  const reader = answer.body.getReader();
  const text = new TextDecoder();
  const parse = eventStream();
  for (;;) {
    const { done, value } = await reader.read();
    if (signal.aborted || done) return;
    attempt.expect(timing.heartbeat);
    attempt.opened();
    if (receive(attempt, parse(text.decode(value, { stream: true })))) return end(attempt);
  }
}

/**
 * @param {Attempt} attempt
 * @param {Record<string, string>[]} blocks
 * @returns {boolean} whether the block is the end of the build
 */
function receive(attempt, blocks) {
  /** @type {import('../types.js').BuildEvent[]} */
  let events = [];
  for (const { event, data = '', retry } of blocks) {
    if (retry) attempt.connection.backoff.base = Number(retry) || attempt.host.timing.retry;
    if (!event && data) {
      events.push(JSON.parse(data));
      continue;
    }
    attempt.push(events);
    events = [];
    if (event === 'begin') attempt.push([], JSON.parse(data));
    if (event === 'problem') throw BuildError.told(JSON.parse(data));
    if (event === 'end') return true;
  }
  attempt.push(events);
  return false;
}

/**
 * The log has ended. Events that were lost on the way are read again first.
 * @param {Attempt} attempt
 */
async function end({ host, signal }) {
  if (!host.cursor.over) await catchUp(host, signal);
  if (!signal.aborted) host.finish();
}
