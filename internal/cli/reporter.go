package cli

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/client"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/outbox"
)

// Bounds of what exec reports.
const (
	logEvery   = 100 * time.Millisecond // lines of this time travel in one event
	maxLogLine = 4 << 10                // bytes of one line
	maxLogSize = 32 << 10               // bytes of one event's lines
	maxPending = 256 << 10              // bytes that wait for the next event; more is counted and left out
	// flushTime is how long unsent events are awaited after the command's end, and
	// absentTime where no server was found at all.
	flushTime  = 3 * time.Second
	absentTime = 500 * time.Millisecond
)

// reporter turns a command's life into events, behind the command's back:
// nothing here waits for the server before the command has ended.
type reporter struct {
	task string
	own  bool // the build is the command's own
	emit *outbox.Outbox
	at   time.Time // when the command started

	stop  context.CancelFunc
	parts sync.WaitGroup

	mu      sync.Mutex
	pending []logLine
	bytes   int
	dropped int // lines left out since the last event
	streams []*teeWriter
}

type logLine struct{ stream, text string }

// newReporter starts a reporter; finish ends it. own: the build is the command's own.
func newReporter(ctx context.Context, task string, own bool, send outbox.Append) *reporter {
	r := &reporter{task: task, own: own, at: time.Now()}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.emit = outbox.New(send, outbox.Options{Logger: slog.New(slog.DiscardHandler), Timeout: 10 * time.Second})
	r.parts.Go(func() { _ = r.emit.Run(ctx) }) // Flush gives its error
	r.parts.Go(func() { r.pump(ctx) })
	return r
}

// sender appends to the build. It looks for the server with the first event, not
// before the command; found is set when there is one.
func (c *execCmd) sender(id string, found *atomic.Bool) outbox.Append {
	var to *client.Client
	return func(ctx context.Context, events []buildcast.NewEvent) error {
		if to == nil {
			server, _, err := c.Find(ctx)
			if buildcast.CodeOf(err) == buildcast.NotFound {
				// One may be started while the command runs.
				return buildcast.Errorf(buildcast.Unreachable, "no server is found").Because(err)
			}
			if err != nil {
				return err
			}
			found.Store(true)
			if c.Project != "" {
				if _, err := server.CreateBuild(ctx, client.CreateBuild{ID: id, Project: c.Project}); err != nil {
					return err
				}
			}
			to = server
		}
		_, err := to.Append(ctx, id, events...)
		return err
	}
}

func (r *reporter) started() {
	if r.own {
		r.keep(buildcast.PlanGenerated, map[string]any{"taskCount": 1})
	}
	r.keep(buildcast.TaskStarted, map[string]any{"taskName": r.task})
}

func (r *reporter) ended(code int, why string) {
	r.drain(true)
	data := map[string]any{"taskName": r.task, "exitCode": code, "durationMs": time.Since(r.at).Milliseconds()}
	if code != 0 {
		data["error"], data["willRetry"] = why, false
		r.keep(buildcast.TaskFailed, data)
		return
	}
	r.keep(buildcast.TaskCompleted, data)
	if r.own {
		r.keep(buildcast.BuildCompleted, map[string]any{})
	}
}

func (r *reporter) keep(typ string, data map[string]any) {
	_ = r.emit.Keep(buildcast.NewEvent{Type: typ, Data: encode(data)}) // finish tells what was not stored
}

func encode(data map[string]any) json.RawMessage {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(data) != nil {
		return nil
	}
	return json.RawMessage(strings.TrimSpace(b.String()))
}

// finish waits a little for what is unsent, and says once what could not be sent.
func (r *reporter) finish(s *verb.Session, found bool) {
	patience := absentTime
	if found {
		patience = flushTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context), patience)
	defer cancel()
	err := r.emit.Flush(ctx)
	r.stop()
	r.parts.Wait()
	switch {
	case err != nil && !found:
		s.Note("buildcast: the command was not reported: no server answered")
	case err != nil:
		s.Note("buildcast: the command was not reported in full: %v", err)
	case r.emit.Dropped() > 0:
		s.Note("buildcast: %d events of the command were left out: there were too many", r.emit.Dropped())
	}
}

// tee passes output on, and keeps its lines for the next event.
func (r *reporter) tee(stream string, to io.Writer) io.Writer {
	t := &teeWriter{reporter: r, stream: stream, to: to}
	r.streams = append(r.streams, t)
	return t
}

// teeWriter belongs to the goroutine that copies one stream; rest is the reporter's.
type teeWriter struct {
	reporter *reporter
	stream   string
	to       io.Writer
	rest     string // a line that has no end yet
}

func (t *teeWriter) Write(b []byte) (int, error) {
	n, err := t.to.Write(b)
	r := t.reporter
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, rest := splitLines(t.rest + string(b[:n]))
	for _, line := range lines {
		r.add(t.stream, line)
	}
	if len(rest) > maxLogLine { // a line without an end goes in pieces
		r.add(t.stream, rest)
		rest = ""
	}
	t.rest = rest
	return n, err
}

// add keeps a line; the caller holds mu.
func (r *reporter) add(stream, line string) {
	line = strings.ToValidUTF8(line[:min(len(line), maxLogLine)], "\uFFFD")
	line = strings.ReplaceAll(line, "\x00", "\uFFFD") // no store keeps zero bytes
	if r.bytes+len(line) > maxPending {
		r.dropped++
		return
	}
	r.pending = append(r.pending, logLine{stream, line})
	r.bytes += len(line)
}

// pump emits what waits, now and then.
func (r *reporter) pump(ctx context.Context) {
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.drain(false)
		case <-ctx.Done():
			return
		}
	}
}

// drain emits the lines that wait; at the end also those that have no end.
func (r *reporter) drain(end bool) {
	r.mu.Lock()
	defer r.mu.Unlock() // also while emitting, which never waits: it keeps the order
	if end {
		for _, t := range r.streams {
			if t.rest != "" {
				r.add(t.stream, t.rest)
				t.rest = ""
			}
		}
	}
	for len(r.pending) > 0 || r.dropped > 0 {
		r.emitLog()
	}
}

// emitLog emits one event with lines of one stream; the caller holds mu.
func (r *reporter) emitLog() {
	var lines []string
	stream, size := "stdout", 0
	if len(r.pending) > 0 {
		stream = r.pending[0].stream
	}
	for _, l := range r.pending {
		if l.stream != stream || size+len(l.text) > maxLogSize && size > 0 {
			break
		}
		lines = append(lines, l.text)
		size += len(l.text)
	}
	r.pending = r.pending[len(lines):]
	r.bytes -= size
	data := map[string]any{"taskName": r.task, "stream": stream, "lines": lines}
	if r.dropped > 0 && len(r.pending) == 0 {
		data["dropped"] = r.dropped
		r.dropped = 0
	}
	_ = r.emit.Emit(buildcast.NewEvent{Type: buildcast.BuildLog, Data: encode(data)}) // counted by Dropped
}
