// Package engineio is an Engine.IO v4 server: sessions with one client each,
// over HTTP long-polling or WebSocket, with upgrade and heartbeat.
//
// The write side is pulled, not pushed. A session has no queue: when its
// transport can take a frame (a GET is pending, or the socket took the last
// frame whole) it asks its [Conn] for the next one. Whoever has something for a
// client calls [Session.Wake], which is a hint and may be given too often. A
// client that does not read is simply not asked for: it holds at most the one
// frame that its socket took in part, and that frame is shared with all others
// who get it. So memory follows from the number of sessions, not from traffic.
//
// Wake runs on its caller's goroutine and does not wait for clients: a write is
// tried without blocking, and only what the socket did not take is finished by
// a goroutine of its own. An idle WebSocket session costs one goroutine with the
// smallest stack and no timer: one goroutine, [Server.Run], does the heartbeats of all.
//
// The layers, from the wire up: packet.go and frame.go (the encoding),
// websocket.go and polling.go (the transports), session.go (which of them is in
// use, and what may be sent and received), server.go (HTTP).
package engineio
