import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildProgress } from '../src/index.js';
import { assertOnceInOrder, follow, given, once, reached, setup } from './harness.js';
import { buildId } from './server.js';

const all = ['websocket', 'sse', 'longpoll', 'poll'];

for (const name of all) {
  test(`${name}: replay, live, status and end`, async (t) => {
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name] },
      prepare: (server) => server.appendMany(3),
    });
    await given(progress, 3);
    assert.equal(progress.transport, name);
    server.append('plan_started');
    server.append('plan_generated', { taskCount: 2 });
    await given(progress, 5);
    assert.equal(progress.status.status, 'executing');
    const ended = once(progress, 'end');
    server.append('deploy_completed', { previewUrl: 'http://preview' });
    const end = await ended;
    assert.deepEqual(end, { status: server.status, lastEventId: 6 });
    assertOnceInOrder(seen.ids, 6);
    assert.equal(seen.statuses.at(-1).previewUrl, 'http://preview');
    assert.deepEqual([progress.ended, progress.closed, progress.transport], [true, true, null]);
    assert.deepEqual(seen.errors, []);
  });

  test(`${name}: begins after lastEventId, with the status of what was before`, async (t) => {
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name], lastEventId: 4 },
      prepare(server) {
        server.append('plan_started');
        server.append('plan_generated', { taskCount: 7 });
        server.appendMany(4);
      },
    });
    const ended = once(progress, 'end');
    await given(progress, 6);
    server.append('build_failed', { error: 'no space' });
    const { status } = await ended;
    assertOnceInOrder(seen.ids, 7, 5);
    assert.deepEqual([status.status, status.error, status.tasks.total], ['failed', 'no space', 7]);
    assert.deepEqual(status, server.status);
  });

  test(`${name}: a finished build with nothing new ends at once`, async (t) => {
    const { seen, progress } = await setup(t, {
      options: { transports: [name], lastEventId: 2 },
      prepare(server) {
        server.append('plan_started');
        server.append('build_cancelled');
      },
    });
    const { status } = await once(progress, 'end');
    assert.equal(status.status, 'cancelled');
    assert.deepEqual(seen.ids, []);
  });

  test(`${name}: a cursor beyond the log's end begins anew, and says so`, async (t) => {
    const { seen, progress } = await setup(t, {
      options: { transports: [name], lastEventId: 50 },
      prepare: (server) => server.appendMany(3),
    });
    const { code, fatal } = await once(progress, 'error');
    assert.deepEqual([code, fatal], ['cursor_ahead', false]);
    await given(progress, 3);
    assertOnceInOrder(seen.ids, 3);
  });

  test(`${name}: doubled, missing and reordered events`, async (t) => {
    let turn = 0;
    const alter = (events) => {
      turn++;
      if (turn % 4 === 0) return [...events, ...events];
      if (turn % 4 === 1) return events.filter((_, i) => i !== 1);
      if (turn % 4 === 2) return events.slice(1);
      return [...events].reverse();
    };
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name] },
      prepare: (server) => (server.alter = alter),
    });
    const ended = once(progress, 'end');
    for (let i = 0; i < 40; i++) {
      server.appendMany(3);
      if (i % 4 === 0) await given(progress, server.log.length);
    }
    server.append('build_completed');
    await ended;
    assertOnceInOrder(seen.ids, 121);
  });

  test(`${name}: the token is sent, and a lasting refusal ends it`, async (t) => {
    const refused = () => [401, { code: 'unauthenticated', detail: 'wrong key' }];
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name], token: 'secret' },
      prepare(server) {
        server.answers = { sse: refused, longpoll: refused, poll: refused };
        server.connectError = { message: 'wrong key', data: { code: 'unauthenticated' } };
      },
    });
    const error = await once(progress, 'error');
    assert.deepEqual([error.code, error.message, error.fatal], ['unauthenticated', 'wrong key', true]);
    assert.equal(progress.closed, true);
    assert.ok(server.tokens.every((sent) => /^(Bearer )?secret$/.test(sent)), String(server.tokens));
    assert.deepEqual(seen.ends, []);
  });
}

test('a token function is asked again after a refusal', async (t) => {
  let asked = 0;
  const { server, progress } = await setup(t, {
    options: { transports: ['websocket'], token: async () => `token ${++asked}` },
    prepare: (server) => (server.connectError = { message: 'old', data: { code: 'token_expired' } }),
  });
  const error = await once(progress, 'error');
  assert.deepEqual([error.code, error.fatal], ['token_expired', false]);
  server.connectError = null;
  await reached(progress, 'websocket');
  assert.equal(server.tokens.at(-1), `token ${asked}`);
  assert.ok(asked >= 2);
});

test('a build that is not there yet is waited for', async (t) => {
  for (const name of all) {
    const { server, progress, seen } = await setup(t, {
      options: { transports: [name] },
      prepare: (server) => server.remove(),
    });
    await once(progress, 'missing');
    await reached(progress, name);
    assert.deepEqual([progress.missing, progress.status], [true, null]);
    server.append('plan_started');
    await given(progress, 1);
    assert.deepEqual([seen.ids, progress.status.status, progress.missing], [[1], 'planning', false]);
    assert.deepEqual(seen.statuses.map(({ status }) => status), ['planning'], 'no phase is invented');
    assert.equal(seen.missing.length, 1);
    progress.close();
  }
});

test('nothing is given after close(), and nothing stays open', async (t) => {
  for (const name of all) {
    const { server, progress, seen } = await setup(t, { options: { transports: [name] } });
    await reached(progress, name);
    const other = follow(server, { transports: ['websocket'] });
    await reached(other.progress, 'websocket');
    const told = Object.values(seen).map((list) => list.length);
    progress.close();
    server.append();
    await given(other.progress, 1);
    server.append('build_completed');
    await once(other.progress, 'end');
    assert.deepEqual(Object.values(seen).map((list) => list.length), told);
  }
});

test('close() in a listener stops the rest of a batch from nobody else', async (t) => {
  const { server, progress, seen } = await setup(t, { options: { transports: ['sse'] } });
  progress.addEventListener('update', () => progress.close());
  server.append('build_completed');
  await new Promise((resolve) => progress.addEventListener('close', resolve));
  assert.deepEqual([seen.ids, seen.ends, progress.ended], [[1], [], false]);
});

test('a listener that throws harms nobody', async (t) => {
  const { mock } = t.mock.method(console, 'error', () => {});
  const { server, progress, seen } = await setup(t, { options: { transports: ['websocket'] } });
  const bad = () => { throw new Error('in a listener'); };
  progress.addEventListener('update', bad);
  progress.addEventListener('update', { handleEvent: bad });
  server.append();
  await given(progress, 1);
  assert.equal(mock.callCount(), 2);
  progress.removeEventListener('update', bad);
  server.append('build_completed');
  await once(progress, 'end');
  assert.equal(mock.callCount(), 3);
  assertOnceInOrder(seen.ids, 2);
});

test('without WebSocket, as in Node 20, it begins with SSE', async (t) => {
  const { server, progress, seen } = await setup(t, { options: { WebSocket: undefined } });
  await reached(progress, typeof WebSocket === 'undefined' ? 'sse' : 'websocket');
  if (typeof WebSocket === 'undefined') assert.equal(server.count('websocket'), 0);
  assert.equal(seen.transports.length, 1);
});

test('options that cannot work are refused at once', () => {
  assert.throws(() => new BuildProgress(buildId, {}), { name: 'TypeError' });
  assert.throws(() => new BuildProgress(buildId, { url: 'http://h', transports: [] }), /transports/);
});

test('pings are answered', async (t) => {
  const { server, progress } = await setup(t, { options: { transports: ['websocket'] } });
  await reached(progress, 'websocket');
  while (!server.pongs) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(progress.transport, 'websocket');
});

test('url may have a prefix', async (t) => {
  const { server } = await setup(t);
  const { progress } = follow(server, { url: `${server.url}/prefix/`, transports: ['poll'] });
  await once(progress, 'transport');
  progress.close();
  assert.match(server.requests.at(-1).url, /^\/prefix\/api\/builds\/01JDTESTBUILD\//);
});
