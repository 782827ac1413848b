package cli

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/outputs"
	"github.com/buildcast/buildcast/internal/cli/verb"
	"github.com/buildcast/buildcast/internal/outbox"
)

// Bounds of what exec reports.
const (
	logEvery   = 100 * time.Millisecond // lines of this time travel in one event
	maxLogLine = 4 << 10                // bytes of one line
	maxLogSize = 48 << 10               // bytes of one event's lines as JSON, less than buildcast.MaxEventData
	maxPending = 256 << 10              // bytes that wait for the next event; lines beyond it are counted and dropped
	// flushTime bounds the wait for unsent events after the command's end, absentTime
	// the same if no server was found.
	flushTime  = 3 * time.Second
	absentTime = 500 * time.Millisecond
)

// reporter turns a command's life into events. Nothing here waits for the server
// before the command has ended.
type reporter struct {
	task string
	own  bool // whether the build is the command's own
	emit *outbox.Outbox
	at   time.Time // when the command started

	stop  context.CancelFunc
	parts sync.WaitGroup

	mu      sync.Mutex
	pending []logLine
	bytes   int
	dropped int       // lines dropped since the last event
	rest    [2]string // of each stream, the line that has no end yet
}

type logLine struct {
	stream outputs.Stream
	text   string
}

// newReporter starts a reporter, which finish ends. own means that the build is the
// command's own.
func newReporter(ctx context.Context, task string, own bool, send outbox.Append) *reporter {
	r := &reporter{task: task, own: own, at: time.Now()}
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.emit = outbox.New(send, outbox.Options{Logger: slog.New(slog.DiscardHandler), Timeout: 10 * time.Second})
	r.parts.Go(func() { _ = r.emit.Run(ctx) }) // Flush returns its error
	r.parts.Go(func() { r.pump(ctx) })
	return r
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
	_ = r.emit.Keep(buildcast.NewEvent{Type: typ, Data: encode(data)}) // finish reports what was not stored
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

// finish waits a little for what is unsent, and notes what could not be sent.
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
		s.Note("buildcast: the command was not reported: no server answers")
	case err != nil:
		s.Note("buildcast: the command was not reported in full: %v", err)
	case r.emit.Dropped() > 0:
		s.Note("buildcast: %d events of the command were dropped: there were too many", r.emit.Dropped())
	}
}

// record adds the lines of a piece of output to those that wait for the next event.
func (r *reporter) record(s outputs.Stream, piece []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, rest := splitLines(r.rest[s] + string(piece))
	for _, line := range lines {
		r.add(s, line)
	}
	if len(rest) > maxLogLine { // a line without an end is reported in pieces
		r.add(s, rest)
		rest = ""
	}
	r.rest[s] = rest
}

// splitLines returns the lines of text that have an end, and the rest.
func splitLines(text string) (lines []string, rest string) {
	for {
		line, after, ok := strings.Cut(text, "\n")
		if !ok {
			return lines, text
		}
		lines = append(lines, strings.TrimSuffix(line, "\r"))
		text = after
	}
}

// add adds a line to those that wait; the caller holds mu.
func (r *reporter) add(stream outputs.Stream, line string) {
	line = strings.ToValidUTF8(line[:min(len(line), maxLogLine)], "\uFFFD")
	line = strings.ReplaceAll(line, "\x00", "\uFFFD") // stores refuse zero bytes
	if r.bytes+len(line) > maxPending {
		r.dropped++
		return
	}
	r.pending = append(r.pending, logLine{stream, line})
	r.bytes += len(line)
}

// pump emits the lines that wait, every logEvery.
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

// drain emits the lines that wait; at the command's end also an unfinished last line.
func (r *reporter) drain(end bool) {
	r.mu.Lock()
	defer r.mu.Unlock() // held while emitting too, which keeps the order; emitting never waits
	if end {
		for i, rest := range r.rest {
			if rest != "" {
				r.add(outputs.Stream(i), rest)
				r.rest[i] = ""
			}
		}
	}
	for len(r.pending) > 0 || r.dropped > 0 {
		r.emitLog()
	}
}

// encodedSize is the most that a line takes in an event, in bytes: JSON writes
// control characters with six, and the line's stream stands beside it.
func encodedSize(line string) int {
	n := len(line) + len(`"","stderr",`)
	for _, r := range line {
		switch {
		case r < ' ' || r == '\u2028' || r == '\u2029':
			n += 5
		case r == '"' || r == '\\':
			n++
		}
	}
	return n
}

// emitLog emits one event with the lines that come first; the caller holds mu. An
// event of one stream names it once, another one names the stream of each line.
func (r *reporter) emitLog() {
	var lines, streams []string
	size, mixed := 0, false
	for _, l := range r.pending {
		if size += encodedSize(l.text); size > maxLogSize && len(lines) > 0 {
			break
		}
		lines, streams = append(lines, l.text), append(streams, l.stream.String())
		r.bytes -= len(l.text)
		mixed = mixed || streams[0] != l.stream.String()
	}
	r.pending = r.pending[len(lines):]
	data := map[string]any{"taskName": r.task, "lines": lines}
	switch {
	case mixed:
		data["streams"] = streams
	case len(lines) > 0:
		data["stream"] = streams[0]
	}
	if r.dropped > 0 && len(r.pending) == 0 {
		data["dropped"] = r.dropped
		r.dropped = 0
	}
	_ = r.emit.Emit(buildcast.NewEvent{Type: buildcast.BuildLog, Data: encode(data)}) // counted by Dropped
}
