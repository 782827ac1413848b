// A server that speaks buildcast's wire and misbehaves on order.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { fold, isTerminal, queued } from '../src/fold.js';

export const buildId = '01JDTESTBUILD';

/** Milliseconds; the client's own are in quick. */
const pace = { ping: 40, heartbeat: 30 };

/** Timings that make tests fast: 1 s becomes about 10 ms. */
export const quick = {
  connect: 5000, firstByte: 80, heartbeat: 100, wait: 300, poll: 10, pollIdle: 30, stable: 150, flaps: 3,
  probe: 10_000, probeMax: 60_000, quick: 3, retry: 10, retryMax: 60,
};

/**
 * What goes wrong, by transport: a function is asked at each request.
 * `refuse`: answered 502. `reset`: cut before an answer. `hang`: never answered. `silent`: opens, then nothing, as behind
 * a proxy that buffers. `deaf`: a WebSocket that only pings. `{cut: ms}`: works for so long. undefined: works.
 * @typedef {undefined|'refuse'|'reset'|'hang'|'silent'|'deaf'|{cut: number}} Fault
 */

export class FakeServer {
  log = [];
  /** The status of the newest build that had the id; it is there from the start, like one that was announced. */
  status = queued(buildId);
  /** The first event that is kept. */
  first = 1;
  /** There is no such build: it was never made, or is deleted. */
  absent = false;
  /** What is appended wakes nobody. */
  quiet = false;
  /** @type {Record<string, Fault | (() => Fault)>} */
  faults = {};
  /** Changes what a stream or poll carries: doubles, gaps, another order. */
  alter = (events) => events;
  /** Answers that come in place of the right one, by path ending: [status, body, headers]. */
  answers = {};
  /** What each request asked for, in order. */
  requests = [];
  /** Tokens that clients sent. */
  tokens = [];
  subscribeError = null;
  /** The answer to a subscribe, which is made already, waits for it. */
  onSubscribe = async () => {};
  #waiting = new Set();
  #open = new Set();
  #sockets = new WebSocketServer({ noServer: true });
  #http = createServer((request, response) => this.#answer(request, response));

  async listen(port = 0) {
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.#http.on('connection', (socket) => {
      this.#open.add(socket);
      socket.on('close', () => this.#open.delete(socket));
      socket.on('error', () => {});
    });
    await new Promise((resolve) => this.#http.listen(port, '127.0.0.1', resolve));
    this.port = this.#http.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
    return this;
  }

  async close() {
    for (const socket of this.#open) socket.destroy();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  /** Cuts what is open, as a kill -9 does. */
  cut() {
    for (const socket of this.#open) socket.destroy();
  }

  get open() {
    return this.#open.size;
  }

  /** Cuts the log from the front. */
  cutLog(first) {
    this.first = first;
    this.status = { ...this.status, firstEventId: first };
  }

  /** Deletes the build: what is appended later is of a new one, and begins with the next id. */
  remove() {
    this.absent = true;
    this.first = this.log.length + 1;
  }

  get told() {
    return { firstEventId: this.first, status: this.absent ? null : this.status };
  }

  append(type = 'build_log', data = {}) {
    if (this.absent) {
      this.absent = false;
      this.status = { ...queued(buildId), firstEventId: this.first, lastEventId: this.log.length };
    }
    const event = {
      id: this.log.length + 1, buildId, type, data, progress: this.status.progress,
      timestamp: new Date(1e12 + this.log.length).toISOString(),
    };
    this.log.push(event);
    this.status = fold(this.status, event);
    if (!this.quiet) for (const wake of [...this.#waiting]) wake();
    return event;
  }

  appendMany(n) {
    for (let i = 0; i < n; i++) this.append();
  }

  count(transport) {
    return this.requests.filter((each) => each.transport === transport).length;
  }

  #fault(transport) {
    const fault = this.faults[transport];
    return typeof fault === 'function' ? fault() : fault;
  }

  /** Calls now and on each append, until the connection ends. */
  #follow(connection, call) {
    const stop = () => this.#waiting.delete(call);
    this.#waiting.add(call);
    connection.on('close', stop);
    call();
    return stop;
  }

  #answer(request, response) {
    const url = new URL(request.url, 'http://server');
    const asked = url.searchParams;
    const wait = url.searchParams.get('wait');
    const [, path] = /\/(status|events)(?:$|\/[^/]+$)/.exec(url.pathname) ?? [];
    const stream = url.pathname.startsWith('/events/');
    const transport = path === 'status' ? 'status' : stream ? 'sse' : wait ? 'longpoll' : 'poll';
    this.requests.push({ transport, after: Number(asked.get('lastEventId')), url: request.url });
    this.tokens.push(request.headers.authorization);
    const fault = this.#fault(transport);
    if (fault === 'hang') return;
    if (fault === 'reset') return request.socket.destroy();
    const made = this.answers[transport]?.();
    if (made || fault === 'refuse') {
      const [code, body, headers = {}] = made ?? [502, '<html>Bad gateway</html>'];
      response.writeHead(code, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
      return;
    }
    if (fault?.cut) setTimeout(() => request.socket.destroy(), fault.cut);
    if (transport === 'status') {
      return this.absent ? this.#json(response, { code: 'not_found' }, 404) : this.#json(response, this.status);
    }
    const { after, error } = this.#place({
      lastEventId: Number(asked.get('lastEventId')), from: asked.get('from'), tail: Number(asked.get('tail')),
    });
    if (error) return this.#json(response, { ...error, detail: error.message }, error.code === 'cursor_gone' ? 410 : 409);
    if (stream) this.#stream(response, after, fault);
    else this.#page(response, after, wait ? parseFloat(wait) * 1000 : 0);
  }

  /** Where a cursor stands, by the server's rules. */
  #place({ lastEventId = 0, from, tail }) {
    const last = this.log.length;
    const bounds = { firstEventId: this.first, lastEventId: last };
    if (from) return { after: last };
    if (tail) return { after: Math.max(last - tail, this.first - 1) };
    if (!lastEventId) return { after: this.first - 1 };
    if (lastEventId > last) return { error: { code: 'cursor_ahead', message: 'ahead', ...bounds } };
    if (lastEventId < this.first - 1) return { error: { code: 'cursor_gone', message: 'gone', ...bounds } };
    return { after: lastEventId };
  }

  /** A stream that stands before the first event that is kept is told so, and ends. */
  #lost(after) {
    return after < this.first - 1 && this.#place({ lastEventId: after || -1 }).error;
  }

  #json(response, body, code = 200) {
    response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  #page(response, after, wait) {
    const answer = () => {
      if (response.writableEnded) return;
      clearTimeout(timer);
      const events = this.log.slice(after, after + 100);
      const last = events.at(-1)?.id ?? after;
      this.#json(response, { events: this.alter(events), firstEventId: this.first, lastEventId: last, hasMore: last < this.log.length });
    };
    const ready = () => this.log.length > after || (!this.absent && isTerminal(this.status));
    const timer = setTimeout(answer, ready() ? 0 : wait);
    if (!ready() && wait) this.#follow(response, () => ready() && answer());
  }

  #stream(response, after, fault) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
    if (fault === 'silent') return;
    const block = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
    response.write(`retry: 10\n\n${block('begin', { buildId, after, lastEventId: this.log.length, ...this.told })}`);
    const beat = setInterval(() => response.write(': heartbeat\n\n'), pace.heartbeat);
    response.on('close', () => clearInterval(beat));
    let stop = () => {};
    stop = this.#follow(response, () => {
      if (this.stalled) return clearInterval(beat);
      const problem = this.#lost(after);
      if (problem) {
        stop();
        return response.end(block('problem', problem));
      }
      const events = this.alter(this.log.slice(after));
      after = this.log.length;
      const text = events.map((event) => `id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`).join('');
      // Cut anywhere, as TCP does.
      const half = Math.floor(text.length / 2);
      if (text) response.write(text.slice(0, half)) && response.write(text.slice(half));
      if (!this.absent && isTerminal(this.status)) {
        stop();
        response.end(block('end', {}));
      }
    });
  }

  #upgrade(request, socket, head) {
    this.requests.push({ transport: 'websocket', url: request.url });
    const fault = this.#fault('websocket');
    if (fault === 'hang') return;
    if (fault === 'reset') return socket.destroy();
    if (fault === 'refuse') return socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n');
    if (fault?.cut) setTimeout(() => socket.destroy(), fault.cut);
    this.#sockets.handleUpgrade(request, socket, head, (ws) => this.#session(ws, fault));
  }

  #session(ws, fault) {
    ws.on('error', () => {});
    if (fault === 'silent') return;
    let held = false; // a proxy that holds a stream back loses none of it and then goes on
    const send = (packet) => ws.readyState === ws.OPEN && !(held ||= this.stalled) && ws.send(packet);
    send(`0${JSON.stringify({ sid: 'e', upgrades: [], pingInterval: pace.ping, pingTimeout: pace.ping, maxPayload: 1e6 })}`);
    const ping = setInterval(() => send('2'), pace.ping);
    ws.on('close', () => clearInterval(ping));
    ws.on('message', (data) => {
      const packet = String(data);
      if (fault === 'deaf') return;
      if (packet.startsWith('40')) {
        this.tokens.push(packet.slice(2) && JSON.parse(packet.slice(2)).token);
        if (this.connectError) send(`44${JSON.stringify(this.connectError)}`);
        else send('40{"sid":"s"}');
      }
      if (packet === '3') this.pongs = (this.pongs ?? 0) + 1;
      if (packet.startsWith('420')) this.#subscribe(ws, send, JSON.parse(packet.slice(3))[1]);
    });
  }

  async #subscribe(ws, send, asked) {
    this.requests.at(-1).after = asked.lastEventId;
    const place = this.#place(asked);
    const error = this.subscribeError ?? place.error;
    if (error) return send(`430${JSON.stringify([{ buildId, error }])}`);
    let { after } = place;
    const answer = JSON.stringify([{ after, lastEventId: this.log.length, ...this.told }]);
    await this.onSubscribe();
    send(`430${answer}`);
    let stop = () => {};
    stop = this.#follow(ws, () => {
      const lost = this.#lost(after);
      if (lost) {
        stop();
        return send(`42${JSON.stringify(['subscribe_error', { buildId, error: lost }])}`);
      }
      if (after === this.log.length) return;
      const events = this.alter(this.log.slice(after));
      after = this.log.length;
      const update = { buildId, events, lastEventId: after, ...this.told };
      send(`42${JSON.stringify(['update', update])}`);
    });
  }
}
