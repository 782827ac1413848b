import assert from 'node:assert/strict';
import { test } from 'node:test';
import { watchPage } from '../src/page.js';
import { defaults } from '../src/timing.js';
import { fakePage } from './browser.js';
import { assertOnceInOrder, given, once, reached, setup } from './harness.js';

function watched(t) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  const calls = [];
  const stop = watchPage({ start: () => calls.push('start'), stop: () => calls.push('stop') }, defaults);
  t.after(stop);
  /** Time that passes, seen by each timer as it does. */
  const tick = (ms) => {
    for (const end = Date.now() + ms; Date.now() < end; ) t.mock.timers.tick(Math.min(1000, end - Date.now()));
  };
  /** Time that nobody saw pass: the timers are late. */
  const sleep = (ms) => t.mock.timers.tick(ms);
  return { calls, stop, tick, sleep };
}

test('a hidden page stays connected for a grace, and catches up on return', (t) => {
  const page = fakePage(t);
  const { calls, tick } = watched(t);
  page.hide();
  tick(defaults.hidden - 1);
  page.show();
  tick(defaults.hidden);
  assert.deepEqual(calls, []);
  page.hide();
  tick(defaults.hidden);
  assert.deepEqual(calls, ['stop']);
  page.window.dispatchEvent(new Event('online'));
  assert.deepEqual(calls, ['stop'], 'nobody looks');
  page.show();
  assert.deepEqual(calls, ['stop', 'start']);
});

test('a page that was opened in the background is paused too', (t) => {
  const page = fakePage(t);
  page.hide();
  const { calls, tick } = watched(t);
  tick(defaults.hidden);
  assert.deepEqual(calls, ['stop']);
});

test('another network, and the way back from the back-forward cache', (t) => {
  const page = fakePage(t);
  const { calls } = watched(t);
  page.window.dispatchEvent(new Event('online'));
  page.window.dispatchEvent(new Event('pagehide'));
  page.window.dispatchEvent(new Event('pageshow'));
  assert.deepEqual(calls, ['start', 'stop', 'start']);
});

test('a clock that jumps was asleep', (t) => {
  const { calls, tick, sleep, stop } = watched(t);
  tick(60_000);
  assert.deepEqual(calls, []);
  sleep(defaults.tick + defaults.drift + 1);
  assert.deepEqual(calls, ['start']);
  stop();
  tick(60_000);
  assert.deepEqual(calls, ['start']);
});

test('a client pauses and goes on with its page', async (t) => {
  const page = fakePage(t);
  const { server, progress, seen } = await setup(t, { options: { timing: { hidden: 20 } } });
  await reached(progress, 'websocket');
  server.append();
  await given(progress, 1);
  page.hide();
  await once(progress, 'transport', ({ transport }) => transport === null);
  server.appendMany(5);
  page.show();
  await given(progress, 6);
  assertOnceInOrder(seen.ids, 6);
  assert.equal(server.count('websocket'), 2);
});
