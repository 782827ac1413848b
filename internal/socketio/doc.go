// Package socketio is a Socket.IO v5 server over internal/engineio: namespaces,
// events with acknowledgements, binary attachments. It knows nothing of builds.
//
// A socket has two kinds of outgoing packets. Answers to the client
// (acknowledgements, errors, [Socket.Emit]) wait in a short, bounded queue; if it
// overflows, the client is closed. Packets for many clients come from a [Source],
// which is called for one frame at a time, when the client can take it: there is no
// queue and no copy, and the Source of a slow client is called less often. [NewFrame]
// encodes a frame once, and all sockets share it.
//
// Handlers of one client run one after the other; those of different clients run
// at the same time.
package socketio
