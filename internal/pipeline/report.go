package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/emit"
	"github.com/buildcast/buildcast/internal/pipeline/command"
)

// data is an event's data.
type data map[string]any

// reporter says what a build does. It never waits: internal/emit does.
type reporter struct {
	out     *emit.Emitter
	dropped atomic.Int64 // output lines that did not fit while the store was away
}

// say reports a step of the build. The key is made of what it says, so that a
// build that is taken up again says it once.
func (r *reporter) say(key, typ string, d data) {
	r.keep(buildcast.NewEvent{Type: typ, Key: key, Data: encode(d)})
}

// lines reports output. What the emitter has no room for is counted and told
// with the next lines that fit.
func (r *reporter) lines(of data, lines []string) {
	d := data{"lines": lines}
	for k, v := range of {
		d[k] = v
	}
	dropped := r.dropped.Load()
	if dropped > 0 {
		d["dropped"] = dropped
	}
	if err := r.out.Emit(buildcast.NewEvent{Type: buildcast.BuildLog, Data: encode(d)}); err != nil {
		r.dropped.Add(int64(len(lines)))
		return
	}
	r.dropped.Add(-dropped)
}

// keep emits what must not be lost. An emitter that has stopped was fenced: the
// build is another's.
func (r *reporter) keep(e buildcast.NewEvent) { _ = r.out.Keep(e) }

// encode makes JSON of d: strings and numbers only, so it cannot fail.
func encode(d data) json.RawMessage {
	b, err := json.Marshal(d)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return b
}

// explain puts into d why something failed, for people: never a cause that may
// hold the server's own paths.
func explain(d data, err error) data {
	var failed *command.Failure
	var known *buildcast.Error
	switch {
	case errors.As(err, &failed):
		d["error"], d["output"] = failed.Reason, failed.Tail
		if failed.ExitCode != nil {
			d["exitCode"] = *failed.ExitCode
		}
	case errors.As(err, &known):
		d["error"] = known.Message
	default:
		d["error"] = err.Error()
	}
	if what, ok := d["taskName"]; ok {
		d["message"] = fmt.Sprintf("%v: %v", what, d["error"])
	}
	return d
}
