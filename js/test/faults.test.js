import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertOnceInOrder, given, once, reached, setup as setupSlowly } from './harness.js';
import { FakeServer } from './server.js';

/** A client that soon gives up what hangs. */
const setup = (t, { options = {}, ...more } = {}) =>
  setupSlowly(t, { ...more, options: { ...options, timing: { connect: 250, ...options.timing } } });

/** Follows 30 events under a fault, and returns what carried the last ones. */
async function finish({ server, progress, seen }) {
  const ended = once(progress, 'end');
  for (let i = 0; i < 29; i++) {
    server.append();
    if (i % 10 === 0) await given(progress, server.log.length);
  }
  const by = progress.transport;
  server.append('build_completed');
  await ended;
  assertOnceInOrder(seen.ids, server.log.length);
  return by;
}

for (const fault of ['refuse', 'reset', 'hang', 'silent']) {
  test(`WebSocket ${fault}: SSE takes over`, async (t) => {
    const at = await setup(t, { prepare: (server) => (server.faults.websocket = fault) });
    await reached(at.progress, 'sse');
    assert.equal(await finish(at), 'sse');
    assert.deepEqual(at.seen.errors, []);
  });

  test(`WebSocket and SSE ${fault}: long poll takes over`, async (t) => {
    const at = await setup(t, { prepare: (server) => Object.assign(server.faults, { websocket: fault, sse: fault }) });
    await reached(at.progress, 'longpoll');
    assert.equal(await finish(at), 'longpoll');
  });

  if (fault === 'silent') continue; // a poll has no such state
  test(`everything ${fault} but short polls: even without a status`, async (t) => {
    const prepare = (server) =>
      Object.assign(server.faults, { websocket: fault, sse: fault, longpoll: fault, status: fault });
    const at = await setup(t, { prepare, options: { timing: { connect: 60 } } });
    await reached(at.progress, 'poll');
    assert.equal(await finish(at), 'poll');
  });
}

test('a WebSocket that is cut again and again gives way to SSE', async (t) => {
  const at = await setup(t);
  at.progress.addEventListener('transport', ({ detail }) => detail.transport === 'websocket' && at.server.cut());
  await reached(at.progress, 'sse');
  assert.equal(at.server.count('websocket'), 3);
  assert.equal(await finish(at), 'sse');
});

test('one cut is no reason to change: it connects anew and goes on', async (t) => {
  const at = await setup(t);
  await reached(at.progress, 'websocket');
  at.server.appendMany(5);
  await given(at.progress, 5);
  at.server.cut();
  at.server.appendMany(5); // while it is away
  await given(at.progress, 10);
  assert.equal(at.server.requests.at(-1).after, 5);
  assert.equal(await finish(at), 'websocket');
  assert.deepEqual(at.seen.transports, ['websocket', null, 'websocket']);
});

for (const name of ['websocket', 'sse']) {
  test(`${name}: a stream that falls silent in mid-build is noticed`, async (t) => {
    const at = await setup(t, { options: { transports: [name, 'longpoll'] } });
    await reached(at.progress, name);
    at.server.appendMany(2);
    await given(at.progress, 2);
    at.server.stalled = true; // it stays open, and carries neither events nor heartbeats
    at.server.appendMany(2);
    await reached(at.progress, 'longpoll');
    await given(at.progress, 4);
    assert.equal(await finish(at), 'longpoll');
  });
}

test('a WebSocket that pings but never subscribes gives way to SSE', async (t) => {
  const at = await setup(t, { prepare: (server) => (server.faults.websocket = 'deaf') });
  await reached(at.progress, 'sse');
  assert.equal(await finish(at), 'sse');
});

test('the last event of all is lost on the way: it is read again', async (t) => {
  const at = await setup(t);
  await reached(at.progress, 'websocket');
  at.server.appendMany(3);
  await given(at.progress, 3);
  at.server.alter = () => [];
  const ended = once(at.progress, 'end');
  at.server.append('build_completed');
  at.server.alter = (events) => events;
  await ended;
  assertOnceInOrder(at.seen.ids, 4);
});

test('it goes back up when the network allows, without a pause below', async (t) => {
  const at = await setup(t, {
    options: { timing: { probe: 60, heartbeat: 5000 } }, // SSE is not to stall on a busy machine
    prepare: (server) => (server.faults.websocket = 'refuse'),
  });
  await reached(at.progress, 'sse');
  at.server.appendMany(3);
  await given(at.progress, 3);
  while (at.server.count('websocket') < 3) {
    at.server.append();
    await given(at.progress, at.server.log.length);
  }
  assert.equal(at.progress.transport, 'sse');
  at.server.faults.websocket = undefined;
  await reached(at.progress, 'websocket');
  assert.deepEqual(at.seen.transports, ['sse', 'websocket']);
  assert.equal(await finish(at), 'websocket');
});

test('what comes while the better transport opens is given once', async (t) => {
  const at = await setup(t, {
    options: { timing: { probe: 60 } },
    prepare: (server) => (server.faults.websocket = 'refuse'),
  });
  await reached(at.progress, 'sse');
  at.server.appendMany(3);
  await given(at.progress, 3);
  at.server.onSubscribe = async () => {
    at.server.appendMany(3); // they come by SSE; the subscription is behind them
    await given(at.progress, 6);
  };
  at.server.faults.websocket = undefined;
  await Promise.race([reached(at.progress, 'websocket'), once(at.progress, 'error')]);
  assert.deepEqual(at.seen.errors, []);
  assert.equal(await finish(at), 'websocket');
});

test('probes become rarer', async (t) => {
  const at = await setup(t, {
    options: { timing: { probe: 20, probeMax: 80 } },
    prepare: (server) => (server.faults.websocket = 'refuse'),
  });
  const asked = [];
  at.server.faults.websocket = () => asked.push(Date.now()) && 'refuse';
  while (asked.length < 6) await new Promise((resolve) => setTimeout(resolve, 5));
  const gaps = asked.slice(1).map((time, i) => time - asked[i]);
  assert.ok(gaps.at(-1) >= 80 && Math.min(...gaps) < 80, `the last pause is the longest: ${gaps}`);
});

test('a server that is away is waited for, and the best transport is taken again', async (t) => {
  const at = await setup(t);
  await reached(at.progress, 'websocket');
  at.server.appendMany(3);
  await given(at.progress, 3);
  const { port } = at.server;
  const away = once(at.progress, 'error');
  await at.server.close();
  const error = await away;
  assert.deepEqual([error.code, error.fatal, at.progress.transport], ['unreachable', false, null]);
  const again = new FakeServer();
  Object.assign(again, { log: at.server.log, status: at.server.status });
  await again.listen(port);
  t.after(() => again.close());
  again.appendMany(3);
  await given(at.progress, 6);
  await reached(at.progress, 'websocket');
  assert.equal(await finish({ ...at, server: again }), 'websocket');
});

test('Retry-After is honoured', async (t) => {
  let first = 0;
  const at = await setup(t, {
    options: { transports: ['sse', 'poll'] },
    prepare(server) {
      server.answers.sse = () => {
        first ||= Date.now();
        return [503, { code: 'store_unavailable', detail: 'later' }, { 'retry-after': '1' }];
      };
    },
  });
  const { code, retryAfter, fatal } = await once(at.progress, 'error');
  assert.deepEqual([code, retryAfter, fatal], ['store_unavailable', 1000, false]);
  at.server.answers.sse = undefined;
  await reached(at.progress, 'sse');
  assert.equal(at.server.count('sse'), 2);
  assert.equal(at.server.count('poll'), 0); // the server's word is no reason to change the transport
  assert.ok(Date.now() - first >= 1000, 'it came earlier than asked');
});

test('an answer that is no event stream is a failure of SSE only', async (t) => {
  const at = await setup(t, {
    options: { transports: ['sse', 'longpoll'] },
    prepare: (server) => (server.answers.sse = () => [200, '<html>sign in</html>', { 'content-type': 'text/html' }]),
  });
  await reached(at.progress, 'longpoll');
  assert.equal(await finish(at), 'longpoll');
});

test('204 is the end of a stream', async (t) => {
  const at = await setup(t, {
    options: { transports: ['sse'] },
    prepare(server) {
      server.append('build_completed');
      server.answers.sse = () => [204, ''];
    },
  });
  await once(at.progress, 'end');
  assertOnceInOrder(at.seen.ids, 1);
});

test('long polls that nobody holds give way to polls at their pace', async (t) => {
  const at = await setup(t, {
    options: { transports: ['longpoll', 'poll'], timing: { wait: 300 } },
    prepare: (server) => (server.answers.longpoll = () => [200, { events: [], lastEventId: 0, hasMore: false }]),
  });
  await reached(at.progress, 'poll');
  assert.equal(at.server.count('longpoll'), 3);
});

test('close() in any listener is the end of it', async (t) => {
  for (const type of ['transport', 'error', 'update', 'status']) {
    const at = await setup(t, { options: { timing: { quick: 1, retry: 1 } } });
    const closed = new Promise((resolve) => at.progress.addEventListener('close', resolve));
    await reached(at.progress, 'websocket');
    at.progress.addEventListener(type, () => at.progress.close());
    if (type === 'error') await at.server.close();
    else if (type === 'transport') at.server.cut();
    else at.server.append('plan_started');
    await closed;
    const before = at.server.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 20)); // many times its longest wait
    assert.equal(at.server.requests.length, before, `it tried again after close() in ${type}`);
  }
});
