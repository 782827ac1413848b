package cli

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/cli/outputs"
)

// sink keeps what is appended.
type sink struct {
	mu     sync.Mutex
	events []buildcast.NewEvent
	err    error
}

func (s *sink) append(_ context.Context, events []buildcast.NewEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.events = append(s.events, events...)
	}
	return s.err
}

// lines are the reported output lines by stream, and how many were left out.
func (s *sink) lines(t *testing.T) (lines map[string][]string, dropped int) {
	t.Helper()
	lines = map[string][]string{}
	for _, e := range s.events {
		var d struct {
			Stream  string
			Lines   []string
			Dropped int
		}
		if e.Type != buildcast.BuildLog {
			continue
		}
		if err := json.Unmarshal(e.Data, &d); err != nil {
			t.Fatal(err)
		}
		lines[d.Stream] = append(lines[d.Stream], d.Lines...)
		dropped += d.Dropped
	}
	return lines, dropped
}

// report reports a command that writes the chunks to stdout.
func report(t *testing.T, chunks ...string) *sink {
	t.Helper()
	var s sink
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t.Context(), "make", true, s.append)
		r.started()
		for _, c := range chunks {
			r.record(outputs.Stdout, []byte(c))
		}
		r.ended(0, "")
		if err := r.emit.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		r.stop()
		r.parts.Wait()
	})
	return &s
}

func TestReporterLines(t *testing.T) {
	tests := []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"whole lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"in pieces", []string{"a", "b\nc", "", "d"}, []string{"ab", "cd"}},
		{"empty lines and CRLF", []string{"\r\n\nx\r\n"}, []string{"", "", "x"}},
		{"no text", []string{"\xff\x00\n"}, []string{"\uFFFD\uFFFD"}},
		{"a long line", []string{strings.Repeat("x", maxLogLine+10) + "\nend\n"}, []string{strings.Repeat("x", maxLogLine), "end"}},
		{"nothing", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := report(t, tt.chunks...)
			lines, dropped := s.lines(t)
			if diff := cmp.Diff(tt.want, lines["stdout"]); diff != "" || dropped != 0 {
				t.Errorf("%d dropped, lines (-want +got):\n%s", dropped, diff)
			}
			var types []string
			for _, e := range s.events {
				if e.Type != buildcast.BuildLog {
					types = append(types, e.Type)
				}
			}
			if want := []string{"plan_generated", "task_started", "task_completed", "build_completed"}; !cmp.Equal(types, want) {
				t.Errorf("events %q", types)
			}
		})
	}
}

// A flood is bounded in memory and in each event; what is left out is counted.
func TestReporterFlood(t *testing.T) {
	const n = 20_000
	line := strings.Repeat("<", 100) // JSON could make six bytes of each
	s := report(t, strings.Repeat(line+"\n", n))
	lines, dropped := s.lines(t)
	if got := len(lines["stdout"]); got+dropped != n || got != maxPending/100 {
		t.Errorf("%d lines reported and %d left out of %d", got, dropped, n)
	}
	for _, e := range s.events {
		if len(e.Data) > buildcast.MaxEventData {
			t.Errorf("an event of %d bytes", len(e.Data))
		}
	}
}

// Lines of both streams travel in one event, in the order in which they came.
func TestReporterKeepsTheOrderOfStreams(t *testing.T) {
	var s sink
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t.Context(), "make", false, s.append)
		for i, text := range []string{"out 1\nha", "err 1\n", "lf\n", "err 2\n"} {
			r.record(outputs.Stream(i%2), []byte(text))
		}
		r.ended(0, "")
		if err := r.emit.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		r.stop()
		r.parts.Wait()
	})
	want := `{"lines":["out 1","err 1","half","err 2"],"streams":["stdout","stderr","stdout","stderr"],"taskName":"make"}`
	if len(s.events) == 0 || string(s.events[0].Data) != want {
		t.Errorf("events %s\nwant %s", s.events, want)
	}
}

// What JSON makes longest still fits into events.
func TestReporterEventsFit(t *testing.T) {
	s := report(t, strings.Repeat(strings.Repeat("\x01", 1000)+"\n", 100))
	for _, e := range s.events {
		if err := e.Validate(); err != nil {
			t.Errorf("an event of %d bytes: %v", len(e.Data), err)
		}
	}
	all, dropped := s.lines(t)
	if lines := len(all["stdout"]); lines != 100 || dropped != 0 {
		t.Errorf("%d lines, %d left out", lines, dropped)
	}
}
