package client

import (
	"context"
	"sync"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/outbox"
)

// ErrClosed is the error of a closed Emitter.
var ErrClosed = outbox.ErrClosed

// EmitterOptions bound what an Emitter keeps in memory while the server is
// away. The zero value has the defaults.
type EmitterOptions struct {
	MaxEvents int // that wait, beyond which Emit refuses; default 10,000
	MaxBytes  int // of them, likewise; default 16 MiB
}

// Emitter reports one build's events behind the caller's back: emitting never
// waits and never fails because the server is away. Events are sent in batches,
// in the order they were emitted, again and again until the server has stored
// them, each once. Nothing is lost in silence: what does not fit is refused, and
// counted by Dropped; what is unsent at the end is an error of Close.
//
// It may be used from many goroutines. Close it.
type Emitter struct {
	queue *outbox.Outbox
	stop  context.CancelFunc
	ended sync.WaitGroup
}

// Emitter starts an emitter for the build. An unknown build id starts an
// external build with the first event. InvalidArgument for the id.
func (c *Client) Emitter(buildID string, o EmitterOptions) (*Emitter, error) {
	if err := buildcast.ValidateBuildID(buildID); err != nil {
		return nil, err
	}
	send := func(ctx context.Context, events []buildcast.NewEvent) error {
		_, err := c.Append(ctx, buildID, events...)
		return err
	}
	e := &Emitter{queue: outbox.New(send, outbox.Options{MaxEvents: o.MaxEvents, MaxBytes: o.MaxBytes, Logger: c.logger})}
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.ended.Go(func() { _ = e.queue.Run(ctx) }) // Emit, Flush and Close give its error
	return e, nil
}

// Emit queues the event and returns. It sets a key if the event has none, and the
// present time if it has no timestamp; its data must not be changed
// afterwards. Errors, with nothing queued: InvalidArgument and TooLarge for the
// event; Overloaded where the queue is full; ErrClosed; or why the server takes
// no more events of this build, such as Unauthenticated.
func (e *Emitter) Emit(ev buildcast.NewEvent) error { return e.queue.Emit(ev) }

// Keep is Emit for the few events that must not be lost, such as a build's
// first and last: a full queue takes them too. The caller bounds them.
func (e *Emitter) Keep(ev buildcast.NewEvent) error { return e.queue.Keep(ev) }

// Flush waits until what was emitted before the call is stored. Where ctx ends
// first, the error says how many events are not, and why.
func (e *Emitter) Flush(ctx context.Context) error { return e.queue.Flush(ctx) }

// Dropped is how many events were refused because the queue was full, or by the
// server for what they are.
func (e *Emitter) Dropped() int64 { return e.queue.Dropped() }

// Close takes no more events, flushes as long as ctx allows, and ends the
// emitter. The error says how many events were not sent, and why. It may be
// called again.
func (e *Emitter) Close(ctx context.Context) error {
	e.queue.Close()
	err := e.Flush(ctx)
	e.stop()
	e.ended.Wait()
	return err
}
