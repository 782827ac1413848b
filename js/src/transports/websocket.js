import { BuildError } from '../error.js';

/** @import { Attempt } from '../attempt.js' */

/**
 * The Socket.IO wire (Engine.IO 4, Socket.IO 5) over WebSocket only: handshake, CONNECT, subscribe, then updates.
 * @param {Attempt} attempt
 * @returns {Promise<void>} when the build is over
 */
export async function websocket(attempt) {
  const { host, signal } = attempt;
  const WebSocket = /** @type {typeof globalThis.WebSocket} */ (host.WebSocket);
  attempt.expect(host.timing.connect);
  const token = await host.token();
  signal.throwIfAborted();
  const socket = new WebSocket(`${host.url.replace(/^http/, 'ws')}/socket.io/?EIO=4&transport=websocket`);
  signal.addEventListener('abort', () => socket.close());
  const receive = session(attempt, token, (packet) => socket.send(packet));
  await new Promise((resolve, reject) => {
    socket.onmessage = ({ data }) => {
      try {
        if (!signal.aborted) receive(String(data));
        if (host.cursor.over) resolve(0);
      } catch (thrown) {
        reject(thrown);
      }
    };
    socket.onerror = socket.onclose = (/** @type {Event} */ { type }) => reject(new BuildError('cut', `WebSocket ${type}`));
  });
  host.finish();
}

/**
 * One session: returns a function that handles one Engine.IO packet.
 * @param {Attempt} attempt
 * @param {string|undefined} token
 * @param {(packet: string) => void} send
 * @returns {(packet: string) => void}
 */
function session(attempt, token, send) {
  const { buildId, cursor } = attempt.host;
  let silence = 0;
  return (packet) => {
    if (attempt.openedAt) attempt.expect(silence); // before that, the whole handshake is limited by `connect`
    const [, type, ack, json] = /^(4?.)(\d*)(.*)/s.exec(packet) ?? [];
    const body = json && JSON.parse(json);
    if (type === '0') {
      silence = body.pingInterval + body.pingTimeout;
      send(token ? `40${JSON.stringify({ token })}` : '40');
    } else if (type === '2') {
      send('3');
    } else if (type === '40') {
      send(`420${JSON.stringify(['subscribe', { buildId, ...cursor.where }])}`);
    } else if (type === '42') {
      const [name, detail] = body;
      if (detail?.buildId !== buildId) return;
      if (name === 'update') attempt.push(detail.events, detail, detail.lastEventId);
      if (name === 'subscribe_error') throw BuildError.told(detail.error ?? detail);
    } else if (type === '43' && ack === '0') {
      const [answer] = body;
      if (answer.error) throw BuildError.told(answer.error);
      attempt.opened();
      attempt.expect(silence);
      attempt.push([], answer);
    } else if (type === '44') {
      throw BuildError.told({ ...body, ...body.data });
    } else if (type === '1' || type === '41') {
      throw new BuildError('cut');
    }
  };
}
