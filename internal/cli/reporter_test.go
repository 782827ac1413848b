package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcast/buildcast"
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

// report writes the chunks to stdout through a reporter and gives what it reported.
func report(t *testing.T, chunks ...string) (*sink, string) {
	t.Helper()
	var s sink
	var passed bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t.Context(), "make", true, s.append)
		out := r.tee("stdout", &passed)
		r.started()
		for _, c := range chunks {
			if n, err := out.Write([]byte(c)); n != len(c) || err != nil {
				t.Errorf("wrote %d of %d bytes, %v", n, len(c), err)
			}
		}
		r.ended(0, "")
		if err := r.emit.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		r.stop()
		r.parts.Wait()
	})
	return &s, passed.String()
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
			s, passed := report(t, tt.chunks...)
			if want := strings.Join(tt.chunks, ""); passed != want {
				t.Errorf("passed on %q, want %q", passed, want)
			}
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
	s, passed := report(t, strings.Repeat(line+"\n", n))
	if len(passed) != n*101 {
		t.Errorf("%d bytes passed on", len(passed))
	}
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

// A pipe that is closed on our side does not lose what was written before.
func TestReporterWriteError(t *testing.T) {
	var s sink
	r := newReporter(t.Context(), "make", false, s.append)
	broken := errors.New("broken pipe")
	if _, err := r.tee("stderr", failingWriter{broken}).Write([]byte("lost\n")); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	r.stop()
	r.parts.Wait()
	if len(r.pending) != 0 {
		t.Errorf("reported what was not passed on: %v", r.pending)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
