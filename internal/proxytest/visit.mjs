// Visits a site as its pages do: node visit.mjs follow|refused URL TRANSPORT
//
//	follow   the stock socket.io-client and the JavaScript client follow a build to its end;
//	         the stock client ends on TRANSPORT
//	refused  prints what the stock client is told
import assert from 'node:assert/strict';
import dns from 'node:dns';
import { createRequire } from 'node:module';
import { BuildProgress } from '../../js/src/index.js';

const require = createRequire(new URL('../socketio/jstest/package.json', import.meta.url));
const { io } = require('socket.io-client');
const [what, site, transport] = process.argv.slice(2);

// All names are the proxy's.
const { lookup } = dns;
dns.lookup = (_host, options, done) => lookup('127.0.0.1', options, done);

setTimeout(() => {
  console.error('not done within 30 s');
  process.exit(1);
}, 30_000);

const { origin, pathname } = new URL(site);
const extraHeaders = { Origin: origin }; // as browsers send it

const events = Array.from({ length: 5 }, (_, i) => ({ type: 'build_log', data: { line: `line ${i}` } }));

async function report(build, list) {
  const answer = await fetch(`${site}/api/builds/${build}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${process.env.KEY}` },
    body: JSON.stringify(list),
  });
  assert.equal(answer.status, 201, await answer.text());
}

/** Resolves with the ids that the stock client has seen, once it has seen seven and stands on the transport. */
function stock(options) {
  const socket = io(origin, { path: `${pathname.replace(/\/$/, '')}/socket.io`, forceNew: true, extraHeaders, ...options });
  const ids = [];
  return new Promise((resolve, reject) => {
    socket.on('connect_error', (error) => reject(new Error(`${error.message}: ${error.context?.responseText ?? ''}`)));
    socket.on('update', (update) => {
      ids.push(...update.events.map((event) => event.id));
      if (ids.length < 7) return;
      const { engine } = socket.io;
      const finish = () => resolve({ ids, transport: engine.transport.name });
      if (engine.transport.name === transport) finish();
      else engine.once('upgrade', finish);
    });
    socket.on('connect', async () => {
      const { error } = await socket.emitWithAck('subscribe', { buildId: 'stock', lastEventId: 0 });
      if (error) reject(new Error(error.message));
      else report('stock', [{ type: 'plan_started' }, ...events, { type: 'build_completed' }]).catch(reject);
    });
  }).finally(() => socket.disconnect());
}

/** Follows a build with the JavaScript client, by one transport. */
async function client(name, options) {
  const build = new BuildProgress(name, { url: site, share: false, ...options });
  const ids = [];
  build.addEventListener('update', ({ detail }) => ids.push(...detail.events.map((event) => event.id)));
  const failed = new Promise((_, reject) => build.addEventListener('error', ({ detail }) => detail.fatal && reject(detail)));
  const ended = new Promise((resolve) => build.addEventListener('end', resolve));
  await Promise.race([failed, new Promise((resolve) => build.addEventListener('transport', resolve))]);
  await report(name, [{ type: 'plan_started' }, ...events, { type: 'build_completed' }]);
  await Promise.race([failed, ended]);
  return ids;
}

const all = [1, 2, 3, 4, 5, 6, 7];
if (what === 'refused') {
  await assert.rejects(stock({}), (error) => {
    console.log(error.message);
    return true;
  });
} else {
  assert.deepEqual(await stock({}), { ids: all, transport });
  for (const each of ['sse', 'longpoll', 'poll']) assert.deepEqual(await client(`js-${each}`, { transports: [each] }), all, each);
}
process.exit(0); // kept connections would hold it
