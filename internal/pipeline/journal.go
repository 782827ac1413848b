package pipeline

import (
	"log/slog"
	"sync"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/outbox"
)

// journal reports a run's events to the build's log. It does not repeat an event
// that this run or an earlier one has reported. Its methods never block, and may be
// called from many goroutines.
type journal struct {
	emitter *outbox.Outbox
	log     *slog.Logger

	mu       sync.Mutex
	reported map[string]bool
	dropped  int  // lines of output that did not fit since the last that did
	ended    bool // the last event was reported
	tapes    map[source]*tape
}

// tape has the output of a step, as it was reported.
type tape [][]string

func newJournal(e *outbox.Outbox, reported map[string]bool, log *slog.Logger) *journal {
	return &journal{emitter: e, reported: reported, log: log, tapes: map[source]*tape{}}
}

// report reports a step of the build.
func (j *journal) report(typ string, data any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keep(typ, data)
}

// end reports the last step.
func (j *journal) end(typ string, data any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dropped > 0 {
		j.keep(buildcast.BuildLog, buildLog{Lines: []string{}, Dropped: j.dropped})
	}
	j.keep(typ, data)
	j.ended = true
}

// output reports a command's output. If the store has been unreachable for so long
// that the output no longer fits, it is left out and counted.
func (j *journal) output(from source, lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.tapes[from]; t != nil {
		*t = append(*t, lines)
	}
	j.print(buildLog{source: from, Lines: lines})
}

// replay reports what the command of another build has printed.
func (j *journal) replay(from source, t tape) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, lines := range t {
		j.print(buildLog{source: from, Lines: lines, Cached: true})
	}
}

// record returns a function that returns what the step prints from now on. A command's
// output is bounded, and so is the tape.
func (j *journal) record(from source) (stop func() tape) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := new(tape)
	j.tapes[from] = t
	return func() tape {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.tapes[from] == t {
			delete(j.tapes, from)
		}
		return *t
	}
}

// print emits output. The caller holds mu.
func (j *journal) print(log buildLog) {
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
func (j *journal) keep(typ string, data any) {
	if j.ended {
		return
	}
	b, err := encode(data)
	key := keyOf(typ, b)
	if key != "" && j.reported[key] {
		return
	}
	if err == nil {
		err = j.emitter.Keep(buildcast.NewEvent{Type: typ, Data: b, Key: eventKey(key)})
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
func (j *journal) complain(typ string, err error) {
	if c := buildcast.CodeOf(err); c == buildcast.InvalidArgument || c == buildcast.TooLarge {
		j.log.Error("an event of the build is not valid", "type", typ, "error", err)
	}
}
