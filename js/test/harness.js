import assert from 'node:assert/strict';
import { WebSocket } from 'ws';
import { BuildProgress } from '../src/index.js';
import { buildId, FakeServer, quick } from './server.js';

/**
 * A server and a client of it, closed with the test.
 * @param {import('node:test').TestContext} t
 */
export async function setup(t, { options = {}, prepare = (_) => {} } = {}) {
  const server = await new FakeServer().listen();
  prepare(server);
  const client = follow(server, options);
  t.after(() => {
    client.progress.close();
    return server.close();
  });
  return { server, ...client };
}

/** A client, and what it told. */
export function follow(server, { timing = {}, ...options } = {}) {
  const progress = new BuildProgress(buildId, {
    url: server.url, WebSocket, timing: { ...quick, ...timing }, ...options,
  });
  const seen = { ids: [], transports: [], statuses: [], errors: [], ends: [], updates: [], gaps: [], missing: [] };
  progress.addEventListener('update', ({ detail }) => {
    seen.updates.push(detail);
    for (const event of detail.events) seen.ids.push(event.id);
  });
  progress.addEventListener('transport', ({ detail }) => seen.transports.push(detail.transport));
  progress.addEventListener('status', ({ detail }) => seen.statuses.push(detail));
  progress.addEventListener('gap', ({ detail }) => seen.gaps.push(detail));
  progress.addEventListener('missing', ({ detail }) => seen.missing.push(detail));
  progress.addEventListener('error', ({ detail }) => seen.errors.push(detail));
  progress.addEventListener('end', ({ detail }) => seen.ends.push(detail));
  return { progress, seen };
}

/** Resolves with the detail of the first event of a type that fits. */
export function once(progress, type, fits = (_) => true) {
  return new Promise((resolve) => {
    progress.addEventListener(type, function listener({ detail }) {
      if (!fits(detail)) return;
      progress.removeEventListener(type, listener);
      resolve(detail);
    });
  });
}

/** Resolves when the client stands on a transport. */
export const reached = (progress, name) =>
  progress.transport === name ? Promise.resolve() : once(progress, 'transport', ({ transport }) => transport === name);

/** Resolves when the client has given event n. */
export const given = (progress, n) =>
  progress.lastEventId >= n ? Promise.resolve() : once(progress, 'update', ({ lastEventId }) => lastEventId >= n);

export const upTo = (n, from = 1) => Array.from({ length: n - from + 1 }, (_, i) => from + i);

export function assertOnceInOrder(ids, n, from = 1) {
  assert.deepEqual(ids, upTo(n, from));
}
