package live

import (
	"bytes"
	"context"
	"math"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
)

// feed is one watched build: the newest part of its log in memory, the batches
// made of it lately, and the cursors to wake.
type feed struct {
	hub     *Hub
	buildID string

	loading sync.Mutex // held while load asks the store; taken before mu

	mu      sync.Mutex
	cursors map[*Cursor]struct{}
	eager   int  // how many of the cursors are
	closed  bool // the last cursor has left; a new watch needs a new feed

	// tail is the end of the log, without gaps; its last event is the newest
	// that this process stored. Slices of it are handed out: it is only ever
	// appended to or replaced.
	tail      []buildcast.Event
	tailBytes int

	first   int64            // the first event that is kept, as far as is known
	last    int64            // the highest id that is stored, or is said to be
	given   int64            // the highest id that a cursor was given
	status  buildcast.Status // the newest known; LastEventID says up to where; none if exists is false
	exists  bool             // there is such a build
	loaded  bool             // all this has been asked of the store, and nobody has said that it has changed
	answers int              // how often the store was asked

	recent []*Batch // the newest last
	reads  map[int64]*read

	woken time.Time   // when the cursors were last woken
	due   bool        // they are about to be woken again
	later *time.Timer // at the end of the interval; nil: at once
}

// read is one read of the store that every cursor at the same id waits for.
type read struct {
	done  chan struct{} // closed when the rest is set
	batch *Batch        // nil: there was nothing
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
		case e.ID > end: // the first, or another process stored what lies between
			f.dropTail()
			f.tail = append(f.tail, *e)
		default: // a repeated key gave an event that is known already
			continue
		}
		// The data may be part of a whole request's memory.
		f.tail[len(f.tail)-1].Data = bytes.Clone(e.Data)
		f.grow(eventSize(e))
	}
	f.trim()
	f.know(status)
	f.last = max(f.last, status.LastEventID)
	f.wakeEager()
	f.wakeSoon(frameInterval - time.Since(f.woken)) // whatever a hint said before
}

// reach notes that the log goes up to last, or is said to, and sees to it that
// the cursors behind are woken.
func (f *feed) reach(last int64) {
	if last > f.last {
		f.last = last
		f.wakeEager()
		f.wakeSoon(frameInterval - time.Since(f.woken))
	}
}

// wakeEager wakes those that do not wait for frames. Their wakes only send a signal.
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

// wakeSoon has the cursors woken after a while, or now if wait is not positive: the
// first event of a quiet build goes out at once, and what comes within
// the interval after it travels together. The hub's workers do it: neither the
// log's writer nor a lock waits while thousands of sockets are written to.
func (f *feed) wakeSoon(wait time.Duration) {
	switch {
	case f.due || f.closed || f.eager == len(f.cursors): // they will be woken, or have been
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
	c.letGo() // whoever asks for the next batch is done with the last one
	if !c.begun || c.after < f.first-1 {
		return nil, true // take finds out where it begins, or that it is lost
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

// waitForRoom lets the cursor try again in a while: too much is under way to
// readers. The hint that there is more wakes it, even if the feed has not asked
// the store yet.
func (f *feed) waitForRoom(c *Cursor) {
	f.last = max(f.last, c.after+1)
	f.wakeSoon(frameInterval)
}

// give moves the cursor past the batch, which it holds until it asks for the next.
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

// cutsDuringARead is how often the log may be cut while a cursor reads it.
const cutsDuringARead = 3

// take is ready, and asks the store for what memory does not hold: once for all
// cursors that stand at the same id.
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
			f.hub.memory.release(2 * size) // what was reserved is held
			return b, nil
		}
		f.hub.memory.release(2 * size)
		if err != nil || b == nil && c.after >= f.first-1 {
			return nil, err
		}
		// The log was cut meanwhile: the cursor is lost, or at the first event.
		c.begun, f.loaded = false, false
	}
	return nil, buildcast.Errorf(buildcast.Internal, "build %s: the store has no event %d, but later ones", f.buildID, c.after+1)
}

// fromStore reads the batch after an id, or waits for the read of another cursor
// at the same id. It is called with the lock held, and lets go of it meanwhile.
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
	// Others wait for this read: it does not end with the first one's context.
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

// shared returns the batch after an id that another cursor was given, if it is
// still what a new batch would be:
//
//   - It was made within this frame.
//   - Nothing comes after it.
//   - It is a piece, or the tail begins within or right after it: what a read of
//     the store would return.
//
// Any other is one of the small frames of a while ago. A reader that has just come
// would get all of them, one by one.
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

// inTail reports whether the tail holds what comes after an id, and the status is
// at least as new.
func (f *feed) inTail(after int64) bool {
	return after+1 >= f.tailBegin() && after < f.tailEnd() && f.tailEnd() <= f.status.LastEventID
}

// fromTail makes the cursor's batch from the tail. Those who keep up share a large
// one. One that is behind has it for itself, so it gets pieces; nil if it must wait.
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

// cut bounds a batch.
func cut(events []buildcast.Event, maxBytes int) []buildcast.Event {
	size := 0
	for i := range events {
		if size += eventSize(&events[i]); i > 0 && (i == batchEvents || size > maxBytes) {
			return events[:i:i]
		}
	}
	return events[:len(events):len(events)]
}

// read asks the store for the events after an id, and for the status where the
// known one is older than they are.
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

// tailBegin is the id of the tail's first event; beyond all ids if there is none.
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

// grow counts bytes of the tail, here and in the whole hub.
func (f *feed) grow(n int) {
	f.tailBytes += n
	f.hub.memory.add(n)
}

func (f *feed) dropTail() {
	f.grow(-f.tailBytes)
	f.tail = nil
}

// trim keeps the tail within its bound: the older half goes, in a new slice, so
// that what was handed out stays as it is and the old memory is let go. If the hub
// is full there is no tail: the store is read.
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

// remember shares the batch with cursors that come to the same id shortly. The
// two newest are kept whatever their size, unless the hub is full: those at the
// end of the log need them.
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

// forget lets go of the n oldest recent batches.
func (f *feed) forget(n int) {
	for _, b := range f.recent[:n] {
		b.share.forget()
	}
	f.recent = append([]*Batch(nil), f.recent[n:]...)
}
