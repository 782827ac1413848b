import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { sign, signBody, verify, verifyBody, WebhookError } from '../src/webhooks.js';

/** Those that the libraries for Standard Webhooks publish. */
const vectors = [
  {
    secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', at: 1614265330,
    body: '{"test": 2432232314}', signature: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  },
  {
    secret: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD', id: 'msg_27UH4WbU6Z5A5EzD8u03UvzRbpk', at: 1649367553,
    body: '{"email":"test@example.com","username":"test_user"}', signature: 'v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=',
  },
];
const foreign = 'v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=';
const [one, two] = vectors;

const headersOf = ({ id, at, signature }) => ({ 'webhook-id': id, 'webhook-timestamp': String(at), 'webhook-signature': signature });
const clock = ({ at }, off = 0) => ({ now: () => (at + off) * 1000 });
const code = (expected) => (error) => {
  assert.ok(error instanceof WebhookError, String(error));
  assert.equal(error.code, expected);
  return true;
};

test('the published vectors', async () => {
  for (const vector of vectors) {
    const { secret, id, at, body, signature } = vector;
    assert.equal(await sign(id, at, body, secret), signature);
    assert.equal(await sign(id, new Date(at * 1000 + 999), Buffer.from(body), [secret]), signature);
    assert.deepEqual(await verify(headersOf(vector), body, secret, clock(vector)), JSON.parse(body));
  }
});

test('headers and bodies in all their forms', async () => {
  const headers = headersOf(one);
  const bytes = new TextEncoder().encode(one.body);
  const padded = new Uint8Array([0, ...bytes, 0]).subarray(1, -1);
  const forms = [headers, new Headers(headers), new Map(Object.entries(headers)),
    Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), [value]]))];
  for (const form of forms) {
    for (const body of [one.body, bytes, padded, bytes.buffer, Buffer.from(one.body)]) {
      assert.deepEqual(await verify(form, body, one.secret, clock(one)), { test: 2432232314 });
    }
  }
  await assert.rejects(verify(headers, JSON.parse(one.body), one.secret, clock(one)), TypeError);
});

test('several signatures and several secrets', async () => {
  const both = await sign(one.id, one.at, one.body, [two.secret, one.secret]);
  assert.equal(both.split(' ').length, 2);
  for (const [signature, secrets] of [
    [both, one.secret], [both, two.secret], [one.signature, [two.secret, one.secret]],
    [`${foreign} v1, v1a,xyz  v2,abc ${one.signature}`, one.secret],
  ]) {
    await verify({ ...headersOf(one), 'webhook-signature': signature }, one.body, secrets, clock(one));
  }
});

test('what is not signed by us is refused', async () => {
  const { signature: good } = one;
  for (const signature of [foreign, 'v1,', `v2${good.slice(2)}`, good.slice(3), good.slice(0, -1), `${good}=`, `x${good}`, 'x  y']) {
    await assert.rejects(verify({ ...headersOf(one), 'webhook-signature': signature }, one.body, one.secret, clock(one)), code('no_match'), signature);
  }
  await assert.rejects(verify(headersOf(one), `${one.body} `, one.secret, clock(one)), code('no_match'));
  await assert.rejects(verify(headersOf(one), one.body, two.secret, clock(one)), code('no_match'));
  await assert.rejects(verify({ ...headersOf(one), 'webhook-id': 'msg_2' }, one.body, one.secret, clock(one)), code('no_match'));
  await assert.rejects(verify({ ...headersOf(one), 'webhook-timestamp': String(one.at + 1) }, one.body, one.secret, clock(one)), code('no_match'));
});

test('without a secret nothing is accepted', async () => {
  for (const secrets of [[], [undefined], undefined, '', null]) {
    for (const signature of [one.signature, 'x  y', foreign]) {
      await assert.rejects(verify({ ...headersOf(one), 'webhook-signature': signature }, one.body, secrets, clock(one)), code('bad_secret'));
    }
    await assert.rejects(verifyBody({ 'x-webhook-signature': 'x' }, one.body, secrets), code('bad_secret'));
  }
});

test('a header that is missing is named', async () => {
  for (const name of Object.keys(headersOf(one))) {
    const headers = { ...headersOf(one), [name]: undefined };
    await assert.rejects(verify(headers, one.body, one.secret, clock(one)), (error) => code('missing_header')(error) && error.message.includes(name));
    delete headers[name];
    await assert.rejects(verify(new Headers(headers), one.body, one.secret, clock(one)), code('missing_header'));
  }
});

test('the time', async () => {
  const check = (off, tolerance) => verify(headersOf(one), one.body, one.secret, { ...clock(one, off), tolerance });
  for (const off of [0, 300, -300]) await check(off);
  for (const off of [301, -301, 86_400]) await assert.rejects(check(off), code('timestamp'));
  await check(3600, 3_600_000);
  await assert.rejects(check(2, 1000), code('timestamp'));
  await assert.rejects(check(0, NaN), code('timestamp'));
  await assert.rejects(verify(headersOf(one), one.body, one.secret), code('timestamp'), 'the clock is the real one');
  const now = Math.floor(Date.now() / 1000);
  await verify(headersOf({ id: 'a', at: now, signature: await sign('a', now, '{}', one.secret) }), '{}', one.secret);
  for (const text of ['now', '-1', '+1614265330', '01614265330', '1614265330.0', '1e9', '9'.repeat(20)]) {
    await assert.rejects(verify({ ...headersOf(one), 'webhook-timestamp': text }, one.body, one.secret, clock(one)), code('timestamp'), text);
  }
});

test('X-Webhook-Signature', async () => {
  const secret = "It's a Secret to Everybody";
  const hello = '757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17';
  assert.equal(await signBody('Hello, World!', secret), hello);
  const body = '{"ä":1}';
  // Keyed with the text as it is written, whsec_ and all.
  for (const text of [secret, one.secret]) {
    const headers = { 'X-Webhook-Signature': createHmac('sha256', text).update(body).digest('hex') };
    assert.deepEqual(await verifyBody(headers, Buffer.from(body), [two.secret, text]), { ä: 1 });
    await assert.rejects(verifyBody(headers, body, two.secret), code('no_match'));
    await assert.rejects(verifyBody(headers, `${body} `, text), code('no_match'));
    await assert.rejects(verifyBody({ 'X-Webhook-Signature': headers['X-Webhook-Signature'].slice(1) }, body, text), code('no_match'));
  }
  await assert.rejects(verifyBody({}, body, secret), code('missing_header'));
});

test('secrets: what is wrong is said without them', async () => {
  const whsec = (length) => `whsec_${randomBytes(length).toString('base64')}`;
  for (const secret of [whsec(24), whsec(32), whsec(64), 'plain text']) await sign('a', 1, '', secret);
  for (const secret of ['hunter2', whsec(23), whsec(65), 'whsec_', 'whsec_not-base64!', whsec(25).replace(/=+$/, ''), `${whsec(24)}\n`]) {
    await assert.rejects(sign('a', 1, '', secret), (error) => {
      const shown = secret.replace('whsec_', '');
      return code('bad_secret')(error) && !(shown && inspect(error).includes(shown));
    });
  }
  // A plain text's key is its bytes, not what base64 would make of them.
  assert.notEqual(await sign(one.id, one.at, one.body, one.secret.slice(6)), one.signature);
  assert.equal(await sign('a', 1, '', 'plain text of 24 bytes..'), await sign('a', 1, '', `whsec_${btoa('plain text of 24 bytes..')}`));
});

test('what is changed by one bit is refused', async () => {
  for (let round = 0; round < 200; round++) {
    const secret = `whsec_${randomBytes(24 + (round % 41)).toString('base64')}`;
    const body = Buffer.from(JSON.stringify({ round, text: randomBytes(round).toString('latin1') }));
    const at = randomBytes(4).readUInt32BE();
    const headers = headersOf({ id: `msg_${round}`, at, signature: await sign(`msg_${round}`, at, body, secret) });
    assert.equal((await verify(headers, body, secret, clock({ at }))).round, round);
    body[randomBytes(2).readUInt16BE() % body.length] ^= 1 << (round % 8);
    await assert.rejects(verify(headers, body, secret, clock({ at })), code('no_match'));
  }
});
