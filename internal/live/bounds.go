package live

import (
	"context"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/store"
)

// Beginning is where a cursor begins, and the state of its build at that time.
type Beginning struct {
	After        int64
	FirstEventID int64             // of the events that are kept; LastEventID+1 if there are none
	LastEventID  int64             // of the log
	Status       *buildcast.Status // nil: the build does not exist, or not yet
}

// begin finds the cursor's place in the log, unless it has one. The watch is
// registered before, so no event is missed between this and the first read. The
// error is a *buildcast.CursorError if the log does not have the place, or no longer
// has it. The caller holds the lock, which begin may release and take again.
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

// end returns the highest id that is certainly in the log.
func (f *feed) end() int64 { return max(f.status.LastEventID, f.tailEnd(), f.first-1) }

// load asks the store for the status, and if the build does not exist, for the bounds
// of its log. Concurrent callers share the first caller's answer if it reaches the id
// that they need. The caller holds the lock, which load releases and takes again.
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

// know stores the status, unless it is older than the known one or than the last cut
// of the log.
func (f *feed) know(status buildcast.Status) {
	status.FirstEventID = max(status.FirstEventID, 1)
	if status.FirstEventID < f.first || status.LastEventID < f.status.LastEventID {
		return
	}
	f.cut(status.FirstEventID, false)
	f.status, f.exists = status, true
}

// cut drops the events before first, which the log no longer keeps, and wakes the
// cursors that stand before them: they learn of the cut from the next read. Cursors
// at the end of a deleted log stay. They continue with the first event of the next
// build under its id.
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

// bounded takes over the bounds that the backstop has read.
func (f *feed) bounded(b store.Bounds) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.First > f.first { // by another process
		f.cut(b.First, b.First > b.Last)
		f.loaded = false
	}
	f.reach(b.Last)
}
