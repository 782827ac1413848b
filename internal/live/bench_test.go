package live

import (
	"testing"
	"time"
)

// BenchmarkFanOut measures how long the hub takes to return a batch to 1,000 cursors
// that keep up, without the writing to readers.
func BenchmarkFanOut(b *testing.B) {
	log := &memoryLog{}
	h := NewHub(log)
	cursors := make([]*Cursor, 1000)
	for i := range cursors {
		cursors[i] = h.Watch("a", 0, func() {})
		defer cursors[i].Close()
		if _, err := cursors[i].Take(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	f := h.feed("a")
	b.ReportAllocs()
	for b.Loop() {
		log.commit(h, "a", "x")
		for _, c := range cursors {
			f.mu.Lock()
			c.framed = time.Time{} // so that Ready does not wait for a frame
			f.mu.Unlock()
			if batch, _ := c.Ready(); batch == nil {
				b.Fatal("no batch")
			}
		}
	}
}
