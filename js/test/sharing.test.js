import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeLocks } from './browser.js';
import { assertOnceInOrder, follow, given, once, reached, setup } from './harness.js';
import { buildId } from './server.js';

/** Tabs of one origin. The first one leads. */
async function tabs(t, n, options = {}) {
  const locks = fakeLocks(t);
  const first = await setup(t, { options, prepare: (server) => server.appendMany(3) });
  await reached(first.progress, 'websocket');
  const others = Array.from({ length: n - 1 }, () => follow(first.server, options));
  t.after(() => others.forEach(({ progress }) => progress.close()));
  await Promise.all(others.map(({ progress }) => reached(progress, 'websocket')));
  return { locks, server: first.server, all: [first, ...others] };
}

test('tabs share one connection, and each gets every event once', async (t) => {
  const { server, all } = await tabs(t, 8);
  const shared = once(all[3].progress, 'status');
  server.append('plan_started');
  assert.equal((await shared).status, 'planning');
  const ends = all.map(({ progress }) => once(progress, 'end'));
  server.appendMany(30);
  server.append('build_completed');
  await Promise.all(ends);
  for (const { seen } of all) assertOnceInOrder(seen.ids, server.log.length);
  assert.equal(server.count('websocket'), 1);
});

test('a tab that joins late reads what it missed by polling', async (t) => {
  const { server, all } = await tabs(t, 2);
  await given(all[1].progress, 3);
  assertOnceInOrder(all[1].seen.ids, 3);
  assert.equal(server.count('poll'), 1);
  server.append();
  await given(all[1].progress, 4);
  assert.equal(server.count('poll'), 1);
});

test('a leader that is closed is replaced', async (t) => {
  const { server, all } = await tabs(t, 3);
  await Promise.all(all.map(({ progress }) => given(progress, 3)));
  all[0].progress.close();
  server.appendMany(2);
  await Promise.all([given(all[1].progress, 5), given(all[2].progress, 5)]);
  assert.equal(server.count('websocket'), 2);
  server.append('build_completed');
  await Promise.all([once(all[1].progress, 'end'), once(all[2].progress, 'end')]);
  assertOnceInOrder(all[1].seen.ids, 6);
  assertOnceInOrder(all[2].seen.ids, 6);
  assert.deepEqual(all[0].seen.ids, [1, 2, 3]);
});

test('a leader that says nothing is robbed of the lock', async (t) => {
  const locks = fakeLocks(t);
  let robbed = false;
  const at = await setup(t, {
    options: { timing: { beat: 20 } },
    prepare(server) {
      const name = `buildcast ${server.url} ${buildId} true`;
      locks.request(name, {}, () => new Promise(() => {})).catch(() => (robbed = true));
    },
  });
  await reached(at.progress, 'websocket');
  assert.equal(robbed, true);
});

test('a leader that was robbed follows', async (t) => {
  const { locks, server, all } = await tabs(t, 2);
  let release = () => {};
  const name = `buildcast ${server.url} ${buildId} true`;
  locks.request(name, { steal: true }, () => new Promise((resolve) => (release = resolve)));
  await once(all[0].progress, 'transport', ({ transport }) => transport === null);
  release();
  server.appendMany(2);
  await Promise.all(all.map(({ progress }) => given(progress, 5)));
  for (const { seen } of all) assertOnceInOrder(seen.ids, 5);
});

test('a follower whose cursor is beyond the log hears so', async (t) => {
  const { server } = await tabs(t, 1);
  const late = follow(server, { lastEventId: 99 });
  t.after(() => late.progress.close());
  assert.equal((await once(late.progress, 'error')).code, 'cursor_ahead');
  await given(late.progress, 3);
  assertOnceInOrder(late.seen.ids, 3);
});

test('share: false, and other names, have a connection of their own', async (t) => {
  const { server } = await tabs(t, 2);
  for (const share of [false, 'other']) {
    const alone = follow(server, { share });
    await reached(alone.progress, 'websocket');
    alone.progress.close();
  }
  assert.equal(server.count('websocket'), 3);
});

test('where locks are refused, each has a connection of its own', async (t) => {
  const locks = fakeLocks(t);
  t.mock.method(locks, 'request', async () => {
    throw Object.assign(new Error('not here'), { name: 'SecurityError' });
  });
  const at = await setup(t);
  at.server.append('build_completed');
  await once(at.progress, 'end');
  assertOnceInOrder(at.seen.ids, 1);
});

test('all tabs survive the server', async (t) => {
  const { server, all } = await tabs(t, 4, { timing: { retry: 5 } });
  server.cut();
  server.appendMany(50);
  await Promise.all(all.map(({ progress }) => given(progress, 53)));
  for (const { seen } of all) assertOnceInOrder(seen.ids, 53);
});
