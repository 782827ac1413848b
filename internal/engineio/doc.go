// Package engineio is an Engine.IO v4 server: sessions with one client each,
// over HTTP long-polling or WebSocket, with upgrade and heartbeat.
//
// The write side is pulled, not pushed. A session has no queue: when its
// transport can take a frame (a GET is pending, or the socket took the last
// frame whole) it asks its [Conn] for the next one. The Conn calls [Session.Wake]
// when it may have a frame; Wake is a hint and may be called too often. The Conn of
// a client that does not read is not asked: such a client holds at most the frame
// that its socket took in part, and shares that frame with all its receivers. So
// memory depends on the number of sessions, not on traffic.
//
// Wake runs on its caller's goroutine and does not wait for clients: a write is
// tried without blocking, and a goroutine of its own writes what the socket did
// not take. An idle WebSocket session costs one goroutine with the smallest stack
// and no timer: one goroutine, [Server.Run], does the heartbeats of all sessions.
//
// These are bounded:
//   - the open sessions, and the pending ones among them, of each host and in all
//     (package limit),
//   - the bytes of a message,
//   - the bytes that all sessions together hold (budget.go), and
//   - the bytes that are kept of a handshake.
//
// The layers, from the wire up: packet.go and frame.go (the encoding),
// websocket.go and polling.go (the transports), session.go (which of them is in
// use, and what may be sent and received), server.go (HTTP).
package engineio
