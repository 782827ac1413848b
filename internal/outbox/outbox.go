// Package outbox is the one buffer between those who report events and the log:
// in memory, ordered, bounded, and emptied by one sender.
//
// Emitting never waits, and never fails because the log cannot be reached: events
// queue, in the order in which they were emitted, until the log takes them. While one
// append is under way the next batch gathers, so an idle outbox sends at once and a
// busy one sends full batches, without a timer. The queue is bounded in events and
// bytes; beyond a bound Emit returns an error.
//
// An attempt whose answer was lost is repeated. Each event has a key, so the log
// stores it once however often it is sent.
//
// The package knows neither HTTP nor the log: an [Append] stands for either.
package outbox

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
	"github.com/buildcast/buildcast/internal/backoff"
)

// ErrClosed is the error of an outbox that was closed, or whose Run has ended.
var ErrClosed = errors.New("the emitter is closed")

// Append stores the events in order, all or none, and returns when they are
// stored; an event whose key is stored already counts as stored. Append may keep
// the slice. What the outbox does after an error depends on its code:
//
//   - A temporary code (see buildcast.Code.Temporary): it sends the same events
//     again later, however often.
//   - InvalidArgument, TooLarge: one of the events is at fault. It sends fewer events
//     each time until it has found that one, leaves it out and counts it.
//   - Internal, a defect of the log: it sends the events a few more times. Then it
//     treats the defect as a refusal of one of them.
//   - Any other code: no event will ever be stored. The outbox stops.
//
// An attempt that ends with its context counts as Unreachable.
type Append func(ctx context.Context, events []buildcast.NewEvent) error

// Options bound an outbox. The zero value has the defaults.
type Options struct {
	MaxEvents   int           // that wait, beyond which Emit refuses; default 10,000
	MaxBytes    int           // that wait, beyond which Emit refuses; default 16 MiB
	BatchEvents int           // of one append; default 500
	BatchBytes  int           // of one append, or one event that is larger; default 1 MiB
	Timeout     time.Duration // of one attempt; default 30s
	MinBackoff  time.Duration // after the first failed attempt; doubles with each further one; default 100ms
	MaxBackoff  time.Duration // between two attempts; default 5s; a longer Retry-After is honoured, up to a minute
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

// Outbox queues events and appends them. All methods may be called from many
// goroutines; events emitted by one goroutine keep their order.
type Outbox struct {
	append  Append
	options Options
	prefix  string        // of the keys that it makes
	work    chan struct{} // capacity 1: an event waits

	mu       sync.Mutex
	queue    []buildcast.NewEvent // not settled yet, in order
	bytes    int                  // of the queue
	accepted int64                // events taken so far
	settled  int64                // of those: stored, or left out because the log refused them
	dropped  int64
	moved    chan struct{} // closed and replaced when settled or ended changes
	failure  error         // of the last attempt; nil after a success
	refusal  error         // why it takes no more events; nil while it takes them
	ended    error         // why it sends no more events; nil until Run has ended
}

// New makes an outbox in front of append. Events may be emitted before Run is called;
// they are sent while it runs.
func New(append Append, o Options) *Outbox {
	return &Outbox{
		append:  append,
		options: o.withDefaults(),
		prefix:  rand.Text() + ".",
		work:    make(chan struct{}, 1),
		moved:   make(chan struct{}),
	}
}

// Emit queues the event. An event without a key gets one, and an event without a
// timestamp gets the present time. The event's data must not be changed afterwards.
// Emit returns at once. If it returns an error, it has queued nothing:
// InvalidArgument or TooLarge if the event is invalid, Overloaded if the queue is
// full, ErrClosed or the error of Run if the outbox has stopped.
func (o *Outbox) Emit(ev buildcast.NewEvent) error { return o.enqueue(ev, false) }

// Keep is Emit for the events that must not be lost and of which there are few, such
// as those of a build's life-cycle: a full queue takes them too.
func (o *Outbox) Keep(ev buildcast.NewEvent) error { return o.enqueue(ev, true) }

func (o *Outbox) enqueue(ev buildcast.NewEvent, evenIfFull bool) error {
	if err := ev.Validate(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refusal != nil {
		return o.refusal
	}
	if full := len(o.queue) >= o.options.MaxEvents || o.bytes+size(&ev) > o.options.MaxBytes; full && !evenIfFull {
		o.dropped++
		return buildcast.Errorf(buildcast.Overloaded, "%d events of %d bytes wait already, the limits are %d and %d: emit less, or wait with Flush",
			len(o.queue), o.bytes, o.options.MaxEvents, o.options.MaxBytes)
	}
	o.accepted++
	if ev.Timestamp.IsZero() {
		ev.Timestamp = buildcast.Now() // under the lock: times stand in the order of the queue
	}
	if ev.Key == "" {
		ev.Key = o.prefix + strconv.FormatInt(o.accepted, 36)
	}
	o.queue = append(o.queue, ev)
	o.bytes += size(&ev)
	select {
	case o.work <- struct{}{}:
	default: // the sender has a wake-up waiting already
	}
	return nil
}

// size is about what the event takes in memory and on the wire, in bytes.
func size(ev *buildcast.NewEvent) int { return len(ev.Data) + buildcast.EventOverhead }

// Flush waits until every event emitted before the call is stored, or was left
// out because the log refused it (see Dropped). If ctx ends first, the error
// says how many are left and why the last attempt failed.
func (o *Outbox) Flush(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for target := o.accepted; o.settled < target; {
		left := target - o.settled
		switch {
		case o.ended != nil:
			return fmt.Errorf("%d events are not stored: %w", left, o.ended)
		case ctx.Err() != nil && o.failure != nil:
			return fmt.Errorf("%d events are not stored yet: %w; the last attempt failed: %w", left, context.Cause(ctx), o.failure)
		case ctx.Err() != nil:
			return fmt.Errorf("%d events are not stored yet: %w", left, context.Cause(ctx))
		}
		moved := o.moved
		o.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		o.mu.Lock()
	}
	return nil
}

// Dropped returns how many events were refused because the queue was full, or left
// out because the log refused them.
func (o *Outbox) Dropped() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dropped
}

// Close makes Emit and Keep return ErrClosed. Events that were emitted before are
// still sent: to stop without a loss, call Close, then Flush, then end Run.
func (o *Outbox) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refusal == nil {
		o.refusal = ErrClosed
	}
}

// Run sends the events, one batch at a time. It is called once. It returns nil when
// ctx ends, and the events that still wait are not sent (call Flush before); or it
// returns the error that stopped the outbox. Afterwards Emit returns that error, or
// ErrClosed.
func (o *Outbox) Run(ctx context.Context) error {
	err := o.send(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended = err; err == nil {
		o.ended = ErrClosed
	}
	o.refusal = o.ended
	o.announce()
	return err
}

func (o *Outbox) send(ctx context.Context) error {
	retry := backoff.Backoff{Min: o.options.MinBackoff, Max: o.options.MaxBackoff}
	limit := o.options.BatchEvents
	var defects defects
	for ctx.Err() == nil {
		batch := o.batch(limit)
		if len(batch) == 0 {
			select {
			case <-o.work:
			case <-ctx.Done():
			}
			continue
		}
		err := o.attempt(ctx, batch)
		switch {
		case err == nil:
			o.settle(len(batch), 0)
			o.recovered(&retry)
			defects.tries = 0
			if limit = min(2*limit, o.options.BatchEvents); limit == o.options.BatchEvents {
				defects.looking = false
			}
		case ctx.Err() != nil:
		case buildcast.Temporary(err) || defects.again(err, len(batch)):
			if retry.Failures() == 0 { // once for consecutive failures
				o.options.Logger.Warn("events wait: the log does not take them", "error", err)
			}
			o.setFailure(err)
			retry.Wait(ctx, err)
		case refused(err) && len(batch) > 1:
			limit = len(batch) / 2
		case refused(err):
			o.options.Logger.Warn("the log refused an event; it is left out", "type", batch[0].Type, "key", batch[0].Key, "error", err)
			o.settle(1, 1)
			o.recovered(&retry)
			defects.tries = 0
		default:
			return err
		}
	}
	return nil
}

// maxDefects is how often the same events are sent, in all, if the log answers
// Internal each time.
const maxDefects = 5

// defects counts answers of Internal, and decides when to look for the event that
// causes them.
type defects struct {
	tries   int  // of the same events
	looking bool // for the culprit, among fewer events each time
}

// again reports whether the same events are sent again after the error. While the
// outbox looks for the culprit, it repeats only events that are alone, because the
// next refusal leaves them out.
func (d *defects) again(err error, events int) bool {
	if buildcast.CodeOf(err) != buildcast.Internal {
		return false
	}
	if d.tries++; d.tries < maxDefects && (!d.looking || events == 1) {
		return true
	}
	d.tries, d.looking = 0, true
	return false
}

// refused reports whether one of the events is at fault.
func refused(err error) bool {
	c := buildcast.CodeOf(err)
	return c == buildcast.InvalidArgument || c == buildcast.TooLarge || c == buildcast.Internal
}

// batch copies the front of the queue. Each attempt gets a copy of its own, because
// the log may still read, or keep, the events of an attempt that timed out.
func (o *Outbox) batch(limit int) []buildcast.NewEvent {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, bytes := 0, 0
	for n < len(o.queue) && n < limit {
		if bytes += size(&o.queue[n]); bytes > o.options.BatchBytes && n > 0 {
			break
		}
		n++
	}
	return slices.Clone(o.queue[:n])
}

func (o *Outbox) attempt(ctx context.Context, batch []buildcast.NewEvent) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.options.Timeout, fmt.Errorf("the log did not answer within %v", o.options.Timeout))
	defer cancel()
	err := o.append(ctx, batch)
	if _, ok := errors.AsType[*buildcast.Error](err); err != nil && !ok && ctx.Err() != nil {
		return buildcast.Errorf(buildcast.Unreachable, "the events may be stored or not").Because(context.Cause(ctx))
	}
	return err
}

// settle removes the first n events, of which leftOut were left out.
func (o *Outbox) settle(n, leftOut int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range n {
		o.bytes -= size(&o.queue[i])
	}
	clear(o.queue[:n]) // the array lives on: release the data
	o.queue = o.queue[n:]
	o.settled += int64(n)
	o.dropped += int64(leftOut)
	o.failure = nil
	o.announce()
}

// recovered ends consecutive failures, if there were any.
func (o *Outbox) recovered(b *backoff.Backoff) {
	if b.Failures() > 0 {
		o.options.Logger.Info("events reach the log again")
		b.Reset()
	}
}

// setFailure keeps the error for Flush.
func (o *Outbox) setFailure(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failure = err
}

// announce wakes the callers that wait in Flush. The caller holds mu.
func (o *Outbox) announce() {
	close(o.moved)
	o.moved = make(chan struct{})
}
