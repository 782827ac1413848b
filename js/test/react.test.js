import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createElement, StrictMode } from 'react';
import { act, create } from 'react-test-renderer';
import { WebSocket } from 'ws';
import { useBuild } from '../src/react.js';
import { buildId, FakeServer, quick } from './server.js';

test('useBuild: mounts, follows, lets go', async (t) => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  t.mock.method(console, 'error', () => {}); // the renderer tells of its age
  const server = await new FakeServer().listen();
  t.after(() => server.close());
  server.append('plan_started');
  const views = [];
  let changed = () => {};
  function Build({ id, options }) {
    views.push(useBuild(id, { url: server.url, WebSocket, timing: quick, ...options }));
    changed();
    return null;
  }
  const until = (fits) =>
    act(() => new Promise((resolve) => {
      const poll = setInterval(() => fits(views.at(-1)) && (clearInterval(poll), resolve()), 2);
    }));
  let root;
  await act(async () => (root = create(createElement(StrictMode, null, createElement(Build, { id: buildId })))));
  assert.deepEqual(views[0], {
    status: null, missing: false, events: [], gap: null, transport: null, error: null, ended: false,
  });
  await until(({ events }) => events.length === 1);
  await until(({ transport }) => transport === 'websocket');
  assert.equal(views.at(-1).status.status, 'planning');
  server.appendMany(3);
  await until(({ events }) => events.length === 4);
  const before = server.count('websocket');
  await act(async () => root.update(createElement(StrictMode, null, createElement(Build, { id: buildId }))));
  assert.equal(server.count('websocket'), before, 'the same build is the same connection');
  server.append('build_failed', { error: 'no space' });
  await until(({ ended }) => ended);
  const { status, transport, events, error } = views.at(-1);
  assert.deepEqual([status.error, transport, events.map(({ id }) => id), error], ['no space', null, [1, 2, 3, 4, 5], null]);
  await act(async () => root.update(createElement(Build, { id: null })));
  assert.equal(views.at(-1).status, null);
  await act(async () => root.update(createElement(Build, { id: buildId, options: { maxEvents: 2 } })));
  await until(({ ended }) => ended);
  assert.deepEqual(views.at(-1).events.map(({ id }) => id), [4, 5]);
  await act(async () => root.unmount());
});
