package server

import (
	"time"

	"github.com/buildcast/buildcast/internal/engineio"
	"github.com/buildcast/buildcast/internal/socketio"
)

// Limits of sockets. A request of a client is some 100 bytes, none has an
// attachment, and an answer is a build's status.
const (
	socketPayload    = 16 << 10         // bytes of a message or of a POST
	socketQueue      = 256 << 10        // bytes of answers that wait for one client
	socketsBuffer    = 64 << 20         // bytes that all clients together may have buffered
	socketJoin       = 10 * time.Second // from the handshake to the CONNECT, which the stock client sends at once
	maxSockets       = 20_000           // clients that have joined
	maxJoining       = 10_000           // clients that have not joined, beside them
	maxJoiningOfHost = 5_000            // as many as come back at once behind one proxy
)

// socketConfig returns the settings of /socket.io/.
func (s *Server) socketConfig() socketio.Config {
	return socketio.Config{
		Config: engineio.Config{
			Origins: s.config.AllowOrigins, Credentials: s.config.AllowCredentials, CheckOrigin: s.checkOrigin,
			MaxPayload: socketPayload, MaxBuffered: socketsBuffer,
			MaxSessions: maxSockets, MaxPending: maxJoining, MaxPendingPerHost: maxJoiningOfHost,
			Logger: s.logger,
		},
		ConnectTimeout: socketJoin,
		QueueBytes:     socketQueue,
	}
}
