import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertOnceInOrder, follow, once } from './harness.js';
import { FakeServer } from './server.js';

const events = 300;
const builds = 16;

/** Repeatable random numbers in [0, 1), by seed (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Any fault at any moment, on any transport. */
function misbehave(server, chance) {
  const pick = (list) => list[Math.floor(chance() * list.length)];
  const fault = () => pick([undefined, undefined, 'refuse', 'reset', 'hang', 'silent', { cut: 5 + chance() * 40 }]);
  for (const name of ['websocket', 'sse', 'longpoll']) server.faults[name] = fault;
  server.faults.poll = server.faults.status = () => pick([undefined, undefined, undefined, 'refuse', 'reset', { cut: 2 }]);
  server.alter = (list) => {
    const turn = chance();
    if (turn < 0.7 || !list.length) return list;
    const at = Math.floor(chance() * list.length);
    if (turn < 0.8) return list.toSpliced(at, 1);
    if (turn < 0.9) return list.toSpliced(at, 0, ...list.slice(0, at + 1));
    return list.toReversed();
  };
}

async function run(seed) {
  const chance = random(seed);
  const server = await new FakeServer().listen();
  misbehave(server, chance);
  const { progress, seen } = follow(server, {
    timing: { connect: 120, firstByte: 40, wait: 60, probe: 40, probeMax: 200, stable: 30 },
  });
  const ended = once(progress, 'end');
  while (server.log.length < events - 1) {
    server.appendMany(Math.min(1 + Math.floor(chance() * 8), events - 1 - server.log.length));
    if (chance() < 0.05) server.cut();
    if (chance() < 0.05) server.stalled = !server.stalled;
    await new Promise((resolve) => setTimeout(resolve, chance() * 15));
  }
  server.stalled = false;
  server.append('build_completed');
  await ended;
  await server.close();
  assertOnceInOrder(seen.ids, events);
  assert.equal(seen.ends.length, 1);
  assert.deepEqual(seen.ends[0].status.status, 'completed');
  assert.deepEqual(seen.errors.filter(({ code }) => code === 'cursor_ahead'), []);
  return new Set(seen.transports);
}

test(`random faults: each of ${events} events once and in order`, { timeout: 60_000 }, async (t) => {
  const first = Number(process.env.SEED) || Math.floor(Math.random() * 1e6);
  t.diagnostic(`SEED=${first} repeats it`);
  const used = await Promise.all(Array.from({ length: builds }, (_, i) => run(first + i)));
  const all = new Set(used.flatMap((set) => [...set]));
  assert.deepEqual([...all].map(String).sort(), ['longpoll', 'null', 'poll', 'sse', 'websocket']);
});
