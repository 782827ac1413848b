package live

import (
	"sync"
	"sync/atomic"

	"github.com/buildcast/buildcast"
)

// Bounds of the hub's memory, including what is on its way to readers.
const (
	// hubBytes bounds all feeds' tails and batches with their encodings, and all
	// answers under way. Beyond it recent batches go first, then tails.
	hubBytes = 44 << 20

	// heldBytes bounds the part of it that readers hold: batches that are being
	// written to them, and pages of polls. Beyond it a reader that is behind waits.
	heldBytes = 32 << 20

	// roomyBytes is how much readers may hold together before a reader that is behind
	// gets only small batches. So 400 readers that are stuck leave room for others.
	roomyBytes = heldBytes / 8
)

// memory counts the bytes that feeds keep and readers hold.
type memory struct {
	used atomic.Int64  // all of it
	held atomic.Int64  // the part that readers hold
	full chan struct{} // capacity 1: used has passed hubBytes
}

// add counts n bytes more, or fewer if n is negative.
func (m *memory) add(n int) {
	if m.used.Add(int64(n)) > hubBytes && n > 0 {
		select {
		case m.full <- struct{}{}:
		default:
		}
	}
}

func (m *memory) tight() bool { return m.used.Load() > hubBytes }

// reserve counts n bytes as held, unless readers would then hold more than most.
func (m *memory) reserve(n int, most int64) bool {
	for {
		held := m.held.Load()
		if held+int64(n) > most {
			return false
		}
		if m.held.CompareAndSwap(held, held+int64(n)) {
			m.add(n)
			return true
		}
	}
}

func (m *memory) release(n int) {
	m.held.Add(int64(-n))
	m.add(-n)
}

// room reserves memory for a batch, with its events and one encoding, and returns
// how many bytes of events the batch may have; 0: the reader must wait. Eager readers
// never wait: there are few.
func (m *memory) room(eager bool) int {
	most, least := batchBytes, pieceBytes
	if eager {
		most = eagerBytes
	}
	switch {
	case m.reserve(2*most, roomyBytes):
		return most
	case m.reserve(2*least, heldBytes):
		return least
	case eager:
		m.held.Add(int64(2 * least))
		m.add(2 * least)
		return least
	}
	return 0
}

// share counts a batch's memory while a feed keeps the batch for other cursors, or a
// reader holds it.
type share struct {
	memory *memory // nil: not counted

	mu      sync.Mutex
	bytes   int
	kept    bool
	readers int
}

// grow adds an encoding. An encoding that is made after the last reader has released
// the batch is not counted: it is garbage.
func (s *share) grow(n int) { s.change(func() { s.bytes += n }) }

func (s *share) keep()   { s.change(func() { s.kept = true }) }
func (s *share) forget() { s.change(func() { s.kept = false }) }
func (s *share) hold()   { s.change(func() { s.readers++ }) }
func (s *share) letGo()  { s.change(func() { s.readers-- }) }

func (s *share) change(do func()) {
	if s.memory == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	used, held := s.counted()
	do()
	usedNow, heldNow := s.counted()
	s.memory.held.Add(int64(heldNow - held))
	s.memory.add(usedNow - used)
}

// counted returns how many bytes count as used and as held. The caller holds mu.
func (s *share) counted() (used, held int) {
	if s.readers > 0 {
		return s.bytes, s.bytes
	}
	if s.kept {
		return s.bytes, 0
	}
	return 0, 0
}

func (s *share) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Reserve counts n bytes of an answer that the hub has not made, such as a page of a
// poll. Call Release with the same n when the answer was sent. The error is Overloaded
// if the answers under way hold too much already: do not call Release then.
func (h *Hub) Reserve(n int) error {
	if h.memory.reserve(n, heldBytes) {
		return nil
	}
	return buildcast.Errorf(buildcast.Overloaded, "answers of %d MiB are being sent already: try again shortly", heldBytes>>20).After(overloadPause)
}

// Release undoes a Reserve.
func (h *Hub) Release(n int) { h.memory.release(n) }

// relieve drops recent batches, then tails, until the hub is three quarters full. Both
// can be read again. What readers hold stays.
func (h *Hub) relieve() {
	for _, drop := range []func(*feed){(*feed).dropRecent, (*feed).dropTail} {
		for _, id := range h.watched() {
			if h.memory.used.Load() <= hubBytes*3/4 {
				return
			}
			if f := h.feed(id); f != nil {
				f.mu.Lock()
				drop(f)
				f.mu.Unlock()
			}
		}
	}
}
