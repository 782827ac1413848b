package report

import (
	"context"
	"log/slog"
	"sync"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/outbox"
)

// Journal reports a run's events to the build's log. It does not repeat an event
// that this run or an earlier one has reported. Its methods never block, and may be
// called from many goroutines.
type Journal struct {
	emitter *outbox.Outbox
	log     *slog.Logger

	mu       sync.Mutex
	reported map[string]bool // keys
	dropped  int             // lines of output that did not fit since the last that did
	ended    bool            // the last event was reported
	tapes    map[Source]*Tape
}

// Tape has the output of a step, as it was reported.
type Tape [][]string

// NewJournal returns a journal of a run that continues after past. The caller runs the
// emitter.
func NewJournal(e *outbox.Outbox, past *History, log *slog.Logger) *Journal {
	return &Journal{emitter: e, reported: past.reported, log: log, tapes: map[Source]*Tape{}}
}

// Flush waits until the log has stored what was reported, or ctx ends.
func (j *Journal) Flush(ctx context.Context) error { return j.emitter.Flush(ctx) }

// Report reports a step of the build.
func (j *Journal) Report(typ string, data any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keep(typ, data)
}

// End reports the last step.
func (j *Journal) End(typ string, data any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dropped > 0 {
		j.keep(buildcast.BuildLog, BuildLog{Lines: []string{}, Dropped: j.dropped})
	}
	j.keep(typ, data)
	j.ended = true
}

// Output reports a command's output. If the store has been unreachable for so long
// that the output no longer fits, it is left out and counted.
func (j *Journal) Output(from Source, lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.tapes[from]; t != nil {
		*t = append(*t, lines)
	}
	j.print(BuildLog{Source: from, Lines: lines})
}

// Replay reports what the command of another build has printed.
func (j *Journal) Replay(from Source, t Tape) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, lines := range t {
		j.print(BuildLog{Source: from, Lines: lines, Cached: true})
	}
}

// Record returns a function that returns what the step prints from now on. A command's
// Output is bounded, and so is the tape.
func (j *Journal) Record(from Source) (stop func() Tape) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := new(Tape)
	j.tapes[from] = t
	return func() Tape {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.tapes[from] == t {
			delete(j.tapes, from)
		}
		return *t
	}
}

// print emits output. The caller holds mu.
func (j *Journal) print(log BuildLog) {
	if j.ended {
		return
	}
	log.Dropped = j.dropped
	data, err := encode(log)
	if err == nil {
		err = j.emitter.Emit(buildcast.NewEvent{Type: buildcast.BuildLog, Data: data})
	}
	switch {
	case err == nil:
		j.dropped = 0
	case buildcast.CodeOf(err) == buildcast.Overloaded:
		j.dropped += len(log.Lines)
	default:
		j.complain(buildcast.BuildLog, err)
	}
}

// keep emits the event however many others wait. The caller holds mu.
func (j *Journal) keep(typ string, data any) {
	if j.ended {
		return
	}
	event, err := Event(typ, data)
	key := event.Key
	if key != "" && j.reported[key] {
		return
	}
	if err == nil {
		err = j.emitter.Keep(event)
	}
	if err != nil {
		j.complain(typ, err)
		return
	}
	if key != "" {
		j.reported[key] = true
	}
}

// complain reports an event that cannot be emitted: a defect, unless the
// emitter has ended, as it does when the lease is lost.
func (j *Journal) complain(typ string, err error) {
	if c := buildcast.CodeOf(err); c == buildcast.InvalidArgument || c == buildcast.TooLarge {
		j.log.Error("an event of the build is not valid", "type", typ, "error", err)
	}
}
