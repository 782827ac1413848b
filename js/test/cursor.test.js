// Where a client begins, and what it does when the events after its cursor are no longer kept.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildProgress } from '../src/index.js';
import { fakeLocks } from './browser.js';
import { assertOnceInOrder, follow, given, once, reached, setup, upTo } from './harness.js';
import { buildId, FakeServer } from './server.js';

const all = ['websocket', 'sse', 'longpoll', 'poll'];
const short = ({ status, lastEventId, tasks }) => [status, lastEventId, tasks.started];

/** 60 events, of which 41 to 60 are kept. */
function cutAt41(server) {
  server.append('plan_started');
  server.appendMany(59);
  server.cutLog(41);
}

for (const name of all) {
  test(`${name}: a cursor that is gone goes on at the first event that is kept, and tells what it missed`, async (t) => {
    const { server, progress, seen } = await setup(t, { options: { transports: [name], lastEventId: 10 }, prepare: cutAt41 });
    const ended = once(progress, 'end');
    await given(progress, 60);
    assert.deepEqual(seen.gaps, [{ from: 11, to: 40 }]);
    server.append('build_completed');
    const { status } = await ended;
    assertOnceInOrder(seen.ids, 61, 41);
    assert.deepEqual([seen.gaps.length, seen.errors, status], [1, [], server.status]);
  });

  test(`${name}: the log is cut while it is read`, async (t) => {
    const { server, progress, seen } = await setup(t, { options: { transports: [name] } });
    server.appendMany(5);
    await given(progress, 5);
    server.quiet = true; // the reader is behind
    server.appendMany(45);
    server.cutLog(41);
    server.quiet = false;
    server.append();
    await given(progress, 51);
    server.append('build_completed');
    await once(progress, 'end');
    assert.deepEqual([seen.ids, seen.gaps], [[...upTo(5), ...upTo(52, 41)], [{ from: 6, to: 40 }]]);
  });

  test(`${name}: whoever has seen nothing misses nothing of a log that is cut`, async (t) => {
    const { server, progress, seen } = await setup(t, { options: { transports: [name] }, prepare: cutAt41 });
    await given(progress, 60);
    assertOnceInOrder(seen.ids, 60, 41);
    assert.deepEqual([seen.gaps, seen.errors, progress.status.firstEventId], [[], [], 41]);
    server.append('build_completed');
    await once(progress, 'end');
    assertOnceInOrder(seen.ids, 61, 41);
  });

  test(`${name}: a finished build of which nothing is kept ends at once`, async (t) => {
    const { progress, seen } = await setup(t, {
      options: { transports: [name] },
      prepare(server) {
        server.append('build_failed', { error: 'no space' });
        server.cutLog(2);
      },
    });
    assert.deepEqual((await once(progress, 'end')).status.error, 'no space');
    assert.deepEqual(seen.ids, []);
  });

  test(`${name}: from: 'latest' brings only what comes`, async (t) => {
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name], from: 'latest' }, prepare: (server) => server.appendMany(20),
    });
    await reached(progress, name);
    while (progress.lastEventId < 20) await new Promise((resolve) => setTimeout(resolve, 1));
    server.appendMany(3);
    await given(progress, 23);
    server.cut(); // it goes on from its cursor now
    server.appendMany(3);
    await given(progress, 26);
    assertOnceInOrder(seen.ids, 26, 21);
    assert.deepEqual(seen.gaps, []);
  });

  test(`${name}: tail brings the last events, and what comes`, async (t) => {
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name], tail: 5 }, prepare: (server) => server.appendMany(20),
    });
    await given(progress, 20);
    server.cut();
    server.append('build_completed');
    await once(progress, 'end');
    assertOnceInOrder(seen.ids, 21, 16);
  });

  test(`${name}: tail of a finished build that is shorter`, async (t) => {
    const { progress, seen } = await setup(t, {
      options: { transports: [name], tail: 1000 },
      prepare(server) {
        cutAt41(server);
        server.append('build_completed');
      },
    });
    await once(progress, 'end');
    assertOnceInOrder(seen.ids, 61, 41);
  });

  test(`${name}: a build that was deleted and made again is never shown as the old one`, async (t) => {
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name], lastEventId: 30 },
      prepare(server) {
        server.append('task_started');
        server.appendMany(38);
        server.append('build_completed');
        server.remove();
      },
    });
    while (!(progress.missing && seen.gaps.length)) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.deepEqual([seen.gaps, progress.status, progress.lastEventId], [[{ from: 31, to: 40 }], null, 40]);
    server.append('plan_started');
    await given(progress, 41);
    server.append('task_started');
    await given(progress, 42);
    assert.deepEqual(short(progress.status), ['executing', 42, 1]);
    server.append('build_completed');
    await once(progress, 'end');
    assertOnceInOrder(seen.ids, 43, 41);
    assert.ok(seen.statuses.every(({ lastEventId }) => lastEventId > 40), 'nothing was told of the old one');
  });

  test(`${name}: while the server does not answer nothing is known`, async (t) => {
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name] },
      prepare: (server) => Object.assign(server.faults, { status: 'refuse', [name]: 'refuse' }),
    });
    assert.equal((await once(progress, 'error')).code, 'unreachable');
    assert.deepEqual([progress.status, progress.missing, seen.statuses, seen.missing], [null, false, [], []]);
    server.remove();
    server.faults = {};
    await once(progress, 'missing');
    assert.deepEqual([progress.status, progress.missing], [null, true]);
  });
}

test('another transport goes on after a gap: nothing is lost or doubled', async (t) => {
  const { server, progress, seen } = await setup(t, { options: { lastEventId: 10 }, prepare: cutAt41 });
  await given(progress, 60);
  for (const [fault, next] of [['websocket', 'sse'], ['sse', 'longpoll'], ['longpoll', 'poll']]) {
    server.faults[fault] = 'refuse';
    server.cut();
    server.appendMany(5);
    await reached(progress, next);
    await given(progress, server.log.length);
  }
  server.append('build_completed');
  await once(progress, 'end');
  assertOnceInOrder(seen.ids, 76, 41);
  assert.deepEqual(seen.gaps, [{ from: 11, to: 40 }]);
});

test('the loop passes over what is no longer kept', async (t) => {
  const { server, progress } = await setup(t, {
    options: { lastEventId: 10 },
    prepare(server) {
      cutAt41(server);
      server.append('build_completed');
    },
  });
  const ids = [];
  for await (const { id } of progress) ids.push(id);
  assert.deepEqual(ids, upTo(server.log.length, 41));
});

test('the loop begins where tail does', async (t) => {
  const { server, progress } = await setup(t, {
    options: { tail: 3 },
    prepare(server) {
      server.appendMany(20);
      server.append('build_completed');
    },
  });
  const ids = [];
  for await (const { id } of progress) ids.push(id);
  assert.deepEqual([ids, server.count('poll')], [[19, 20, 21], 0]);
});

test('a tab that follows begins at its own place, whatever the leader has', async (t) => {
  fakeLocks(t);
  const first = await setup(t, { prepare: (server) => server.appendMany(20) });
  const { server } = first;
  await given(first.progress, 20);
  const others = [{ tail: 4 }, { from: 'latest' }, { lastEventId: 18 }].map((options) => follow(server, options));
  t.after(() => others.forEach(({ progress }) => progress.close()));
  await Promise.all(others.map(({ progress }) => (progress.lastEventId === 20 ? null : reached(progress, 'websocket'))));
  while (others.some(({ progress }) => progress.lastEventId < 20)) await new Promise((resolve) => setTimeout(resolve, 1));
  const ends = others.map(({ progress }) => once(progress, 'end'));
  server.appendMany(3);
  await Promise.all(others.map(({ progress }) => given(progress, 23)));
  assert.equal(server.count('websocket'), 1);
  server.append('build_completed');
  await Promise.all(ends);
  assert.deepEqual(others.map(({ seen }) => seen.ids), [upTo(24, 17), upTo(24, 21), upTo(24, 19)]);
});

test('a tab that follows and fell behind a cut goes on', async (t) => {
  fakeLocks(t);
  const first = await setup(t, { prepare: cutAt41 });
  await given(first.progress, 60);
  const late = follow(first.server, { lastEventId: 7 });
  t.after(() => late.progress.close());
  await given(late.progress, 60);
  assert.deepEqual([late.seen.gaps, late.seen.ids], [[{ from: 8, to: 40 }], upTo(60, 41)]);
});

test('a tab that follows hears that there is no such build', async (t) => {
  fakeLocks(t);
  const first = await setup(t, { prepare: (server) => server.remove() });
  await reached(first.progress, 'websocket');
  const other = follow(first.server);
  t.after(() => other.progress.close());
  await once(other.progress, 'missing');
  first.server.append('plan_started');
  await given(other.progress, 1);
  assert.deepEqual([other.progress.missing, other.progress.status.status], [false, 'planning']);
});

test('lastEventId, from and tail exclude each other', () => {
  for (const options of [{ lastEventId: 1, tail: 2 }, { from: 'latest', tail: 2 }, { lastEventId: 1, from: 'latest' }]) {
    assert.throws(() => new BuildProgress(buildId, { url: 'http://h', ...options }), /exclude each other/);
  }
});

test('a failure that CORS may cause names --allow-origins', async (t) => {
  globalThis.location = { href: 'http://localhost:5173/', origin: 'http://localhost:5173' };
  t.after(() => delete globalThis.location);
  const server = await new FakeServer().listen();
  t.after(() => server.close());
  // What browsers do: the request fails, and the page is not told why.
  const fetch = async () => { throw new TypeError('Failed to fetch'); };
  const { progress } = follow(server, { transports: ['sse', 'poll'], fetch });
  t.after(() => progress.close());
  const { code, message } = await once(progress, 'error');
  assert.equal(code, 'unreachable');
  assert.match(message, /--allow-origins http:\/\/localhost:5173$/);
  assert.match(message, new RegExp(`^${server.url} does not answer`));

  const own = follow(server, { url: 'http://localhost:5173', transports: ['poll'], fetch });
  t.after(() => own.progress.close());
  assert.equal((await once(own.progress, 'error')).message, 'Failed to fetch', 'the own origin needs no permission');
});
