package cleanup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/buildcast/buildcast"
)

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"7d": 7 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "36h": 36 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := ParseAge(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "d", "-1d", "+1d", "0d", "0s", "-5m", "1.5d", "7 d", "99999999d", "7D"} {
		if got, err := ParseAge(text); buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

func FuzzParseAge(f *testing.F) {
	for _, s := range []string{"7d", "2w", "1h", "-1d", "99999999999999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseAge(text); err == nil && d <= 0 {
			t.Errorf("%q is %v", text, d)
		}
	})
}

func TestOnlyBranchesOfBuilds(t *testing.T) {
	for _, branch := range []string{"", "build-*", "build-01*", "build-?", "build-x"} {
		if err := (Request{Branch: branch}).Check(); err != nil {
			t.Errorf("%q: %v", branch, err)
		}
	}
	for _, branch := range []string{"*", "main", "bui*", "?uild-*", "build-[", "[b]uild-*"} {
		if err := (Request{Branch: branch}).Check(); buildcast.CodeOf(err) != buildcast.InvalidArgument {
			t.Errorf("%q: %v", branch, err)
		}
	}
	if r := (Request{}); !r.Matches("build-1") || r.Matches("main") || r.Matches("my-build-1") || !r.Every() {
		t.Error("all builds' branches are others")
	}
}

// A part that fails does not keep the others from cleaning.
func TestOnePartFails(t *testing.T) {
	clean := func(n int, err error) func(context.Context, Request, func(int, int)) (Removed, error) {
		return func(_ context.Context, _ Request, progress func(int, int)) (Removed, error) {
			progress(n, n)
			return Removed{Count: n}, err
		}
	}
	s := New(Part{"one", clean(1, errors.New("/secret/path"))}, Part{"two", clean(2, buildcast.Errorf(buildcast.Unreachable, "it is away"))}, Part{"three", clean(3, nil)})
	removed, texts := map[string]int{}, ""
	err := s.Clean(t.Context(), Request{}, func(l Line) {
		if texts += l.Error; l.Removed != nil {
			removed[l.Part] = l.Removed.Count
		}
	})
	if err == nil || removed["one"] != 1 || removed["two"] != 2 || removed["three"] != 3 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if strings.Contains(texts, "secret") || !strings.Contains(texts, "it is away") {
		t.Errorf("told %q", texts)
	}
}

func TestOneAtATime(t *testing.T) {
	var s *Service
	s = New(Part{"one", func(ctx context.Context, _ Request, _ func(int, int)) (Removed, error) {
		return Removed{}, s.Clean(ctx, Request{}, func(Line) {})
	}})
	if err := s.Clean(t.Context(), Request{}, func(Line) {}); buildcast.CodeOf(err) != buildcast.Conflict {
		t.Errorf("a second clean-up: %v", err)
	}
	if !s.busy.TryLock() {
		t.Error("the service stays busy")
	}
}
