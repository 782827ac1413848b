package live

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Beginning is where a cursor begins, and where its build stands then.
type Beginning struct {
	After        int64
	FirstEventID int64             // of the events that are kept; LastEventID+1 if none is
	LastEventID  int64             // of the log
	Status       *buildcast.Status // nil: there is no such build, or none yet
}

// begin finds the cursor's place in the log, unless it has one. The watch is
// registered already, so no event is missed between this and the first read. The
// error is a *buildcast.CursorError if the place does not exist, or no longer. It
// is called with the lock held, and may let go of it meanwhile.
func (f *feed) begin(ctx context.Context, c *Cursor) error {
	if c.begun && c.after >= f.first-1 {
		return nil
	}
	start := c.start
	if c.begun {
		start = buildcast.Start{After: c.after}
	}
	// Another process may have appended, cut or deleted since the store was asked.
	if !f.loaded || start.Latest || start.Tail > 0 || start.After > f.end() {
		if err := f.load(ctx, start.After); err != nil {
			return err
		}
	}
	after, err := start.Within(f.first, f.end())
	if err != nil {
		return err
	}
	c.begun, c.after, c.start = true, after, buildcast.Start{After: after}
	return nil
}

// end is the log's last id, as far as it is known for sure.
func (f *feed) end() int64 { return max(f.status.LastEventID, f.tailEnd(), f.first-1) }

// load asks the store for the status, and for the bounds of the log if there is
// no such build. Those who come at the same time and need no more than up to an
// id find the answer of the first. It is called with the lock held, and lets go of
// it meanwhile.
func (f *feed) load(ctx context.Context, id int64) error {
	asked := f.answers
	f.mu.Unlock()
	defer f.mu.Lock()
	f.loading.Lock()
	defer f.loading.Unlock()
	f.mu.Lock()
	done := f.loaded && f.answers > asked && f.end() >= id
	f.mu.Unlock()
	if done {
		return nil
	}
	statuses, err := f.hub.source.Statuses(ctx, []string{f.buildID})
	if err != nil {
		return err
	}
	status, exists := statuses[f.buildID]
	bounds := map[string]store.Bounds{}
	if !exists {
		if bounds, err = f.hub.source.Bounds(ctx, []string{f.buildID}); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded = true
	f.answers++
	if exists {
		f.know(status)
		f.reach(f.status.LastEventID)
	} else if b, ok := bounds[f.buildID]; ok {
		f.cut(b.First, b.First > b.Last)
		f.reach(b.Last)
	}
	return nil
}

// know takes over a status, unless it is older than the known one, or from before
// the log was cut.
func (f *feed) know(status buildcast.Status) {
	status.FirstEventID = max(status.FirstEventID, 1)
	if status.FirstEventID < f.first || status.LastEventID < f.status.LastEventID {
		return
	}
	f.cut(status.FirstEventID, false)
	f.status, f.exists = status, true
}

// cut follows when the log begins later than it did: no reader is given what is no
// longer kept, and cursors before the cut are woken to learn it. Cursors at the
// end of a deleted log stay: they go on with the first event of the next build of
// that id.
func (f *feed) cut(first int64, deleted bool) {
	if deleted && f.status.LastEventID < first {
		f.status, f.exists = buildcast.Status{}, false
	}
	if first <= f.first {
		return
	}
	f.first, f.last = first, max(f.last, first-1)
	f.status.FirstEventID = first
	f.dropRecent()
	if f.tailBegin() < first {
		f.dropTail()
	}
	f.wakeEager()
	f.wakeSoon(frameInterval - time.Since(f.woken))
}

// bounded takes over what the backstop has found.
func (f *feed) bounded(b store.Bounds) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.First > f.first { // by another process
		f.cut(b.First, b.First > b.Last)
		f.loaded = false
	}
	f.reach(b.Last)
}
