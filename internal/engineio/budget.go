package engineio

import "sync/atomic"

// allowance is how many bytes of each session do not count. It is enough for the
// messages of honest clients, so they are served even if other clients have used up
// the budget.
const allowance = 2 << 10

// budget bounds the bytes that all sessions hold together.
type budget struct {
	limit int64
	used  atomic.Int64
}

// Hold counts n bytes that are held for the session: those of a message that
// arrives in parts, or that waits to be sent. It returns false, and counts nothing,
// if all sessions together would hold more than Config.MaxBuffered. The caller
// follows each successful Hold with a Release of the same number of bytes, before or
// after the session is closed.
func (s *Session) Hold(n int) bool {
	b := &s.server.budget
	if s.count(n) <= 0 || b.used.Load() <= b.limit {
		return true
	}
	s.count(-n)
	return false
}

// Release is called when n bytes that were counted by Hold are no longer held.
func (s *Session) Release(n int) { s.count(-n) }

// count adds n, which may be negative, and returns the change of the bytes that
// count against the budget.
func (s *Session) count(n int) (charged int64) {
	after := s.holds.Add(int64(n))
	before := after - int64(n)
	charged = max(after, allowance) - max(before, allowance)
	if charged != 0 {
		s.server.budget.used.Add(charged)
	}
	return charged
}

// Buffered returns how many bytes all sessions hold together, without their
// allowances.
func (s *Server) Buffered() int64 { return s.budget.used.Load() }
