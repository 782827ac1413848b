// Package client speaks to a buildcast server.
//
//	c, err := client.New("http://127.0.0.1:8080")
//
// Three ways to report events, by what the caller can afford:
//
//   - [Client.Emitter] for work that must not wait for its reporting: events
//     queue in memory, in order, and are sent behind the caller's back with
//     retries. This is the usual one.
//   - [Client.Append] for one answered request.
//   - [Client.AppendStream] for NDJSON that exists already.
//
// One way to watch: [Client.Follow] returns each event of a build once and in
// order until the build is over, through lost connections and restarts of the
// server.
//
// Errors are *buildcast.Error: branch on [buildcast.CodeOf] and
// [buildcast.Temporary]. Unreachable means that the server was not reached or its
// answer did not arrive: the call may have been carried out or not. If ctx ends a
// call, the error is its cause. A Client may be used from many goroutines. The
// calls try once, Emitter and Follow try again.
package client
