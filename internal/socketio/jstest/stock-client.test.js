// The stock socket.io-client against the conformance server:
//
//	go run ./internal/socketio/conformance -listen 127.0.0.1:3000
//	npm install && URL=http://127.0.0.1:3000 npm test
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { io } from "socket.io-client";

const url = process.env.URL ?? "http://127.0.0.1:3000";
const sockets = new Set();

function connect(options, namespace = "") {
  const socket = io(url + namespace, { forceNew: true, reconnectionDelay: 50, ...options });
  sockets.add(socket);
  return socket;
}

// once resolves to the arguments of the next event; it fails if none comes.
function once(emitter, event) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} within 10 s`)), 10_000);
    emitter.once(event, (...args) => {
      clearTimeout(timer);
      resolve(args);
    });
  });
}

after(() => sockets.forEach((socket) => socket.disconnect()));

const ways = [
  ["default options", {}, "websocket"],
  ["websocket only", { transports: ["websocket"] }, "websocket"],
  ["polling only", { transports: ["polling"] }, "polling"],
  ["websocket with compression", { transports: ["websocket"], perMessageDeflate: { threshold: 0 } }, "websocket"],
];

for (const [name, options, transport] of ways) {
  test(name, async (t) => {
    const socket = connect({ ...options, auth: { token: "abc" } });
    const auth = once(socket, "auth");
    await once(socket, "connect");
    const engine = socket.io.engine;
    const upgraded = engine.transport.name === transport ? null : once(engine, "upgrade");

    await t.test("auth", async () => assert.deepEqual(await auth, [{ token: "abc" }]));

    await t.test("message", async () => {
      const back = once(socket, "message-back");
      socket.emit("message", 1, "zwei ✓ 三", { four: [true, null] });
      assert.deepEqual(await back, [1, "zwei ✓ 三", { four: [true, null] }]);
    });

    await t.test("acknowledgement", async () => {
      const answer = await new Promise((resolve, reject) =>
        socket.timeout(10_000).emit("message-with-ack", "a", 2, (err, ...args) => (err ? reject(err) : resolve(args))),
      );
      assert.deepEqual(answer, ["a", 2]);
    });

    await t.test("binary", async () => {
      const bytes = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 256));
      const back = once(socket, "message-back");
      socket.emit("message", bytes, { nested: Buffer.from([1]) });
      const [first, second] = await back;
      assert.deepEqual(Buffer.from(first), bytes);
      assert.deepEqual(Buffer.from(second.nested), Buffer.from([1]));
    });

    await t.test("order and completeness", async () => {
      const got = [];
      const all = new Promise((resolve) =>
        socket.on("message-back", (i) => got.push(i) === 200 && resolve()),
      );
      for (let i = 0; i < 200; i++) socket.emit("message", i);
      await all;
      socket.off("message-back");
      assert.deepEqual(got, Array.from({ length: 200 }, (_, i) => i));
    });

    await t.test("large message", async () => {
      const text = "x".repeat(900_000);
      const back = once(socket, "message-back");
      socket.emit("message", text);
      assert.deepEqual(await back, [text]);
    });

    await t.test("transport", async () => {
      await upgraded;
      assert.equal(engine.transport.name, transport);
    });

    await t.test("heartbeat", async () => {
      await once(engine, "heartbeat");
      await once(engine, "heartbeat");
      assert.equal(socket.connected, true);
    });

    await t.test("reconnect", async () => {
      const id = socket.id;
      const again = once(socket, "connect");
      engine.close(); // as if the network had failed: the manager connects again
      await again;
      assert.notEqual(socket.id, id);
      const back = once(socket, "message-back");
      socket.emit("message", "after");
      assert.deepEqual(await back, ["after"]);
    });

    await t.test("message over the limit closes the connection, and the client comes back", async () => {
      const gone = once(socket, "disconnect");
      const again = once(socket, "connect");
      socket.emit("message", "x".repeat(1_100_000));
      await gone;
      await again;
    });

    await t.test("disconnect", async () => {
      const gone = once(socket, "disconnect");
      socket.disconnect();
      assert.deepEqual((await gone)[0], "io client disconnect");
    });
  });
}

test("subprotocols: a WebSocket that agrees to none would be closed", async () => {
  const socket = connect({ transports: ["websocket"], protocols: ["v1", "v2"] });
  await once(socket, "connect");
  assert.equal(socket.io.engine.transport.ws.protocol, "v1");
});

test("custom namespace", async () => {
  const socket = connect({ auth: { a: 1 } }, "/custom");
  assert.deepEqual(await once(socket, "auth"), [{ a: 1 }]);
});

test("two namespaces on one connection", async () => {
  const main = connect({});
  await once(main, "connect");
  const custom = main.io.socket("/custom");
  await once(custom, "connect");
  custom.disconnect();
  const back = once(main, "message-back");
  main.emit("message", "still here");
  assert.deepEqual(await back, ["still here"]);
});

test("unknown namespace is refused, and not tried again", async () => {
  const socket = connect({}, "/random");
  const [error] = await once(socket, "connect_error");
  assert.equal(error.message, "Invalid namespace");
  assert.equal(socket.active, false);
});
