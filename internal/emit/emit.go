// Package emit is the one buffer between those who report events and the log:
// in memory, ordered, bounded, and emptied by one sender.
//
// Emitting never waits and never fails because the log is away: events queue,
// in the order they were emitted, until the log takes them. While one append is
// under way the next batch gathers, so an idle emitter sends at once and a busy
// one sends full batches, without a timer. What queues is bounded in events and
// bytes; beyond the bound Emit refuses, and says so.
//
// An attempt whose answer was lost is made again. Each event has a key, so the
// log stores it once however often it is sent.
//
// The package knows neither HTTP nor the log: both are an [Append].
package emit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
)

// ErrClosed is what an emitter gives that was closed, or whose Run has ended.
var ErrClosed = errors.New("the emitter is closed")

// Append stores the events in order, all or none, and answers when they are
// stored; an event whose key is stored already counts as stored. The slice is
// its own to keep. How its errors are taken:
//
//   - InvalidArgument, TooLarge: one of the events is at fault. It is looked for
//     by sending fewer at once, left out and counted; the others go on.
//   - what [Temporary] reports: the same events are sent again later.
//   - any other: nothing will ever be stored. The emitter stops.
type Append func(ctx context.Context, events []buildcast.NewEvent) error

// Options bound an emitter. The zero value has the defaults.
type Options struct {
	MaxEvents   int           // that wait, beyond which Emit refuses; default 10,000
	MaxBytes    int           // that wait, likewise; default 16 MiB
	BatchEvents int           // of one append; default 500
	BatchBytes  int           // of one append, or one event that is larger; default 1 MiB
	Timeout     time.Duration // of one attempt; default 30s
	MinBackoff  time.Duration // after the first failed attempt; doubles with each further one; default 100ms
	MaxBackoff  time.Duration // default 5s; a longer Retry-After is honoured, up to a minute
	Logger      *slog.Logger  // default: slog.Default()
}

func (o Options) withDefaults() Options {
	setDefault(&o.MaxEvents, 10_000)
	setDefault(&o.MaxBytes, 16<<20)
	setDefault(&o.BatchEvents, 500)
	setDefault(&o.BatchBytes, 1<<20)
	setDefault(&o.Timeout, 30*time.Second)
	setDefault(&o.MinBackoff, 100*time.Millisecond)
	setDefault(&o.MaxBackoff, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func setDefault[T int | time.Duration](field *T, def T) {
	if *field <= 0 {
		*field = def
	}
}

// Emitter queues events and appends them. All methods may be called from many
// goroutines; events emitted by one goroutine keep their order.
type Emitter struct {
	append Append
	o      Options
	prefix string        // of the keys that it makes
	work   chan struct{} // capacity 1: something waits

	mu       sync.Mutex
	queue    []buildcast.NewEvent // not settled yet, in order
	bytes    int                  // of the queue
	accepted int64                // events taken so far
	settled  int64                // of those: stored, or left out because the log refused them
	dropped  int64
	moved    chan struct{} // closed, and made anew, when settled or ended changes
	failure  error         // of the last attempt; nil after a success
	refusal  error         // why it takes no more; nil while it does
	ended    error         // why it sends no more; nil while it may
}

// New makes an emitter in front of append. Events may be emitted at once; they
// are sent while Run runs.
func New(append Append, o Options) *Emitter {
	return &Emitter{
		append: append,
		o:      o.withDefaults(),
		prefix: rand.Text() + ".",
		work:   make(chan struct{}, 1),
		moved:  make(chan struct{}),
	}
}

// Emit queues the event. It gives the event a key where it has none, and the
// present time where it has no timestamp. The event's data must not be changed
// afterwards. Errors, all at once and with nothing queued: InvalidArgument and
// TooLarge for the event, Overloaded where the queue is full, and why the
// emitter has stopped.
func (e *Emitter) Emit(ev buildcast.NewEvent) error { return e.enqueue(ev, false) }

// Keep is Emit for the few events that must not be lost and that the caller
// itself bounds, such as a build's life-cycle: a full queue takes them too.
func (e *Emitter) Keep(ev buildcast.NewEvent) error { return e.enqueue(ev, true) }

func (e *Emitter) enqueue(ev buildcast.NewEvent, evenIfFull bool) error {
	if err := ev.Validate(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refusal != nil {
		return e.refusal
	}
	if full := len(e.queue) >= e.o.MaxEvents || e.bytes+size(&ev) > e.o.MaxBytes; full && !evenIfFull {
		e.dropped++
		return buildcast.Errorf(buildcast.Overloaded, "%d events of %d bytes wait already, the limits are %d and %d: emit less, or wait with Flush",
			len(e.queue), e.bytes, e.o.MaxEvents, e.o.MaxBytes)
	}
	e.accepted++
	if ev.Timestamp.IsZero() {
		ev.Timestamp = buildcast.Now() // under the lock: times stand in the order of the queue
	}
	if ev.Key == "" {
		ev.Key = e.prefix + strconv.FormatInt(e.accepted, 36)
	}
	e.queue = append(e.queue, ev)
	e.bytes += size(&ev)
	select {
	case e.work <- struct{}{}:
	default: // the sender has a wake-up waiting already
	}
	return nil
}

// overhead is a flat rate for an event's type, key and timestamp, in bytes.
const overhead = 200

// size is about what the event takes in memory and on the wire, in bytes.
func size(ev *buildcast.NewEvent) int { return len(ev.Data) + overhead }

// Flush waits until every event emitted before the call is stored, or was left
// out because the log refused it (see Dropped). Where ctx ends first, the error
// says how many are left and why the last attempt failed.
func (e *Emitter) Flush(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for target := e.accepted; e.settled < target; {
		left := target - e.settled
		switch {
		case e.ended != nil:
			return fmt.Errorf("%d events are not stored: %w", left, e.ended)
		case ctx.Err() != nil && e.failure != nil:
			return fmt.Errorf("%d events are not stored yet: %w; the last attempt failed: %w", left, context.Cause(ctx), e.failure)
		case ctx.Err() != nil:
			return fmt.Errorf("%d events are not stored yet: %w", left, context.Cause(ctx))
		}
		moved := e.moved
		e.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		e.mu.Lock()
	}
	return nil
}

// Dropped is how many events were refused because the queue was full, or left
// out because the log refused them.
func (e *Emitter) Dropped() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dropped
}

// Close makes Emit and Keep give ErrClosed. What was emitted before is still
// sent: Close, then Flush, then end Run is the way to stop without a loss.
func (e *Emitter) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refusal == nil {
		e.refusal = ErrClosed
	}
}

// Run sends what is emitted, one batch at a time. It is called once. It returns
// nil when ctx ends, with what waits unsent (call Flush before), or the error
// that stopped the emitter. Emit then gives that error, or ErrClosed.
func (e *Emitter) Run(ctx context.Context) error {
	err := e.send(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended = err; err == nil {
		e.ended = ErrClosed
	}
	e.refusal = e.ended
	e.announce()
	return err
}

func (e *Emitter) send(ctx context.Context) error {
	backoff := Backoff{Min: e.o.MinBackoff, Max: e.o.MaxBackoff}
	limit := e.o.BatchEvents
	for ctx.Err() == nil {
		batch := e.batch(limit)
		if len(batch) == 0 {
			select {
			case <-e.work:
			case <-ctx.Done():
			}
			continue
		}
		err := e.attempt(ctx, batch)
		switch {
		case err == nil:
			e.settle(len(batch), 0)
			e.recovered(&backoff)
			limit = min(2*limit, e.o.BatchEvents)
		case ctx.Err() != nil:
		case refused(err) && len(batch) > 1:
			limit = len(batch) / 2
		case refused(err):
			e.o.Logger.Warn("the log refused an event; it is left out", "type", batch[0].Type, "key", batch[0].Key, "error", err)
			e.settle(1, 1)
			e.recovered(&backoff)
		case Temporary(err):
			if backoff.Failures() == 0 { // once in a row of failures
				e.o.Logger.Warn("events wait: the log cannot be reached", "error", err)
			}
			e.setFailure(err)
			backoff.Wait(ctx, err)
		default:
			return err
		}
	}
	return nil
}

// batch copies the front of the queue. A copy for each attempt, because an
// attempt that timed out may still be read by the log.
func (e *Emitter) batch(limit int) []buildcast.NewEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, bytes := 0, 0
	for n < len(e.queue) && n < limit {
		if bytes += size(&e.queue[n]); bytes > e.o.BatchBytes && n > 0 {
			break
		}
		n++
	}
	return slices.Clone(e.queue[:n])
}

func (e *Emitter) attempt(ctx context.Context, batch []buildcast.NewEvent) error {
	ctx, cancel := context.WithTimeoutCause(ctx, e.o.Timeout, fmt.Errorf("the log did not answer within %v", e.o.Timeout))
	defer cancel()
	return e.append(ctx, batch)
}

// settle removes the first n events; so many of them were left out.
func (e *Emitter) settle(n, leftOut int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range n {
		e.bytes -= size(&e.queue[i])
	}
	clear(e.queue[:n]) // the array lives on: let go of the data
	e.queue = e.queue[n:]
	e.settled += int64(n)
	e.dropped += int64(leftOut)
	e.failure = nil
	e.announce()
}

// recovered ends a row of failures.
func (e *Emitter) recovered(b *Backoff) {
	if b.Failures() > 0 {
		e.o.Logger.Info("events reach the log again")
		b.Reset()
	}
}

// setFailure keeps the error for Flush.
func (e *Emitter) setFailure(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failure = err
}

// announce wakes those who wait in Flush. The caller holds mu.
func (e *Emitter) announce() {
	close(e.moved)
	e.moved = make(chan struct{})
}
