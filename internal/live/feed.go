package live

import (
	"bytes"
	"context"
	"math"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
)

// feed is one watched build: the newest part of its log in memory, the latest batches
// that were made of it, and the cursors to wake.
type feed struct {
	hub     *Hub
	buildID string

	loading sync.Mutex // held while load asks the store; taken before mu

	mu      sync.Mutex
	cursors map[*Cursor]struct{}
	eager   int  // how many of the cursors are eager
	closed  bool // the last cursor has left; a new watch needs a new feed

	// tail is the end of the log, without gaps; its last event is the newest
	// that this process stored. Batches hold slices of it, so it is only appended to,
	// or replaced.
	tail      []buildcast.Event
	tailBytes int

	first   int64            // the first event that is kept, as far as is known
	last    int64            // the highest id that is stored, or was reported as stored
	given   int64            // the highest id that a cursor has passed
	status  buildcast.Status // the newest known, after the event LastEventID; invalid unless exists
	exists  bool             // the build exists
	loaded  bool             // the store was asked for these, and no cut by another process was noticed since
	answers int              // how often the store has answered

	recent []*Batch // the newest last
	reads  map[int64]*read

	woken time.Time   // when the cursors were last woken
	due   bool        // they are about to be woken again
	later *time.Timer // at the end of the interval; nil: at once
}

// read is one read of the store that every cursor at the same id waits for.
type read struct {
	done  chan struct{} // closed when the other fields are set
	batch *Batch        // nil: no event follows
	err   error
}

// committed takes over what an append stored. It never blocks on a reader.
func (f *feed) committed(events []buildcast.Event, status buildcast.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range events {
		e := &events[i]
		switch end := f.tailEnd(); {
		case e.ID == end+1 && len(f.tail) > 0:
			f.tail = append(f.tail, *e)
		case e.ID > end: // the first, or another process has stored the events between
			f.dropTail()
			f.tail = append(f.tail, *e)
		default: // a repeated key has returned an event that is known already
			continue
		}
		// The data may be a slice of a whole request body, which would stay in memory.
		f.tail[len(f.tail)-1].Data = bytes.Clone(e.Data)
		f.grow(eventSize(e))
	}
	f.trim()
	f.know(status)
	f.last = max(f.last, status.LastEventID)
	f.wakeEager()
	f.wakeSoon(frameInterval - time.Since(f.woken)) // even if a hint has raised f.last before
}

// reach notes that the log reaches last, or is reported to, and has the cursors that
// are behind woken.
func (f *feed) reach(last int64) {
	if last > f.last {
		f.last = last
		f.wakeEager()
		f.wakeSoon(frameInterval - time.Since(f.woken))
	}
}

// wakeEager wakes the eager cursors, with the lock held: their wakes only send a
// signal.
func (f *feed) wakeEager() {
	if f.eager == 0 {
		return
	}
	for c := range f.cursors {
		if c.eager {
			c.wake()
		}
	}
}

// wakeSoon has the cursors woken after wait, or now if wait is not positive: the first
// event of a quiet build goes out at once, and events that come within the interval
// after it travel together. The hub's workers wake the cursors, so that neither the
// log's writer nor a holder of the lock waits while thousands of sockets are written
// to.
func (f *feed) wakeSoon(wait time.Duration) {
	switch {
	case f.due || f.closed || f.eager == len(f.cursors): // a wake-up is due, or there is nobody to wake
	case wait > 0:
		f.due = true
		f.later = time.AfterFunc(wait, func() { f.hub.wakes.push(f) })
	default:
		f.due = true
		f.hub.wakes.push(f)
	}
}

// wakeAll wakes the cursors that are behind. It is called without the lock.
func (f *feed) wakeAll() {
	f.mu.Lock()
	f.due, f.later = false, nil
	behind := make([]*Cursor, 0, len(f.cursors))
	for c := range f.cursors {
		if c.after < f.last {
			behind = append(behind, c)
		}
	}
	if len(behind) > 0 {
		f.woken = time.Now()
	}
	f.mu.Unlock()
	for _, c := range behind {
		c.wake()
	}
}

// ready returns the batch after the cursor if it is in memory, and moves the
// cursor past it. Otherwise it returns nil: nothing is stored after the cursor
// yet, or the cursor must wait for its next frame or for room. If the store must
// be asked, stored is true.
func (f *feed) ready(c *Cursor) (b *Batch, stored bool) {
	c.letGo() // a reader that asks for the next batch no longer uses the last one
	if !c.begun || c.after < f.first-1 {
		return nil, true // take finds the cursor's place, or that the log no longer has it
	}
	if f.loaded && c.after >= f.last {
		return nil, false
	}
	now := time.Now()
	if wait := frameInterval - now.Sub(c.framed); wait > 0 && !c.eager {
		f.wakeSoon(wait)
		return nil, false
	}
	if b = f.shared(c.after, now); b == nil {
		if !f.inTail(c.after) {
			return nil, true
		}
		if b = f.fromTail(c); b == nil {
			f.waitForRoom(c)
			return nil, false
		}
	}
	f.give(c, b, now)
	return b, false
}

// waitForRoom has the cursor woken after a frame interval, because readers hold too
// much memory now. wakeAll wakes only cursors that are behind f.last, which may be too
// low if the feed has not asked the store yet.
func (f *feed) waitForRoom(c *Cursor) {
	f.last = max(f.last, c.after+1)
	f.wakeSoon(frameInterval)
}

// give moves the cursor past the batch, which the cursor holds until its reader asks
// for the next.
func (f *feed) give(c *Cursor, b *Batch, now time.Time) {
	b.share.hold()
	c.holds = b
	c.after = b.Last()
	f.given = max(f.given, c.after)
	if c.eager {
		return
	}
	if !b.piece { // the next piece of a frame may follow at once
		if c.framed = now; f.woken.After(now.Add(-frameInterval)) {
			c.framed = f.woken // in step with the others, to share their next batch
		}
	}
	if c.after < f.last {
		f.wakeSoon(frameInterval - now.Sub(c.framed))
	}
}

// cutsDuringARead is how many cuts of the log one call of take survives.
const cutsDuringARead = 3

// take is ready, but reads the events that are not in memory from the store, once for
// all cursors that stand at the same id.
func (f *feed) take(ctx context.Context, c *Cursor) (*Batch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range cutsDuringARead {
		if err := f.begin(ctx, c); err != nil {
			return nil, err
		}
		b, stored := f.ready(c)
		if b != nil || !stored {
			return b, nil
		}
		size := f.hub.memory.room(c.eager)
		if size == 0 {
			f.waitForRoom(c)
			return nil, nil
		}
		b, err := f.fromStore(ctx, c.after, size)
		if b != nil && b.First() == c.after+1 && c.after >= f.first-1 {
			f.give(c, b, time.Now())
			f.hub.memory.release(2 * size) // the batch itself is counted now
			return b, nil
		}
		f.hub.memory.release(2 * size)
		if err != nil || b == nil && c.after >= f.first-1 {
			return nil, err
		}
		// The log was cut meanwhile: the cursor is lost, or at the first event.
		c.begun, f.loaded = false, false
	}
	return nil, buildcast.Errorf(buildcast.Internal, "build %s: the store has later events, but not event %d", f.buildID, c.after+1)
}

// fromStore reads the batch after an id, or waits for the read of another cursor
// at the same id. The caller holds the lock, which fromStore releases and takes again.
func (f *feed) fromStore(ctx context.Context, after int64, maxBytes int) (*Batch, error) {
	if r := f.reads[after]; r != nil {
		f.mu.Unlock()
		defer f.mu.Lock()
		select {
		case <-r.done:
			return r.batch, r.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	r := &read{done: make(chan struct{})}
	f.reads[after] = r
	f.mu.Unlock()
	// Other cursors wait for this read, so it does not end with the first one's context.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	events, status, err := f.read(ctx, after, maxBytes)
	f.mu.Lock()
	delete(f.reads, after)
	switch r.err = err; {
	case err != nil:
	case len(events) > 0:
		r.batch = f.newBatch(events, status)
		r.batch.piece = maxBytes <= pieceBytes && r.batch.Last() < f.last
		f.remember(r.batch)
	default:
		// A hint was wrong, or the log has grown since the read.
		if f.last = max(f.tailEnd(), f.status.LastEventID); f.last > after {
			f.wakeSoon(frameInterval)
		}
	}
	close(r.done)
	return r.batch, r.err
}

// shared returns the batch after an id that another cursor was given, if one of these
// holds:
//
//   - The batch was made within this frame.
//   - No event follows it.
//   - It is a piece, or the tail begins within it or right after it: a read of the
//     store would return the same events.
//
// Any other batch is a small frame of some time ago. A reader that has just come would
// get many of those, one by one, instead of one large batch.
func (f *feed) shared(after int64, now time.Time) *Batch {
	begin := f.tailBegin()
	for i := len(f.recent) - 1; i >= 0; i-- {
		b := f.recent[i]
		if b.First() != after+1 {
			continue
		}
		if now.Sub(b.made) < frameInterval || b.Last() >= f.last || b.piece || b.First() < begin && b.Last()+1 >= begin {
			return b
		}
	}
	return nil
}

// inTail reports whether the tail holds the event after an id, and the status is at
// least as new as the tail.
func (f *feed) inTail(after int64) bool {
	return after+1 >= f.tailBegin() && after < f.tailEnd() && f.tailEnd() <= f.status.LastEventID
}

// fromTail makes the cursor's batch from the tail, or returns nil if the cursor must
// wait. Cursors that keep up share a large batch. A cursor that is behind shares its
// batch with nobody, so it gets pieces.
func (f *feed) fromTail(c *Cursor) *Batch {
	held, size := f.hub.memory.held.Load(), pieceBytes
	switch keepsUp := c.after >= f.given; {
	case c.eager:
		size = eagerBytes
	case keepsUp && held < heldBytes/2:
		size = batchBytes
	case held > heldBytes && !keepsUp:
		return nil
	}
	b := f.newBatch(cut(f.tail[c.after+1-f.tailBegin():], size), f.status)
	b.piece = size == pieceBytes && b.Last() < f.tailEnd()
	return f.remember(b)
}

func (f *feed) newBatch(events []buildcast.Event, status buildcast.Status) *Batch {
	b := newBatch(f.buildID, events, status)
	b.share.memory, b.share.bytes = &f.hub.memory, b.size
	return b
}

// cut returns the events of one batch, which is bounded in events and bytes.
func cut(events []buildcast.Event, maxBytes int) []buildcast.Event {
	size := 0
	for i := range events {
		if size += eventSize(&events[i]); i > 0 && (i == batchEvents || size > maxBytes) {
			return events[:i:i]
		}
	}
	return events[:len(events):len(events)]
}

// read asks the store for the events after an id, and for the status if the known one
// is older than they are.
func (f *feed) read(ctx context.Context, after int64, maxBytes int) ([]buildcast.Event, buildcast.Status, error) {
	events, err := f.hub.source.ReadEvents(ctx, f.buildID, after, min(batchEvents, maxBytes/buildcast.EventOverhead), maxBytes)
	if err != nil {
		return nil, buildcast.Status{}, err
	}
	upTo := after
	if len(events) > 0 {
		upTo = events[len(events)-1].ID
	}
	status, err := f.statusAt(ctx, upTo)
	return events, status, err
}

// statusAt returns the build's status, and asks the store if the known one is
// older than the id.
func (f *feed) statusAt(ctx context.Context, id int64) (buildcast.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.loaded || f.status.LastEventID < id {
		if err := f.load(ctx, id); err != nil {
			return f.status, err
		}
	}
	return f.status, nil
}

// tailBegin returns the id of the tail's first event; beyond all ids if there is none.
func (f *feed) tailBegin() int64 {
	if len(f.tail) == 0 {
		return math.MaxInt64
	}
	return f.tail[0].ID
}

func (f *feed) tailEnd() int64 {
	if len(f.tail) == 0 {
		return 0
	}
	return f.tail[len(f.tail)-1].ID
}

// grow counts n bytes of the tail, which may be negative, in the feed and in the hub.
func (f *feed) grow(n int) {
	f.tailBytes += n
	f.hub.memory.add(n)
}

func (f *feed) dropTail() {
	f.grow(-f.tailBytes)
	f.tail = nil
}

// trim keeps the tail within its bound. It drops the older half, and copies the newer
// one to a new slice, so that the old memory is released when no batch holds it. If
// the hub is full it drops the whole tail, and cursors read from the store.
func (f *feed) trim() {
	if f.hub.memory.tight() {
		f.dropTail()
		return
	}
	if f.tailBytes <= feedTailBytes {
		return
	}
	size, i := 0, len(f.tail)
	for i > 1 && size < feedTailBytes/2 {
		i--
		size += eventSize(&f.tail[i])
	}
	f.tail = append(make([]buildcast.Event, 0, 2*(len(f.tail)-i)), f.tail[i:]...)
	f.grow(size - f.tailBytes)
}

// remember keeps the batch for cursors that reach the same id soon. The two newest
// batches are kept whatever their size, because the cursors at the end of the log need
// them; only the newest one if the hub is full.
func (f *feed) remember(b *Batch) *Batch {
	b.share.keep()
	f.recent = append(f.recent, b)
	size, least := 0, 2
	if f.hub.memory.tight() {
		least = 1
	}
	for i := len(f.recent) - 1; i >= 0; i-- {
		size += f.recent[i].share.size()
		if kept := len(f.recent) - i; kept > least && (size > recentBytes || kept > recentBatches || least == 1) {
			f.forget(i + 1)
			break
		}
	}
	return b
}

func (f *feed) dropRecent() { f.forget(len(f.recent)) }

// forget drops the n oldest recent batches.
func (f *feed) forget(n int) {
	for _, b := range f.recent[:n] {
		b.share.forget()
	}
	f.recent = append([]*Batch(nil), f.recent[n:]...)
}
