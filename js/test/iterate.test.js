import assert from 'node:assert/strict';
import { test } from 'node:test';
import { given, once, reached, setup, upTo } from './harness.js';

test('the iterator gives every event and ends with the build', async (t) => {
  const { server, progress } = await setup(t, { prepare: (server) => server.appendMany(3) });
  const ids = [];
  for await (const event of progress) {
    ids.push(event.id);
    if (event.id === 3) server.append('build_completed');
  }
  assert.deepEqual(ids, [1, 2, 3, 4]);
});

test('a reader that falls far behind misses nothing', async (t) => {
  const total = 12_000;
  const { server, progress } = await setup(t, { prepare: (server) => server.append() });
  const reader = progress[Symbol.asyncIterator]();
  const ids = [(await reader.next()).value.id];
  for (let i = 0; i < total - 2; i += 100) server.appendMany(Math.min(100, total - 1 - server.log.length));
  server.append('build_completed');
  await once(progress, 'end');
  for await (const event of reader) ids.push(event.id);
  assert.deepEqual(ids, upTo(total));
  assert.ok(server.count('poll') > 10, 'what was dropped was read again');
});

test('close() ends the loop at once', async (t) => {
  const { server, progress } = await setup(t, { prepare: (server) => server.appendMany(5) });
  const ids = [];
  for await (const event of progress) {
    ids.push(event.id);
    if (event.id === 2) progress.close();
  }
  assert.deepEqual(ids, [1, 2]);
  assert.equal(server.log.length, 5);
});

test('close() while it waits', async (t) => {
  const { progress } = await setup(t);
  await reached(progress, 'websocket');
  const next = progress[Symbol.asyncIterator]().next();
  progress.close();
  assert.deepEqual(await next, { value: undefined, done: true });
});

test('a fatal error is thrown', async (t) => {
  const { progress } = await setup(t, {
    prepare: (server) => (server.subscribeError = { code: 'permission_denied', message: 'not yours' }),
  });
  await assert.rejects(async () => {
    for await (const _ of progress);
  }, { code: 'permission_denied', message: 'not yours', fatal: true });
});

test('leaving the loop does not close', async (t) => {
  const { server, progress } = await setup(t, { prepare: (server) => server.append() });
  for await (const _ of progress) break;
  server.append();
  await given(progress, 2);
  assert.equal(progress.closed, false);
});
