// Verifies webhooks in receivers: Node 20 and later, browsers, workers. It does not depend on the client.

/** How far a request's timestamp may be from now, both ways, in milliseconds. */
const fiveMinutes = 300_000;

/**
 * The headers of a request: those of fetch, or Node's `request.headers`.
 * @typedef {{get(name: string): string|null} | Record<string, string|string[]|undefined>} HeaderSource
 */

/**
 * The body exactly as it was received. If it is parsed and serialized again, its bytes differ.
 * @typedef {string|Uint8Array|ArrayBuffer} Body
 */

/**
 * A request's body.
 * @typedef {object} WebhookPayload
 * @property {string} buildId
 * @property {number} id of the event
 * @property {string} type such as `task_completed`
 * @property {any} [data] absent if the endpoint's payload is thin
 * @property {number} progress of the build after the event, 0-100
 * @property {string} timestamp RFC 3339, UTC, milliseconds
 */

/** Why a request is not accepted. Branch on `code`; the message is for people, and may be logged. */
export class WebhookError extends Error {
  /**
   * @param {'missing_header'|'timestamp'|'no_match'|'bad_secret'} code `bad_secret` is the receiver's own mistake
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.name = 'WebhookError';
    this.code = code;
  }
}

/**
 * Checks that the request was signed with one of the secrets within the last five minutes, and returns its parsed body.
 * Otherwise it throws a WebhookError. A receiver that must not act twice records the `webhook-id` of each handled request.
 *
 *     const event = await verify(request.headers, await request.text(), secret);
 *
 * @param {HeaderSource} headers
 * @param {Body} body
 * @param {string|string[]} secrets several while one is being replaced
 * @param {{tolerance?: number, now?: () => number}} [options] `tolerance`: how far the timestamp may be from now, both
 *   ways, in milliseconds; 300000. `now`: the clock, in milliseconds.
 * @returns {Promise<WebhookPayload>}
 */
export async function verify(headers, body, secrets, { tolerance = fiveMinutes, now = Date.now } = {}) {
  const id = need(headers, 'webhook-id');
  const timestamp = need(headers, 'webhook-timestamp');
  const given = need(headers, 'webhook-signature').split(' ');
  checkTime(timestamp, now(), tolerance);
  compare(await signatures(id, Number(timestamp), body, secrets), given);
  return parse(body);
}

/**
 * The `webhook-signature` header of Standard Webhooks: a signature of each secret, with spaces between.
 * @param {string} id the `webhook-id`
 * @param {number|Date} at the `webhook-timestamp`: Unix seconds, or a Date that is cut to them
 * @param {Body} body
 * @param {string|string[]} secrets
 * @returns {Promise<string>}
 */
export async function sign(id, at, body, secrets) {
  const seconds = Math.floor(at instanceof Date ? at.getTime() / 1000 : at);
  return (await signatures(id, seconds, body, secrets)).join(' ');
}

/**
 * Checks the `X-Webhook-Signature` header, for receivers that check no other, and returns the parsed body. The header
 * has no time in it, so anybody who has seen a request can send it again: prefer `verify`.
 * @param {HeaderSource} headers
 * @param {Body} body
 * @param {string|string[]} secrets
 * @returns {Promise<WebhookPayload>}
 */
export async function verifyBody(headers, body, secrets) {
  const given = need(headers, 'x-webhook-signature');
  compare(await Promise.all(listOf(secrets).map((secret) => signBody(body, secret))), [given]);
  return parse(body);
}

/**
 * The `X-Webhook-Signature` header: hex, keyed with the secret's text as it is written, `whsec_` and all.
 * @param {Body} body
 * @param {string} secret
 * @returns {Promise<string>}
 */
export async function signBody(body, secret) {
  keyOf(secret);
  const mac = await hmac(encode(secret), bytesOf(body));
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * A signature of each secret.
 * @param {string} id
 * @param {number} seconds
 * @param {Body} body
 * @param {string|string[]} secrets
 */
function signatures(id, seconds, body, secrets) {
  const head = encode(`${id}.${seconds}.`);
  const rest = bytesOf(body);
  const content = new Uint8Array(head.length + rest.length);
  content.set(head);
  content.set(rest, head.length);
  return Promise.all(listOf(secrets).map(async (secret) => {
    const mac = await hmac(keyOf(secret), content);
    return `v1,${btoa(String.fromCharCode(...mac))}`;
  }));
}

/**
 * Throws unless one of our signatures is among the given ones. It compares every pair, so that the time does not reveal a near match.
 * @param {string[]} ours
 * @param {string[]} given
 */
function compare(ours, given) {
  const matches = ours.flatMap((one) => given.map((other) => same(one, other)));
  if (!matches.includes(true)) throw new WebhookError('no_match', 'no signature of the request is by a secret of ours');
}

/**
 * @param {string|string[]} secrets
 * @returns {string[]}
 */
function listOf(secrets) {
  const list = [secrets].flat();
  if (!list.length) throw new WebhookError('bad_secret', 'there is no secret to check with');
  return list;
}

/**
 * @param {HeaderSource} headers
 * @param {string} name in lower case
 */
function need(headers, name) {
  const value = typeof headers.get === 'function' ? headers.get(name) : find(headers, name);
  if (!value) throw new WebhookError('missing_header', `the request has no ${name} header`);
  return value;
}

/**
 * @param {any} headers
 * @param {string} name
 * @returns {string|undefined}
 */
function find(headers, name) {
  const key = Object.keys(headers).find((one) => one.toLowerCase() === name);
  return key === undefined ? undefined : [headers[key]].flat()[0];
}

/**
 * @param {string} timestamp Unix seconds
 * @param {number} now milliseconds
 * @param {number} tolerance milliseconds
 */
function checkTime(timestamp, now, tolerance) {
  if (!/^(0|[1-9]\d{0,14})$/.test(timestamp)) {
    throw new WebhookError('timestamp', 'the webhook-timestamp is not a number of Unix seconds');
  }
  const off = Math.floor(now / 1000) - Number(timestamp);
  if (!(Math.abs(off) * 1000 <= tolerance)) { // negated, so that NaN is refused
    throw new WebhookError('timestamp', off > 0 ? 'the request is too old' : 'the request is ahead of this clock');
  }
}

/**
 * The key of Standard Webhooks: what follows `whsec_`, decoded; a plain text's own bytes. The errors do not hold it.
 * @param {string} secret
 */
function keyOf(secret) {
  if (typeof secret !== 'string' || secret.length < 8) {
    throw new WebhookError('bad_secret', 'the secret is missing, or has less than 8 characters');
  }
  if (!secret.startsWith('whsec_')) return encode(secret);
  const encoded = secret.slice('whsec_'.length);
  let decoded = '';
  try {
    decoded = atob(encoded);
  } catch {
    // invalid base64 decodes to no bytes, and is refused below
  }
  if (btoa(decoded) !== encoded || decoded.length < 24 || decoded.length > 64) {
    throw new WebhookError('bad_secret', 'what follows whsec_ in the secret is not the base64 of 24 to 64 bytes');
  }
  return Uint8Array.from(decoded, (char) => char.charCodeAt(0));
}

/**
 * @param {Uint8Array<ArrayBuffer>} key
 * @param {Uint8Array<ArrayBuffer>} content
 */
async function hmac(key, content) {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const imported = await crypto.subtle.importKey('raw', key, algorithm, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', imported, content));
}

/**
 * @param {Body} body
 * @returns {Uint8Array<ArrayBuffer>}
 */
function bytesOf(body) {
  if (typeof body === 'string') return encode(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  // Not instanceof: a test runner's Uint8Array may be of another realm.
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice();
  throw new TypeError('the body is to be the text or the bytes of the request as they came, not what was parsed from them');
}

/** @param {Body} body that was verified */
const parse = (body) => JSON.parse(typeof body === 'string' ? body : new TextDecoder().decode(body));

/** @param {string} text */
const encode = (text) => new Uint8Array(new TextEncoder().encode(text));

/**
 * Compares in a time that does not depend on where the two differ.
 * @param {string} ours
 * @param {string} theirs
 */
function same(ours, theirs) {
  let differ = ours.length ^ theirs.length;
  for (let i = 0; i < ours.length; i++) differ |= ours.charCodeAt(i) ^ theirs.charCodeAt(i);
  return differ === 0;
}
