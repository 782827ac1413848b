import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../src/backoff.js';
import { Cursor } from '../src/cursor.js';
import { fold, queued } from '../src/fold.js';
import { defaults } from '../src/timing.js';
import { eventStream } from '../src/transports/eventstream.js';
import { buildId } from './server.js';

test('backoff: quick, then doubling to the cap, spread', (t) => {
  const random = t.mock.method(Math, 'random', () => 1);
  const backoff = new Backoff(defaults);
  assert.deepEqual(Array.from({ length: 8 }, () => backoff.next()), [250, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  backoff.ease();
  assert.equal(backoff.next(), 1000);
  random.mock.mockImplementation(() => 0);
  assert.equal(backoff.next(), 1000); // half of 2000
  assert.equal(backoff.next(7000), 7000, 'never earlier than asked');
  assert.equal(backoff.next(1e12), 3_600_000, 'a timer has a limit');
  backoff.reset();
  assert.equal(backoff.next(), 0);
});

test('event stream: however it is cut', () => {
  const text = 'retry: 3000\n\n: heartbeat\n\nid: 1\ndata: {"a":"ä: b"}\n\nid: 2\ndata:{}\n\nevent: end\ndata: {}\n\nid: 3\nda';
  const whole = [{ retry: '3000' }, {}, { id: '1', data: '{"a":"ä: b"}' }, { id: '2', data: '{}' }, { event: 'end', data: '{}' }];
  for (let size = 1; size <= text.length; size++) {
    const parse = eventStream();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parse(text.slice(at, at + size)));
    assert.deepEqual(found, whole, `cut each ${size}`);
  }
});

test('event stream: a line without end is refused', () => {
  const parse = eventStream();
  assert.throws(() => {
    for (let i = 0; i < 100; i++) parse('x'.repeat(100_000));
  }, RangeError);
});

const event = (id, type = 'build_log', data = {}, progress = 0) => ({
  id, buildId, type, data, progress, timestamp: `2026-11-23T07:14:${String(id).padStart(2, '0')}.000Z`,
});

test('cursor: passes each event once, in order; tells a gap', () => {
  const cursor = new Cursor(buildId, 2);
  const ids = (...list) => cursor.take(list.map((id) => event(id))).map(({ id }) => id);
  assert.deepEqual(ids(1, 2, 3, 3, 4), [3, 4]);
  assert.deepEqual(ids(6, 7), []);
  assert.equal(cursor.gap, true);
  assert.deepEqual(ids(5, 7, 6), [5, 6]);
  assert.equal(cursor.gap, true);
  assert.deepEqual(ids(7), [7]);
  assert.equal(cursor.gap, false);
  assert.deepEqual(cursor.take([{ ...event(8), buildId: 'another' }]), []);
});

test('cursor: the newest status wins, from wherever it comes', () => {
  const cursor = new Cursor(buildId, 0);
  cursor.hear({ status: queued(buildId) });
  cursor.take([event(1, 'plan_started', {}, 10)]);
  assert.deepEqual([cursor.status.status, cursor.status.lastEventId], ['planning', 1]);
  const server = { ...cursor.status, status: 'completed', lastEventId: 3 };
  cursor.hear({ status: server });
  cursor.hear({ status: queued(buildId) });
  cursor.take([event(2)]);
  assert.deepEqual([cursor.status, cursor.over], [server, false]);
  cursor.take([event(3)]);
  assert.equal(cursor.over, true);
});

test('fold: data of any shape does not throw, and fields of another type count as absent', () => {
  const hostile = [
    null, 7, 'text', [1], { message: { toString: 1 } }, { message: ['a'], taskName: { toString: null } }, { taskCount: 'many' },
    { taskCount: -1 }, { taskCount: 2.5 }, { attempt: 'x', willRetry: 'yes' }, { previewUrl: 5, error: {} },
    JSON.parse('{"__proto__": {"message": 1}, "constructor": 1, "toString": 1}'),
  ];
  for (const data of hostile) {
    for (const type of ['plan_generated', 'task_started', 'task_failed', 'deploy_completed', 'build_failed', 'constructor', 'valueOf']) {
      const { message, error, previewUrl, tasks } = fold(queued(buildId), event(1, type, data));
      assert.deepEqual([message, error, previewUrl].map((each) => typeof each), ['string', 'string', 'string'], `${type} ${JSON.stringify(data)}`);
      assert.ok(Object.values(tasks).every((n) => Number.isSafeInteger(n) && n >= 0), JSON.stringify(tasks));
    }
  }
});

test('fold: a failure names its cause', () => {
  const failed = (type, data) => fold(queued(buildId), event(1, type, data));
  assert.deepEqual([failed('task_failed', {}).error, failed('task_failed', {}).tasks.failed], ['failed at task_failed', 1]);
  assert.equal(failed('build_failed', { error: 'no space', message: 'Oh' }).error, 'no space');
  assert.equal(failed('deploy_failed', { message: 'Oh' }).message, 'Oh');
  assert.equal(failed('deploy_failed', null).message, 'failed at deploy_failed');
  assert.equal(failed('build_cancelled', {}).status, 'cancelled');
});
