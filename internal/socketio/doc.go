// Package socketio is a Socket.IO v5 server over internal/engineio: namespaces,
// events with acknowledgements, binary attachments. It knows nothing of builds.
//
// A socket sends what comes from two places. Answers to what the client did
// (acknowledgements, errors, [Socket.Emit]) wait in a short, bounded queue; a
// client that lets it overflow is closed. What goes to many clients comes from a
// [Source], which is asked for one frame at a time, when the client can take it:
// there is no queue and no copy, and a slow client asks later. Frames are made
// once, by [NewFrame], and shared.
//
// Handlers of one client run one after the other; those of different clients run
// at the same time.
package socketio
