package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/eventjson"
	"github.com/buildcast/buildcast/internal/httpapi/body"
	"github.com/buildcast/buildcast/internal/httpapi/problem"
)

// Bounds of a stream. One batch is gathered while another is being stored, so a
// stream holds at most two of them.
const (
	batchEvents = 1000
	batchBytes  = 1 << 20

	// streamIdle is how long a stream may be silent. A blank line keeps it open.
	streamIdle = 2 * time.Minute
	// appendTimeout bounds storing what has arrived. It goes on when the client leaves.
	appendTimeout = 30 * time.Second
	// maxRanges bounds the answer when other writers' events lie between the stream's.
	maxRanges = 10_000
)

// streamed is the answer to a stream.
type streamed struct {
	BuildID     string     `json:"buildId"`
	IDRanges    [][2]int64 `json:"idRanges" doc:"First and last id of each run of events without a gap, in the order sent"`
	Truncated   bool       `json:"truncated,omitempty" doc:"There were more ranges than are listed"`
	Count       int64      `json:"count" doc:"How many events were sent, and are stored"`
	LastEventID int64      `json:"lastEventId" doc:"The highest id given; the last id of the log if no events were sent"`
}

// appendStream stores a body of one event a line, of any length.
//
// One goroutine reads lines into a batch, and this one stores batches. Each time the
// store is free it takes what has been gathered: a slow stream is stored line by
// line, and a fast one in large transactions.
func (a *api) appendStream(w http.ResponseWriter, r *http.Request, id string) error {
	s := &stream{ctx: a.Stopping, body: r.Body, conn: http.NewResponseController(w)}
	s.changed.L = &s.mu
	stop := context.AfterFunc(a.Stopping, s.interrupt) //nolint:contextcheck // the server's context, not the request's
	defer stop()
	var reader sync.WaitGroup
	reader.Go(s.read)
	answer, at, err := a.storeBatches(context.WithoutCancel(r.Context()), s, id)
	if err != nil {
		s.stop()
	}
	reader.Wait()
	if err == nil {
		at, err = s.line, s.err
	}
	if err != nil {
		how := problem.Reached{Line: at, Count: &answer.Count}
		if answer.Count > 0 {
			how.LastEventID = &answer.LastEventID
		}
		return &problem.Partial{Reached: how, Err: err}
	}
	_ = s.conn.SetReadDeadline(time.Time{}) // it was the body's, not the connection's
	if answer.Count == 0 {
		found, err := a.Events.Statuses(r.Context(), []string{id})
		if err != nil {
			return err
		}
		answer.LastEventID = found[id].LastEventID
		return body.SendJSON(w, http.StatusOK, answer)
	}
	return body.SendJSON(w, http.StatusCreated, answer)
}

// storeBatches appends batch after batch until the stream ends. An error comes
// with the line of the first event that is not stored.
func (a *api) storeBatches(ctx context.Context, s *stream, id string) (answer streamed, line int, err error) {
	answer = streamed{BuildID: id, IDRanges: [][2]int64{}}
	var spare batch
	for {
		b := s.take(spare)
		if len(b.events) == 0 {
			return answer, 0, nil
		}
		stored, err := a.appendBatch(ctx, id, b.events)
		if err != nil {
			return answer, b.line, err
		}
		for i := range stored {
			answer.add(stored[i].ID)
		}
		spare = b // the log has answered: nobody holds its slice any more
	}
}

// appendBatch does not end with the request: what a client sent before its
// connection broke often says why it broke.
func (a *api) appendBatch(ctx context.Context, id string, events []buildcast.NewEvent) ([]buildcast.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	stored, err := a.Log.Append(ctx, id, 0, events...)
	return stored.Events, err
}

func (s *streamed) add(id int64) {
	s.Count++
	s.LastEventID = max(s.LastEventID, id)
	if n := len(s.IDRanges); n > 0 && s.IDRanges[n-1][1] == id-1 {
		s.IDRanges[n-1][1] = id
	} else if n < maxRanges {
		s.IDRanges = append(s.IDRanges, [2]int64{id, id})
	} else {
		s.Truncated = true
	}
}

// batch is events of one stream that are stored together.
type batch struct {
	events []buildcast.NewEvent
	bytes  int
	line   int // of the first event
}

// stream is a body being read: read fills a batch, take empties it.
type stream struct {
	ctx  context.Context // ends when the server stops
	body io.ReadCloser
	conn *http.ResponseController

	mu      sync.Mutex
	changed sync.Cond
	batch   batch
	done    bool  // nothing will be added to the batch
	line    int   // being read, from 1; settled once done
	err     error // why the stream ended; nil: it was complete
}

// read gathers lines until the stream ends or nobody takes them any more.
func (s *stream) read() {
	lines := eventjson.NewLines(deadlineReader{s})
	defer func() {
		lines.Close()
		if v := recover(); v != nil { // net/http recovers only in the handler's own goroutine
			s.finish(buildcast.Errorf(buildcast.Internal, "reading a stream panicked").Because(fmt.Errorf("%v\n%s", v, debug.Stack())))
		}
	}()
	s.finish(s.readLines(lines))
}

// finish wakes the goroutine that takes batches for the last time.
func (s *stream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done, s.err = true, err
	s.changed.Broadcast()
}

func (s *stream) readLines(lines *eventjson.Lines) error {
	for {
		event, blank, err := lines.Next()
		s.at(lines.Number())
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return s.readError(err)
		case !blank && !s.put(event, lines.Number()):
			return nil
		}
	}
}

func (s *stream) at(line int) {
	s.mu.Lock()
	s.line = line
	s.mu.Unlock()
}

// put adds an event, and waits while the batch is full. It reports whether
// there is still somebody to take it.
func (s *stream) put(e buildcast.NewEvent, line int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.done && (len(s.batch.events) >= batchEvents || s.batch.bytes >= batchBytes) {
		s.changed.Wait()
	}
	if s.done {
		return false
	}
	if len(s.batch.events) == 0 {
		s.batch.line = line
	}
	s.batch.events = append(s.batch.events, e)
	s.batch.bytes += len(e.Data) + len(e.Key)
	s.changed.Signal() // there is one other goroutine
	return true
}

// take waits for events and returns those that have come; none at the stream's end.
// The spare batch's memory gathers the next ones.
func (s *stream) take(spare batch) batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.batch.events) == 0 && !s.done {
		s.changed.Wait()
	}
	b := s.batch
	clear(spare.events) // or the last large batch's data would live as long as the stream
	s.batch = batch{events: spare.events[:0]}
	s.changed.Signal()
	return b
}

// stop ends the reading after storing has failed.
func (s *stream) stop() {
	s.mu.Lock()
	s.done = true
	s.changed.Broadcast()
	s.mu.Unlock()
	s.interrupt()
}

// interrupt ends a read that waits for input.
func (s *stream) interrupt() {
	if s.conn.SetReadDeadline(time.Now()) != nil {
		_ = s.body.Close() // a body without a network connection: tests
	}
}

// deadlineReader sets a deadline for each read of the body.
type deadlineReader struct{ s *stream }

func (d deadlineReader) Read(p []byte) (int, error) {
	_ = d.s.conn.SetReadDeadline(time.Now().Add(streamIdle))
	if d.s.stopped() {
		d.s.interrupt() // it came before the deadline was renewed
	}
	return d.s.body.Read(p)
}

func (s *stream) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done || s.ctx.Err() != nil
}

// readError is the error of a line, or of the body below it.
func (s *stream) readError(err error) error {
	if _, ok := errors.AsType[*buildcast.Error](err); ok {
		return err
	}
	if s.ctx.Err() != nil {
		return buildcast.Errorf(buildcast.StoreUnavailable, "the server is stopping: send the lines from this one on to the next one").After(time.Second).Because(err)
	}
	return body.Stopped(err)
}
